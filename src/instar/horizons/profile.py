"""What the data say of one crossing without resampling: the profile-likelihood interval, and one-sided bounds."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from instar.contracts.records import Floats
from instar.horizons.runs import Answers
from instar.stats.logistic import profile, slopes_through

REACH = 10.0
"""Doublings beyond the tasks tried past which a crossing counts as unbounded."""

Interval = tuple[float | None, float | None]
"""Of lengths; None is open on that side."""


def profile_interval(
    answers: Answers, weights: Floats, ridge: float, share: float, at: float, slope: float, left: Floats
) -> Interval:
    """Return the lengths whose scaled likelihood ratio stays below the quantile of F(1, df)."""
    scaled = _scale(answers, weights, ridge, share, at, slope, left)
    if scaled is None:
        return None, None
    variance, df = scaled
    from scipy import special

    limit = float(special.stdtrit(df, 0.975)) ** 2
    solved, failed = weights * answers.mean, weights * (1.0 - answers.mean)
    top = profile(answers.x, solved, failed, ridge, np.array([at]), share, np.array([slope]))[0]

    def refused(places: Floats) -> npt.NDArray[np.bool_]:
        best = slopes_through(answers.x, solved, failed, ridge, places, share)
        lost = top - profile(answers.x, solved, failed, ridge, places, share, best)
        return np.asarray(2.0 * lost * variance > limit)

    ends: list[float | None] = []
    for side, edge in ((-1.0, float(answers.x.min()) - REACH), (1.0, float(answers.x.max()) + REACH)):
        inside, outside = at, edge
        if (edge - at) * side <= 0 or not refused(np.array([edge]))[0]:
            ends.append(None)
            continue
        for _ in range(4):  # 16 places at a time: 1 / 17^4 of the way
            places = np.linspace(inside, outside, 18)[1:-1]
            out = refused(places)
            cut = int(np.argmax(out)) if out.any() else places.size
            tried = np.concatenate([[inside], places, [outside]])
            inside, outside = float(tried[cut]), float(tried[cut + 1])
        ends.append(float(2.0 ** ((inside + outside) / 2.0)))
    return ends[0], ends[1]


def _scale(
    answers: Answers, weights: Floats, ridge: float, share: float, at: float, slope: float, left: Floats
) -> tuple[float, float] | None:
    """Return what the likelihood ratio is multiplied by, and the degrees of freedom; None below 3 families."""
    k = answers.families.size
    if k < 3:
        return None
    level = math.log(share / (1.0 - share))
    p = 1.0 / (1.0 + np.exp(-np.clip(level + slope * (answers.x - at), -700, 700)))
    away, information = answers.x - at, weights * p * (1.0 - p)
    # Curvature in (psi, slope): dz/dpsi = -slope, dz/dslope = x - psi.
    curvature = np.array([
        [slope**2 * information.sum(), -slope * (information @ away)],
        [-slope * (information @ away), information @ away**2 + ridge],
    ])  # fmt: skip
    inverse = np.linalg.inv(curvature)
    if np.isfinite(left).all() and np.abs(left - at).max() < REACH:
        spread = (k - 1) / k * float(((left - left.mean()) ** 2).sum())
    else:
        residual = weights * (answers.mean - p)
        influence = inverse[0, 0] * -slope * residual + inverse[0, 1] * residual * away
        spread = k / (k - 1) * float((np.bincount(answers.family, weights=influence) ** 2).sum())
    load = np.bincount(answers.family, weights=weights)
    df = max(1.0, float(load.sum() ** 2 / (load**2).sum()) - 1.0)
    return float(inverse[0, 0]) / max(spread, 1e-300), df


def one_sided(answers: Answers, share: float, *, solved: bool) -> float | None:
    """Bound the horizon of a model that solved everything (or nothing), with 95 % confidence.

    With k families all solved, a success below 0.05^(1/k) is refused (Clopper-Pearson, one-sided, families as the
    independent pieces). If success does not rise with length, the horizon is at least the length beyond which there
    are just enough families for that to exceed `share`; None where the suite has too few.
    """
    order = np.argsort(-answers.x if solved else answers.x)
    _, first = np.unique(answers.family[order], return_index=True)
    at = np.sort(first)  # places in `order` where a further family comes in
    k = np.arange(1, at.size + 1)
    enough = 0.05 ** (1.0 / k) >= share if solved else 1.0 - 0.05 ** (1.0 / k) <= share
    return float(2.0 ** answers.x[order][at[int(np.argmax(enough))]]) if enough.any() else None
