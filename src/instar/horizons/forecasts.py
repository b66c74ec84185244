"""Scores dated projections when their day has come: pinball loss of the quantiles, coverage of the intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from instar.contracts.evidence import Estimate
from instar.contracts.records import Floats
from instar.stats.intervals import clopper_pearson

LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
ENOUGH = 5
"""Outcomes below which nothing is said of a forecast."""


@dataclass(frozen=True)
class Scored:
    """How good the quantiles were.

    Attributes:
        pinball: mean over outcomes and levels, in doublings of the horizon; 0 is perfect.
        coverage: central interval (0.5, 0.8, 0.95) -> share of outcomes inside, with Clopper and Pearson's interval.
        verdict: "can't tell", "too narrow", "too wide" or "holds".
    """

    n: int
    pinball: float | None
    coverage: dict[float, Estimate]
    verdict: str


def pinball(quantiles: Floats, outcomes: Floats, levels: Sequence[float] = LEVELS) -> float:
    """Return the mean pinball loss of quantiles (n, q) at outcomes (n,); Econometrica 46:33, 1978."""
    over = outcomes[:, None] - quantiles
    level = np.asarray(levels, dtype=np.float64)
    return float(np.maximum(level * over, (level - 1.0) * over).mean())


def score(quantiles: Floats, outcomes: Floats, levels: Sequence[float] = LEVELS) -> Scored:
    """Score quantiles (n, q) of log2 horizons at outcomes (n,).

    A verdict needs `ENOUGH` outcomes, and a central interval whose coverage is clearly not its own.
    """
    if not outcomes.size:
        return Scored(0, None, {}, "can't tell")
    coverage = {}
    for number in range(len(levels) // 2):
        inside = (quantiles[:, number] <= outcomes) & (outcomes <= quantiles[:, -1 - number])
        coverage[round(levels[-1 - number] - levels[number], 6)] = clopper_pearson(int(inside.sum()), outcomes.size)
    return Scored(outcomes.size, pinball(quantiles, outcomes, levels), coverage, _verdict(coverage, outcomes.size))


def _verdict(coverage: dict[float, Estimate], n: int) -> str:
    if n < ENOUGH:
        return "can't tell"
    if any((found.high or 0.0) < share for share, found in coverage.items()):
        return "too narrow"
    if any((found.low or 0.0) > share for share, found in coverage.items()):
        return "too wide"
    return "holds"
