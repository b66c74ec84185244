"""Builder `cross`: puts together the code changes of two designs that were made from the same parent.

A change that gained on the screen and lost the race is not lost: when its parent is succeeded by another design, both
sides' changes are merged three-way onto the new incumbent (`code.merge`), as is every pair of good changes of one
parent. Where they touch the same lines nothing is proposed. It thinks nothing up itself: name it in a panel, as in
`panel:llm,cross`. Parameters are taken from whoever changed them; where both did, from the incumbent's side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from instar.builders.code.merge import Conflict, merge
from instar.builders.goals import choose_goal
from instar.builders.uniform import BaseRates
from instar.contracts.records import Author, Brief, Design, Goal, Observation, Proposal, TrialState
from instar.contracts.space import Parameters, Space

WAITS_FOR = "cross"
_REMEMBERED = 64  # good changes


@dataclass(frozen=True)
class Good:
    """A change that gained on the screen: the proposal, and by how much at the highest rung that it reached."""

    proposal: Proposal
    rung: int
    gain: float


class CrossBuilder:
    """Proposes merges of others' changes (`Deliberating`: it waits for there to be two).

    Args:
        lab: name of the lab that the designs are for.
        lab_space: the lab's ranges.
        rng: source of its choices of goals.
    """

    name = "cross"
    edits_files = True

    def __init__(self, lab: str, lab_space: Space, rng: np.random.Generator) -> None:
        self.space = Space({})
        self._lab, self._lab_space, self._rng = lab, lab_space, rng
        self._parents: dict[int, Design] = {}  # generation -> its design
        self._good: dict[int, Good] = {}  # proposal -> its change
        self._made: set[str] = set()  # digests of what was proposed
        self._rates = BaseRates()
        self._ready = False

    @property
    def waits_for(self) -> str | None:
        """Others' results, where there is nothing to put together."""
        return None if self._ready else WAITS_FOR

    def close(self) -> None:
        """Nothing is held."""

    def aim(self, brief: Brief) -> Goal:
        """Choose the goal by measured learning progress."""
        return choose_goal(brief.goals, self._rng)

    def observe(self, observation: Observation) -> None:
        """Remember a change that gained, the best of all."""
        trial, proposal = observation.trial, observation.proposal
        self._rates.observe(observation)
        if trial.state is not TrialState.SCORED or trial.gain is None or trial.gain <= 0 or trial.replica:
            return
        self._good[proposal.number] = Good(proposal, trial.rung, trial.gain)
        best = sorted(self._good.values(), key=lambda good: (good.rung, good.gain), reverse=True)[:_REMEMBERED]
        self._good = {good.proposal.number: good for good in best}
        self._ready = True

    def propose(self, brief: Brief) -> Sequence[Proposal]:
        """Return up to `brief.count` merges that were not proposed before, the best parts first."""
        self._parents[brief.incumbent.number] = brief.incumbent.design
        known = {design.digest for design in brief.pending} | self._made
        forecast = self._rates.at(brief.rungs - 1).forecast(brief.incumbent_score or 0.5)
        proposals: list[Proposal] = []
        for design, why in self._merges(brief):
            if len(proposals) == brief.count:
                break
            if design.digest not in known and design.files != brief.incumbent.design.files:
                known.add(design.digest)
                self._made.add(design.digest)
                number, parent = brief.first + len(proposals), brief.incumbent.number
                proposals.append(Proposal(number, design, Author(self.name), parent, brief.goal, why, forecast))
        self._ready = bool(proposals)
        return proposals

    def _merges(self, brief: Brief) -> Iterator[tuple[Design, str]]:
        """Yield merges onto the incumbent: earlier changes with its own, then pairs of changes of itself."""
        incumbent, number = brief.incumbent.design, brief.incumbent.number
        good = sorted(self._good.values(), key=lambda one: (one.rung, one.gain), reverse=True)
        for one in good:
            base = self._parents.get(one.proposal.parent)
            if base is not None and one.proposal.parent != number:
                yield from self._merged(base, incumbent, one.proposal.design, f"proposal {one.proposal.number}", number)
        own = [one for one in good if one.proposal.parent == number]
        for place, one in enumerate(own):
            for other in own[place + 1 :]:
                what = f"proposals {one.proposal.number} and {other.proposal.number}"
                yield from self._merged(incumbent, one.proposal.design, other.proposal.design, what, number)

    def _merged(
        self, base: Design, ours: Design, theirs: Design, what: str, number: int
    ) -> Iterator[tuple[Design, str]]:
        try:
            files = merge(base.files, ours.files, theirs.files)
        except Conflict:
            return
        parameters = _crossed(base.parameters, ours.parameters, theirs.parameters, self._lab_space)
        yield Design(self._lab, parameters, files), f"the changes of {what} put together on generation {number}"


def _crossed(
    base: Parameters, ours: Parameters, theirs: Parameters, space: Space
) -> Mapping[str, bool | int | float | str]:
    return {name: theirs[name] if ours[name] == base[name] else ours[name] for name in space.ranges}


def create(lab_name: str, space: Space, rng: np.random.Generator) -> CrossBuilder:
    """Make the builder for a lab's design space."""
    return CrossBuilder(lab_name, space, rng)
