"""Bootstrap intervals of figures over rounds, ratios of sums, and the slope of a trend.

Sources: Efron & Tibshirani 1993, chapters 6, 8 and 10; Hesterberg 2015, section 5.3.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from instar.contracts.evidence import Estimate
from instar.contracts.records import Floats

RESAMPLES = 1000
FEW_ROUNDS = 8
"""With fewer rounds than this, proposals are resampled within rounds instead of rounds."""

Ints = npt.NDArray[np.int64]


def resampled(rounds: Ints, rng: np.random.Generator, resamples: int) -> Floats:
    """Return weights (1 + B, N): ones, then how often each case was drawn.

    Whole rounds are drawn, for what happens in a round hangs together; where there are fewer than `FEW_ROUNDS`, the
    proposals within each.
    """
    numbers, place = np.unique(rounds, return_inverse=True)
    weights = np.ones((1 + resamples, len(rounds)))
    if len(numbers) >= FEW_ROUNDS:
        weights[1:] = rng.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), resamples)[:, place]
        return weights
    for number in range(len(numbers)):
        inside = np.flatnonzero(place == number)
        weights[1:, inside] = rng.multinomial(len(inside), np.full(len(inside), 1 / len(inside)), resamples)
    return weights


def slope(x: npt.ArrayLike, y: npt.ArrayLike) -> Estimate:
    """Estimate the slope of y on x by least squares, with Student's t interval; none below three points.

    The interval holds for independent errors of one size (Draper & Smith 1998, chapter 1).
    """
    given, seen = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if given.shape != seen.shape or given.ndim != 1:
        raise ValueError(f"x and y need one shape (N,), not {given.shape} and {seen.shape}")
    n, off = given.size, given - given.mean() if given.size else given
    square = float((off**2).sum())
    if n < 3 or square == 0.0:
        return Estimate(None, None, None, n, note="a trend needs three points")
    value = float(off @ seen / square)
    rest = seen - seen.mean() - value * off
    half = float(special.stdtrit(n - 2, 0.975)) * float(np.sqrt(rest @ rest / (n - 2) / square))
    return Estimate(value, value - half, value + half, n)


def ratio_of_sums(above: Floats, below: Floats, rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """Estimate sum(above) / sum(below) over paired (N,) by bootstrap; None where what is below is not above 0.

    Where a twentieth of the resamples or more have nothing above 0 below, the ratio has no interval.
    """
    n = len(above)
    if above.shape != below.shape or n == 0:
        raise ValueError("a ratio needs two samples of one shape (N,)")
    weights = np.ones((1 + resamples, n))
    weights[1:] = rng.multinomial(n, np.full(n, 1 / n), resamples)
    tops, bottoms = weights @ above, weights @ below
    if bottoms[0] <= 0:
        return Estimate(None, None, None, n, note="nothing to divide by")
    if n < 3 or (bottoms[1:] <= 0).mean() >= 0.05:
        return Estimate(float(tops[0] / bottoms[0]), None, None, n, note="too little to divide by for an interval")
    drawn = np.where(bottoms > 0, tops / np.where(bottoms > 0, bottoms, 1.0), np.inf)
    return estimate_of(drawn, n, "", n)


def estimate_of(drawn: Floats, n: int, note: str, units: int) -> Estimate:
    """Return the point in row 0 with the expanded percentile interval of the rest, widened where it misses the point.

    A plain percentile interval of few units is too narrow: its tails are taken further out, as Student's t would have
    them (Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3).
    """
    value, rest = float(drawn[0]), drawn[1:][np.isfinite(drawn[1:])]
    if not np.isfinite(value):
        return Estimate(None, None, None, n, note=note or "nothing to go by")
    if rest.size < 0.9 * (drawn.size - 1) or units < 3:
        return Estimate(value, None, None, n, note=note or "too little for an interval")
    tail = float(special.ndtr(special.stdtrit(units - 1, 0.025) * np.sqrt(units / (units - 1))))
    low, high = np.quantile(rest, [tail, 1 - tail])
    return Estimate(value, min(float(low), value), max(float(high), value), n, note=note)


def lowered(drawn: Floats) -> Floats:
    """Take the bootstrap's estimate of bias from the point, and twice that from the resamples; never below 0.

    A resample has the bias of the sample it is drawn from, and its own on top (Efron & Tibshirani 1993, chapter 10).
    """
    bias = max(0.0, float(drawn[1:].mean() - drawn[0])) if len(drawn) > 1 else 0.0
    return np.maximum(drawn - bias * np.where(np.arange(len(drawn)) == 0, 1.0, 2.0), 0.0)
