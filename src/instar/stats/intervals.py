"""Intervals: Wilson and Clopper-Pearson for shares, paired differences, and betting for any bounded mean.

The `*_bounds` functions work on arrays (for simulations and tables); the others return one `Estimate`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy

from instar.contracts.evidence import Estimate
from instar.contracts.records import Floats
from instar.stats.evalues import log_e_value

CONFIDENCE = 0.95
_HALVINGS = 30  # bisection steps of the betting interval: 1e-9 of the range


def wilson_bounds(solved: npt.ArrayLike, n: npt.ArrayLike, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """Return Wilson's score interval for a share (JASA 22:209, 1927), for `solved` of `n`, any shapes that broadcast.

    Raises:
        ValueError: unless 0 <= solved <= n and n >= 1.
    """
    hits, total = _checked_counts(solved, n)
    z = float(scipy.special.ndtri((1.0 + confidence) / 2.0))
    share = hits / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    low = np.where(hits == 0, 0.0, np.maximum(centre - half, 0.0))
    return low, np.where(hits == total, 1.0, np.minimum(centre + half, 1.0))


def clopper_pearson_bounds(
    solved: npt.ArrayLike, n: npt.ArrayLike, confidence: float = CONFIDENCE
) -> tuple[Floats, Floats]:
    """Return the exact interval for a share (Clopper & Pearson, Biometrika 26:404, 1934); coverage is never below.

    Raises:
        ValueError: unless 0 <= solved <= n and n >= 1.
    """
    hits, total = _checked_counts(solved, n)
    tail = (1.0 - confidence) / 2.0
    low = scipy.special.betaincinv(np.maximum(hits, 1e-9), total - hits + 1, tail)
    high = scipy.special.betaincinv(hits + 1, np.maximum(total - hits, 1e-9), 1.0 - tail)
    return np.where(hits == 0, 0.0, low), np.where(hits == total, 1.0, high)


def paired_bounds(differences: Floats, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """Return Student's t interval (...) for the mean of differences (..., N); infinite for N = 1."""
    n = differences.shape[-1]
    mean = differences.mean(axis=-1)
    if n == 1:
        return np.full_like(mean, -np.inf), np.full_like(mean, np.inf)
    half = float(scipy.special.stdtrit(n - 1, (1.0 + confidence) / 2.0)) * differences.std(axis=-1, ddof=1) / np.sqrt(n)
    return mean - half, mean + half


def wilson(solved: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate a share with Wilson's interval: good coverage on average, the one to show."""
    low, high = wilson_bounds(solved, n, confidence)
    return Estimate(solved / n, float(low), float(high), n)


def clopper_pearson(solved: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate a share with the exact interval: the one to guarantee with."""
    low, high = clopper_pearson_bounds(solved, n, confidence)
    return Estimate(solved / n, float(low), float(high), n)


def paired_difference(candidate: Floats, reference: Floats, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate the mean of candidate - reference (N,) on the same questions, with Student's t interval.

    The interval speaks of fresh questions, not of fresh training seeds. It is approximate: with few questions
    that differ, use `betting_mean`.

    Raises:
        ValueError: the two are not paired, or a value is not finite.
    """
    if candidate.shape != reference.shape or candidate.ndim != 1 or candidate.size == 0:
        raise ValueError(f"paired scores need one shape (N,), not {candidate.shape} and {reference.shape}")
    differences = candidate - reference
    if not np.isfinite(differences).all():
        raise ValueError("paired scores must be finite")
    n = differences.size
    if n == 1:
        return Estimate(float(differences[0]), None, None, 1, note="one question has no interval")
    low, high = paired_bounds(differences, confidence)
    note = "" if np.ptp(differences) > 0 else "every difference is the same: the interval has no width"
    return Estimate(float(differences.mean()), float(low), float(high), n, note=note)


def betting_mean(x: Floats, low: float, high: float, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate the mean of independent x (N,) in [low, high] with an interval that is valid for every N.

    The interval holds the means m that neither of two one-sided e-values rejects at half of alpha
    (arXiv:2010.09686, section 4.4, at the end of the sample). The e-value falls in m: each end is bisected.
    """
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"a mean needs values of shape (N,), not {x.shape}")
    threshold = float(np.log(2.0 / (1.0 - confidence)))
    values, counts = np.unique(x, return_counts=True)  # ties cost nothing

    def below(mean: float) -> bool:
        return bool(log_e_value(values, mean, low, high, counts) >= threshold)

    def above(mean: float) -> bool:
        return bool(log_e_value(-values, -mean, -high, -low, counts) >= threshold)

    mean = float(x.mean())
    return Estimate(mean, _edge(below, low, mean), _edge(above, high, mean), int(x.size))


def _edge(rejected: Callable[[float], bool], outside: float, inside: float) -> float:
    """Bisect between `outside`, where means are rejected at the latest, and `inside`, where they are not."""
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2.0
        if middle in (outside, inside):
            break
        if rejected(middle):
            outside = middle
        else:
            inside = middle
    return outside


def _checked_counts(solved: npt.ArrayLike, n: npt.ArrayLike) -> tuple[Floats, Floats]:
    hits, total = np.asarray(solved, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if not ((hits >= 0) & (hits <= total) & (total >= 1)).all():
        raise ValueError("a share needs 0 <= solved <= n and n >= 1")
    return hits, total
