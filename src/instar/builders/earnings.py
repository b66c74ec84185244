"""What each member of a panel has earned, and who is asked next: a bandit on improvement per unit of cost.

A proposal earns the share of its parent's headroom that it closed at the top rung, beyond one standard error, as the
conductor measured it (visible history: promotions are too rare to steer by, and sealed); a proposal that never
reached the top, or failed, earned nothing. It costs the CPU seconds of its trials, and money at a price.

Thompson sampling (Thompson 1933; Chapelle and Li 2011) over the rate earned / cost, on what is recent: a proposal
counts less with every generation since, for what was easy to improve is not any more (Garivier and Moulines 2008,
arXiv:0805.3415). Who falls below the floor comes first, so that nobody is written off for good.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from instar.builders.lessons import LEAST_HEADROOM
from instar.contracts.records import Floats, Observation, TrialState

WINDOW = 256
"""Proposals remembered."""

FADING = 0.7
"""What a proposal still counts after one more generation."""

PRIOR = 2.0
"""A member is first believed to be like all, as firmly as after so many proposals."""


@dataclass(frozen=True)
class ProposalAccount:
    """One proposal: whose it was, and what has come of it.

    Attributes:
        gains: trial -> share of the headroom closed at its rung, less one standard error.
        costs: trial -> CPU seconds, with the money that the proposal cost under trial 0.
        done: whether any trial of it has ended.
    """

    member: str
    parent: int
    gains: Mapping[int, tuple[int, float]] = field(default_factory=dict)  # trial -> rung, share
    costs: Mapping[int, float] = field(default_factory=dict)
    done: bool = False

    def earned(self, top: int) -> float:
        """Return the mean over the trials at the top rung, at least 0."""
        shares = [share for rung, share in self.gains.values() if rung >= top]
        return max(0.0, sum(shares) / len(shares)) if shares else 0.0


@dataclass(frozen=True)
class Standing:
    """What a member has earned, of what counts: proposals, mean earning and mean cost, with the prior in both."""

    proposals: float
    rate: float
    deviation: float


class Earnings:
    """The accounts of a panel's proposals.

    Args:
        members: their names.
        usd: CPU seconds that one USD is worth.
        floor: least share of the proposals that each member gets.
    """

    def __init__(self, members: Sequence[str], usd: float, floor: float) -> None:
        self._members, self._usd, self._floor = tuple(members), usd, floor
        self._accounts: OrderedDict[int, ProposalAccount] = OrderedDict()
        self._empty = 0  # proposals that came to nothing have negative numbers
        self._forgotten = 0  # up to this number, accounts have left the window

    def open(self, number: int, member: str, parent: int) -> None:
        """Note a proposal that has just been made."""
        self._accounts[number] = ProposalAccount(member, parent)
        while len(self._accounts) > WINDOW:
            self._forgotten = max(self._forgotten, self._accounts.popitem(last=False)[0])

    def nothing(self, member: str, parent: int) -> None:
        """Note that a member was asked and had nothing: that counts as a proposal that earned nothing."""
        self._empty -= 1
        self.open(self._empty, member, parent)
        self._accounts[self._empty] = replace(self._accounts[self._empty], done=True)

    def observe(self, member: str, observation: Observation) -> None:
        """Enter one finished trial; the same trial again changes nothing, and a cancelled one is nobody's fault."""
        trial, proposal = observation.trial, observation.proposal
        if trial.state is TrialState.CANCELLED:
            return
        if proposal.number not in self._accounts:
            if proposal.number <= self._forgotten:
                return
            self.open(proposal.number, member, proposal.parent)
        account, gains = self._accounts[proposal.number], dict(self._accounts[proposal.number].gains)
        if trial.gain is not None and not trial.state.failed and math.isfinite(trial.gain):
            headroom = max(LEAST_HEADROOM, 1.0 - observation.incumbent_score)
            gains[trial.number] = (trial.rung, (trial.gain - (trial.noise or 0.0)) / headroom)
        costs = {0: self._usd * proposal.spend.usd, trial.number: trial.usage.cpu_seconds}
        self._accounts[proposal.number] = replace(account, gains=gains, costs={**account.costs, **costs}, done=True)

    def standings(self, top: int) -> dict[str, Standing]:
        """Return how the members stand; `top` is the index of the top rung."""
        newest = max((account.parent for account in self._accounts.values()), default=0)
        done = [account for account in self._accounts.values() if account.done]
        weight = np.array([FADING ** (newest - account.parent) for account in done])
        earned = np.array([account.earned(top) for account in done])
        costs = _filled(np.array([sum(account.costs.values()) for account in done]))
        total = float(weight.sum())
        rate = float(weight @ earned) / float(weight @ costs) if total else 1.0
        cost = float(weight @ costs) / total if total else 1.0
        spread = float(np.sqrt(weight @ (earned - rate * costs) ** 2 / total)) if total else 0.0
        found = {}
        for name in self._members:
            mine = weight * np.array([account.member == name for account in done], dtype=float)
            count, paid = float(mine.sum()) + PRIOR, float(mine @ costs) + PRIOR * cost
            mean = (float(mine @ earned) + PRIOR * rate * cost) / paid
            found[name] = Standing(count - PRIOR, mean, spread * math.sqrt(count) / paid)
        return found

    def order(self, top: int, rng: np.random.Generator) -> list[str]:
        """Return the members, the one to ask first at the head: those below the floor, then by a draw."""
        standings = self.standings(top)
        drawn = {name: one.rate + one.deviation * float(rng.standard_normal()) for name, one in standings.items()}
        asked = dict.fromkeys(self._members, 0)
        for account in self._accounts.values():
            asked[account.member] += 1
        least = self._floor * (len(self._accounts) + 1)
        owed = {name: least - count for name, count in asked.items()}
        return sorted(self._members, key=lambda name: (owed[name] <= 0, -drawn[name]))

    def lead(self, top: int) -> str:
        """Return the member that has earned most for its cost; the first named where they tie."""
        standings = self.standings(top)
        return max(self._members, key=lambda name: standings[name].rate)

    def account(self, number: int) -> ProposalAccount | None:
        """Return a proposal's account while it is remembered."""
        return self._accounts.get(number)


def _filled(costs: Floats) -> Floats:
    """Return costs with the mean of the others for what cost nothing; all one where nothing was measured."""
    known = costs[costs > 0]
    return np.where(costs > 0, costs, known.mean() if len(known) else 1.0)
