"""Logistic fits of success on log2(length), many at once, by damped Newton steps on arrays (B, G).

The penalised log-likelihood of a fit is  sum(solved * z - (solved + failed) * log(1 + e^z)) - ridge / 2 * slope^2,
with z = intercept + slope * x; the intercept is free. That is what METR's time horizons maximise (arXiv:2503.14499,
section 4.1): there the weights of a model's runs sum to 1, and `ridge` is 1e-5 (0.1 before 2026-03-03).
"""

from __future__ import annotations

import math

import numpy as np

from instar.contracts.records import Floats

_STEPS = 60
_SMALL = 1e-12


def fit(
    x: Floats,
    solved: Floats,
    failed: Floats,
    ridge: float,
    *,
    start: tuple[float, float] | None = None,
    tolerance: float = 1e-6,
) -> tuple[Floats, Floats]:
    """Return intercepts (B,) and slopes (B,).

    The objective is concave, so halving the steps that do not improve it is enough; rows that have arrived are
    left alone.

    Args:
        x: (G,) log2 of the lengths, best centred.
        solved: (B, G) weight of the successes; fractional scores are weighted successes and failures.
        failed: (B, G) weight of the failures. Every row holds some of both.
        ridge: penalty on the slope, above 0 (a row with one length has its slope at 0).
        start: intercept and slope to start from, such as those of the fit that is being resampled.
        tolerance: largest last step, in logits.
    """
    n = solved + failed
    hits, total = solved.sum(axis=1), n.sum(axis=1)
    intercept = np.log(hits / (total - hits)) if start is None else np.full(len(n), start[0])
    slope = np.zeros_like(intercept) if start is None else np.full(len(n), start[1])
    found = intercept.copy(), slope.copy()
    rows = np.arange(len(n))
    height, p = _climb(x, solved, n, ridge, intercept, slope)
    for _ in range(_STEPS):
        d0, d1 = _direction(x, solved, n, ridge, p, slope, total)
        scale = np.ones_like(d0)
        for _ in range(_STEPS):
            tried, p = _climb(x, solved, n, ridge, intercept + scale * d0, slope + scale * d1)
            worse = tried < height - 1e-9 * total
            if not worse.any():
                break
            scale[worse] /= 2.0
        intercept, slope, height = intercept + scale * d0, slope + scale * d1, tried
        found[0][rows], found[1][rows] = intercept, slope
        going = np.maximum(np.abs(scale * d0), np.abs(scale * d1)) >= tolerance
        if not going.any():
            break
        if going.sum() < 0.7 * going.size:  # copying pays only where many have arrived
            rows, solved, n, total = rows[going], solved[going], n[going], total[going]
            intercept, slope, height, p = intercept[going], slope[going], height[going], p[going]
    return found


def slopes_through(x: Floats, solved: Floats, failed: Floats, ridge: float, crossing: Floats, share: float) -> Floats:
    """Return the slopes (C,) of the best curves that cross `share` at log2 lengths `crossing` (C,); x, solved (G,).

    The heights of these curves are the profile likelihood of the crossing.
    """
    away, level, n = x - crossing[:, None], math.log(share / (1.0 - share)), solved + failed
    slope = np.full(crossing.size, -0.5)
    height = profile(x, solved, failed, ridge, crossing, share, slope)
    for _ in range(_STEPS):
        p = logistic(level + slope[:, None] * away)
        step = (((solved - n * p) * away).sum(axis=1) - ridge * slope) / (
            (n * p * (1.0 - p) * away**2).sum(axis=1) + ridge
        )
        for _ in range(_STEPS):
            tried = profile(x, solved, failed, ridge, crossing, share, slope + step)
            worse = tried < height - 1e-12
            if not worse.any():
                break
            step[worse] /= 2.0
        slope, height = slope + step, tried
        if np.abs(step).max() < 1e-8:
            break
    return slope


def profile(
    x: Floats, solved: Floats, failed: Floats, ridge: float, crossing: Floats, share: float, slope: Floats
) -> Floats:
    """Return the penalised log-likelihood (C,) of curves given by `crossing` (C,), `share` there and `slope` (C,)."""
    logits = math.log(share / (1.0 - share)) + slope[:, None] * (x - crossing[:, None])
    softplus = np.maximum(logits, 0.0) + np.log1p(np.exp(-np.abs(logits)))
    return np.asarray(logits @ solved - softplus @ (solved + failed) - ridge / 2.0 * slope**2, dtype=np.float64)


def crossings(intercept: Floats, slope: Floats, share: float) -> Floats:
    """Return where curves fall to `share`, in log2 (B,); infinite, on the side that holds, if they don't fall."""
    above = intercept - math.log(share / (1.0 - share))
    falling = slope < -1e-9
    steepness = np.where(falling, -slope, 1.0)
    return np.where(falling, above / steepness, np.where(above > 0, math.inf, -math.inf))


def logistic(logits: Floats) -> Floats:
    """Return 1 / (1 + e^-logits) without overflow, any shape."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float64)


def _climb(
    x: Floats, solved: Floats, n: Floats, ridge: float, intercept: Floats, slope: Floats
) -> tuple[Floats, Floats]:
    """Return the penalised log-likelihoods (B,) and the probabilities (B, G); one exponential serves both."""
    logits = intercept[:, None] + slope[:, None] * x
    small = np.exp(-np.abs(logits))
    softplus = np.maximum(logits, 0.0) + np.log1p(small)
    height = (solved * logits).sum(axis=1) - (n * softplus).sum(axis=1) - ridge / 2.0 * slope**2
    return height, np.where(logits >= 0.0, 1.0, small) / (1.0 + small)


def _direction(
    x: Floats, solved: Floats, n: Floats, ridge: float, p: Floats, slope: Floats, total: Floats
) -> tuple[Floats, Floats]:
    """Return the Newton step (B,), (B,)."""
    rest = solved - n * p
    weight = n * p * (1.0 - p)
    g0, g1 = rest.sum(axis=1), rest @ x - ridge * slope
    h00, h01, h11 = weight.sum(axis=1) + _SMALL * total, weight @ x, weight @ (x * x) + ridge
    determinant = h00 * h11 - h01**2
    return (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
