"""Task horizons as METR publishes them (arXiv:2503.14499, section 4.1), and an interval that covers better.

A model's success curve is logit P = intercept + slope * log2(length), fitted to its tasks with weights that sum to 1
(1/sqrt(tasks in the family)) and the penalty ridge / 2 * slope^2 on the slope. The horizon is where the curve falls to
50 % (or 80 %). Two intervals:

- *bootstrap*: 95 % percentiles over families, tasks and runs, as published (`runs.draw_tasks`).
- *profile*: the crossings psi that the data do not refuse. The weighted log-likelihood is no likelihood of independent
  runs, so its ratio is scaled by (its own curvature's variance) / (the variance over families), as for composite
  likelihoods (Pace, Salvan & Sartori, Statistica Sinica 21:129, 2011); the variance is the jackknife's over families.
  It is judged against F(1, families - 1), the families counted by the weight that they carry.

Both are approximate; `bench/horizon.py` prints their coverage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from instar.contracts.records import Floats
from instar.horizons.profile import REACH, Interval, one_sided, profile_interval
from instar.horizons.runs import Answers, Runs, draw_tasks
from instar.stats.logistic import crossings, fit

PUBLISHED_RIDGE = 1e-5
OLD_RIDGE = 0.1
"""METR's before 2026-03-03: a strong prior, since the weights of a model sum to 1."""
SHARES = (0.5, 0.8)
_CELLS = 2_000_000  # of a batch of fits: 16 MB an array
_EXACT = 1e-10
_NOTHING = 1e-9  # of a weight


@dataclass(frozen=True)
class Method:
    """How horizons are fitted: weights of the tasks, penalty, and how many resamples the bootstrap takes."""

    weighting: str = "invsqrt"
    ridge: float = PUBLISHED_RIDGE
    resamples: int = 1000


@dataclass(frozen=True)
class Crossing:
    """Where a model's curve falls to `share`.

    Attributes:
        value: the length, or None where it is not reached within `REACH` doublings of the tasks.
        bootstrap, profile: 95 % intervals; None is open on that side.
        bound: for a curve without a crossing: a one-sided 95 % bound, or None.
        side: "at least" or "at most" where there is only that bound, else "".
    """

    share: float
    value: float | None
    bootstrap: Interval = (None, None)
    profile: Interval = (None, None)
    bound: float | None = None
    side: str = ""


@dataclass(frozen=True)
class Reading:
    """One model's curve.

    Attributes:
        average: weighted mean score.
        intercept, slope: of logit P = intercept + slope * log2(length); None without failures or without successes.
        crossings: by share.
        draws: share -> log2 of the bootstrap's crossings (B,), possibly infinite; row b is the same draw of families
            and tasks for every model.
        left_out: share -> log2 of the crossing without each family (K,); empty where it wasn't asked for.
    """

    model: str
    released: str
    runs: int
    tasks: int
    families: int
    average: float
    intercept: float | None
    slope: float | None
    crossings: Mapping[float, Crossing]
    draws: Mapping[float, Floats] = field(default_factory=dict)
    left_out: Mapping[float, Floats] = field(default_factory=dict)


def read(runs: Runs, method: Method, rng: np.random.Generator) -> tuple[Reading, ...]:
    """Fit every model's curve with intervals.

    Args:
        runs: of all models; a model without runs is left out.
        method: of the fit.
        rng: draws the bootstrap.
    """
    counts = draw_tasks(runs, method.resamples, rng) if method.resamples else np.zeros((0, len(runs.tasks)), np.int32)
    return tuple(
        _read(runs, number, answers, method, counts, rng)
        for number, answers in enumerate(runs.answers)
        if answers.task.size
    )


def point(answers: Answers, weighting: str, ridge: float) -> tuple[float, float] | None:
    """Return intercept and slope against log2(length), or None where all or none of the runs succeed."""
    weights = answers.weights(weighting)
    if not _NOTHING < weights @ answers.mean < 1.0 - _NOTHING:
        return None
    centre = float(weights @ answers.x)
    intercept, slope = fit(
        answers.x - centre, (weights * answers.mean)[None], (weights * (1.0 - answers.mean))[None], ridge,
        tolerance=_EXACT,
    )  # fmt: skip
    return float(intercept[0] - slope[0] * centre), float(slope[0])


def horizon_of(curve: tuple[float, float] | None, share: float) -> float | None:
    """Return where a curve (intercept, slope) falls to `share`, or None."""
    if curve is None:
        return None
    at = float(crossings(np.array([curve[0]]), np.array([curve[1]]), share)[0])
    return float(2.0**at) if abs(at) < 1000 else None


def _read(
    runs: Runs, number: int, answers: Answers, method: Method, counts: npt.NDArray[np.int32], rng: np.random.Generator
) -> Reading:
    weights = answers.weights(method.weighting)
    curve = point(answers, method.weighting, method.ridge)
    released = runs.released[number] if runs.released else ""
    facts = (runs.models[number], released, int(answers.n.sum()), answers.task.size, answers.families.size)
    average = float(weights @ answers.mean)
    if curve is None:
        bounds = {share: _one_sided(answers, share, solved=average > 0) for share in SHARES}
        # Every draw of a model that solves everything does so too.
        endless = np.full(len(counts), math.inf if average > 0 else -math.inf)
        return Reading(*facts, average, None, None, bounds, dict.fromkeys(SHARES, endless))
    draws = _bootstrap(answers, weights, curve, method.ridge, counts, rng)
    left = _without_each_family(answers, weights, curve, method.ridge)
    found = {share: _crossing(answers, weights, curve, method.ridge, share, draws[share], left[share])
             for share in SHARES}  # fmt: skip
    return Reading(*facts, average, *curve, found, draws, left)


def _crossing(
    answers: Answers, weights: Floats, curve: tuple[float, float], ridge: float, share: float, draws: Floats,
    left: Floats,
) -> Crossing:  # fmt: skip
    """Put one crossing together from its fit, its draws (B,) and its leave-one-family-out crossings (K,)."""
    first, last = float(answers.x.min()), float(answers.x.max())
    at = float(crossings(np.array([curve[0]]), np.array([curve[1]]), share)[0])
    ends: Interval = (None, None)
    if draws.size:
        low, high = np.quantile(draws, [0.025, 0.975], method="nearest")
        ends = _length(float(low), first, last), _length(float(high), first, last)
    if not first - REACH <= at <= last + REACH:
        beyond = at > last
        return Crossing(share, None, ends, bound=ends[0 if beyond else 1], side="at least" if beyond else "at most")
    return Crossing(share, 2.0**at, ends, profile_interval(answers, weights, ridge, share, at, curve[1], left))


def _length(at: float, first: float, last: float) -> float | None:
    return float(2.0**at) if first - REACH <= at <= last + REACH else None


# --- bootstrap ------------------------------------------------------------------------------------------------------


def _bootstrap(
    answers: Answers, weights: Floats, curve: tuple[float, float], ridge: float, counts: npt.NDArray[np.int32],
    rng: np.random.Generator,
) -> dict[float, Floats]:  # fmt: skip
    """Return share -> log2 of the resampled crossings (B,)."""
    step = max(1, _CELLS // answers.task.size)
    parts = []
    for first in range(0, len(counts), step):
        drawn = counts[first : first + step, answers.task].astype(np.float64)
        share_solved = answers.drawn(drawn, rng)
        heavy = drawn * weights
        parts.append(_fits(answers, heavy * share_solved, heavy * (1.0 - share_solved), weights, curve, ridge))
    return {share: np.concatenate([part[share] for part in parts]) if parts else np.zeros(0) for share in SHARES}


def _without_each_family(
    answers: Answers, weights: Floats, curve: tuple[float, float], ridge: float
) -> dict[float, Floats]:
    """Return share -> log2 of the crossing without each family (K,)."""
    if answers.families.size < 2:
        return {share: np.zeros(0) for share in SHARES}
    kept = np.ones((answers.families.size, answers.task.size))
    kept[answers.family, np.arange(answers.task.size)] = 0.0
    heavy = kept * weights
    return _fits(answers, heavy * answers.mean, heavy * (1.0 - answers.mean), weights, curve, ridge)


def _fits(
    answers: Answers, solved: Floats, failed: Floats, weights: Floats, curve: tuple[float, float], ridge: float
) -> dict[float, Floats]:
    """Return share -> log2 of the crossings (B,) of weighted successes and failures (B, G)."""
    centre = float(weights @ answers.x)
    total = solved.sum(axis=1)
    mixed = _mixed(total, failed.sum(axis=1))
    found = {share: np.where(total > _NOTHING, math.inf, -math.inf) for share in SHARES}
    if mixed.any():
        start = curve[0] + curve[1] * centre, curve[1]
        intercept, slope = fit(answers.x - centre, solved[mixed], failed[mixed], ridge, start=start, tolerance=1e-5)
        for share in SHARES:
            found[share][mixed] = centre + crossings(intercept, slope, share)
    return found


def _mixed(solved: Floats, failed: Floats) -> npt.NDArray[np.bool_]:
    """Whether there is some success and some failure (B,)."""
    return np.asarray((solved > _NOTHING) & (failed > _NOTHING))


def _one_sided(answers: Answers, share: float, *, solved: bool) -> Crossing:
    bound = one_sided(answers, share, solved=solved)
    ends: Interval = (bound, None) if solved else (None, bound)
    return Crossing(share, None, ends, ends, bound, "at least" if solved else "at most")


def doubling_draws(readings: Sequence[Reading], share: float) -> Floats:
    """Return the bootstrap's log2 crossings of all models (B, M), draw by draw."""
    return np.stack([reading.draws[share] for reading in readings], axis=1)
