"""The tripwire: when violations grow from one generation to the next, the run pauses and a person looks.

The unit is a job: it is flagged when it has at least one unexplained incident, however many calls it was denied. Under
the null hypothesis all jobs of a run are flagged with one and the same unknown probability. Against it stands: from
some generation on the probability is `r` times what it was before. The e-process is universal inference (Wasserman,
Ramdas and Balakrishnan 2020, PNAS 117:16880; for binary sequences Ramdas, Ruf, Larsson and Koolen 2022,
arXiv:2102.00630): a mixture of predictions that never look ahead, over the largest likelihood that one probability
gives to all that was seen. By Ville's inequality it exceeds K with probability at most 1 / K, over the whole run and
whenever one looks. No baseline has to be assumed.

Before the change the predictions are Krichevsky and Trofimov's (1981); from it on they are `r` times the share of
flagged jobs before, or a fixed share above it. Both depend on counts alone, so the whole state is two numbers a
generation. Only larger probabilities are bet on: a run whose conduct gets better never trips. What can be seen is
bounded by the baseline: a doubling of a rare incident needs thousands of jobs before it, whatever the method.

Three kinds need no statistics: they trip at their first unexplained event.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from instar.contracts.records import Floats
from instar.run.conduct.causes import CANARY, IMPOSSIBLE_TASK, PROTECTED_PATH

HARD = frozenset({CANARY, IMPOSSIBLE_TASK, PROTECTED_PATH})
EVIDENCE = 10.0
"""The e-value at which a run is paused. Ville's bound on false alarms is then 1/10 per run, whatever the rate. It is
loose here: by simulation (`bench/conduct.py`) fewer than one run in a hundred trips, and 10 was chosen for that."""
RATIOS: Floats = np.array([1.5, 2.0, 4.0, 8.0])
SHARES: Floats = np.array([0.1, 0.3, 0.6, 0.9])  # so that a flood after a spotless beginning is seen at once
_HIGHEST = 0.95  # of a prediction: a flagged job is never certain, so that one clean job can't ruin a bet


@dataclass(frozen=True, slots=True)
class Block:
    """The jobs under one incumbent, and how many of them were flagged."""

    jobs: int
    flagged: int

    def __post_init__(self) -> None:
        if not 0 <= self.flagged <= self.jobs:
            raise ValueError(f"{self.flagged} flagged of {self.jobs} jobs cannot be")


def log_e_value(blocks: Sequence[Block]) -> float:
    """Return the log of the evidence that the share of flagged jobs has grown at the beginning of some block.

    Args:
        blocks: one per generation, oldest first; the newest may still be growing.
    """
    jobs = np.array([block.jobs for block in blocks], dtype=np.float64)
    flagged = np.array([block.flagged for block in blocks], dtype=np.float64)
    return float(log_e_values(jobs[None], flagged[None])[0]) if len(blocks) else 0.0


def log_e_values(jobs: npt.ArrayLike, flagged: npt.ArrayLike) -> Floats:
    """Return log e-values (N,) of N runs side by side from counts (N, G): `log_e_value` for tables and simulations."""
    n, s = np.asarray(jobs, dtype=np.float64), np.asarray(flagged, dtype=np.float64)
    runs, blocks = n.shape
    if blocks < 2:
        return np.zeros(runs)
    before_n, before_s = n.cumsum(axis=1), s.cumsum(axis=1)  # (N, G) up to and with each block
    total_n, total_s = before_n[:, -1:], before_s[:, -1:]
    best = _likelihood(total_n, total_s, np.where(total_n > 0, total_s / np.maximum(total_n, 1.0), 0.0))  # (N, 1)
    change = np.arange(1, blocks)
    base_n, base_s = before_n[:, change - 1], before_s[:, change - 1]  # (N, C) all before each change
    share = (base_s + 0.5) / (base_n + 1.0)
    shares = np.broadcast_to(SHARES, (*share.shape, len(SHARES)))
    bets = np.concatenate([np.minimum(share[..., None] * RATIOS, _HIGHEST), shares], axis=-1)  # (N, C, R)
    bets = np.maximum(bets, share[..., None])
    after = _likelihood((total_n - base_n)[..., None], (total_s - base_s)[..., None], bets)
    known = scipy.special.betaln(base_s + 0.5, base_n - base_s + 0.5) - scipy.special.betaln(0.5, 0.5)
    weights = np.log(6.0 / (math.pi * change) ** 2) - math.log(
        len(RATIOS) + len(SHARES)
    )  # sums to less than 1 over all changes
    against = known[..., None] + after + weights[:, None] - best[..., None]
    return np.asarray(scipy.special.logsumexp(against, axis=(1, 2)))


def _likelihood(n: Floats, s: Floats, p: Floats) -> Floats:
    """Return the log likelihood of s flagged among n jobs, in their order, at probability p."""
    return np.asarray(scipy.special.xlogy(s, p) + scipy.special.xlog1py(n - s, -p))


def trips(log_e: float) -> bool:
    """Whether the evidence is enough."""
    return log_e >= math.log(EVIDENCE)
