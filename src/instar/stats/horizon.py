"""The horizon: the task length at which success falls to 50 % (or 80 %), from a logistic fit on log2(length).

The model is that of METR's time horizons (arXiv:2503.14499, section 4.1): logit P(solved) = a + b log2(length),
fitted by maximum likelihood with a weak ridge penalty on the slope only, so that perfectly separated answers
have a finite fit. The interval is the percentile bootstrap over questions. This is the loop's own: an exam draws
its questions afresh, so each weighs alike and there are no task families. For suites of tasks, see `curves`.

Questions are grouped by length and the resamples are fitted together, as arrays (B, G): B fits, G groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from instar.contracts.evidence import Estimate
from instar.contracts.records import Floats
from instar.stats.logistic import crossings as crossings_of
from instar.stats.logistic import fit, logistic

RIDGE = 0.01
"""Penalty RIDGE / 2 * slope^2, like a normal prior on the slope with a deviation of 10 logits per doubling."""
GROUPS = 64
"""Lengths that take more distinct values than this are cut into as many groups of nearly equal size."""
REACH = 10.0
"""Doublings beyond the tasks tried past which a crossing counts as unbounded."""


@dataclass(frozen=True)
class Curve:
    """A fitted success curve: P(solved) = 1 / (1 + exp(-(intercept + slope * (log2(length) - centre)))).

    Attributes:
        intercept, slope, centre: of the formula; slope is in logits per doubling of the length.
        shortest, longest: the lengths tried.
        n: questions.
    """

    intercept: float
    slope: float
    centre: float
    shortest: float
    longest: float
    n: int

    def success(self, lengths: npt.ArrayLike) -> Floats:
        """Return the fitted probability (M,) of solving tasks of `lengths` (M,), all above 0."""
        logits = self.intercept + self.slope * (np.log2(np.asarray(lengths, dtype=np.float64)) - self.centre)
        return logistic(logits)


@dataclass(frozen=True)
class _Groups:
    """Questions grouped by length: log2 length (G,), solved (G,) and not solved (G,) counts."""

    log_length: Floats
    solved: Floats
    failed: Floats
    shortest: float
    longest: float
    dropped: int

    @property
    def n(self) -> int:
        return int(self.solved.sum() + self.failed.sum())


def curve(lengths: npt.ArrayLike, solved: npt.ArrayLike) -> Curve | None:
    """Fit the success curve for plots, or return None where all or none of the questions are solved.

    Args:
        lengths: (N,) task lengths above 0; NaN where unknown (left out).
        solved: (N,) whether each was solved.

    Raises:
        ValueError: shapes differ, a length is not positive, or no length is known.
    """
    groups = _group(lengths, solved)
    if groups.solved.sum() == 0 or groups.failed.sum() == 0:
        return None
    centre = float(np.average(groups.log_length, weights=groups.solved + groups.failed))
    intercept, slope = fit(groups.log_length - centre, groups.solved[None], groups.failed[None], RIDGE)
    return Curve(float(intercept[0]), float(slope[0]), centre, groups.shortest, groups.longest, groups.n)


def horizon(
    lengths: npt.ArrayLike, solved: npt.ArrayLike, share: float = 0.5, *, rng: np.random.Generator, resamples: int = 200
) -> Estimate:
    """Estimate the task length at which the share of solved questions falls to `share`.

    Where everything is solved, or the whole interval lies beyond the longest task, the value and `low` are the
    longest length tried, `high` is None and the note says "at least"; where nothing is solved, the value and
    `high` are the shortest, `low` is None and the note says "below". A crossing outside the lengths tried is
    kept, and flagged in the note; a bound more than `REACH` doublings outside is None.

    Args:
        lengths: (N,) task lengths above 0; NaN where unknown (left out, and said).
        solved: (N,) whether each was solved.
        share: the success at the horizon, inside (0, 1).
        rng: draws the bootstrap resamples.
        resamples: how many.

    Raises:
        ValueError: shapes differ, a length is not positive, no length is known, or share is outside (0, 1).
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"the share at the horizon must be inside (0, 1), not {share}")
    groups = _group(lengths, solved)
    cells = np.concatenate([groups.solved, groups.failed])
    drawn = rng.multinomial(groups.n, cells / cells.sum(), size=resamples).astype(np.float64)
    counts = np.concatenate([cells[None], drawn])  # (1 + B, 2 G); row 0 is what was seen
    crossings = _crossings(groups, counts, share)
    low, high = np.quantile(crossings[1:], [0.025, 0.975], method="nearest")
    # A point outside its own percentile interval happens in tiny samples: the interval is widened to hold it.
    point = float(crossings[0])
    return _report(groups, share, point, min(float(low), point), max(float(high), point))


def _report(groups: _Groups, share: float, point: float, low: float, high: float) -> Estimate:
    """Put crossings in log2 (possibly infinite) into an Estimate, with a note where it isn't plain."""
    first, last = math.log2(groups.shortest), math.log2(groups.longest)
    unknown = f"; questions of unknown length left out: {groups.dropped}" if groups.dropped else ""
    bounds = [2.0**bound if math.isfinite(bound) else None for bound in (low, high)]
    if groups.failed.sum() == 0 or low > last or point == math.inf:
        solved = "every length tried is solved" if groups.failed.sum() == 0 else f"success falls to {share:.0%} nowhere"
        held = groups.longest if low > last else bounds[0]
        note = f"at least {groups.longest:g}: {solved}{unknown}"
        return Estimate(groups.longest, held, None, groups.n, note=note)
    if groups.solved.sum() == 0 or point == -math.inf:
        solved = "no length tried is solved" if groups.solved.sum() == 0 else f"success reaches {share:.0%} nowhere"
        held = groups.shortest if high < first else bounds[1]
        note = f"below {groups.shortest:g}: {solved}{unknown}"
        return Estimate(groups.shortest, None, held, groups.n, note=note)
    note = ""
    if point < first:
        note = f"extrapolated: below the shortest length tried, {groups.shortest:g}"
    elif point > last:
        note = f"extrapolated: beyond the longest length tried, {groups.longest:g}"
    elif low < first or high > last:
        note = f"the interval leaves the lengths tried, {groups.shortest:g} to {groups.longest:g}"
    return Estimate(2.0**point, bounds[0], bounds[1], groups.n, note=(note + unknown).removeprefix("; "))


def _crossings(groups: _Groups, counts: Floats, share: float) -> Floats:
    """Return log2 of the crossing (B,) for each row of counts (B, 2 G), infinite where it is out of reach."""
    solved, failed = np.split(counts, 2, axis=1)
    n = counts.sum(axis=1)
    centre = float(counts[0] @ np.tile(groups.log_length, 2) / n[0])
    mixed = (solved.sum(axis=1) > 0) & (failed.sum(axis=1) > 0)
    crossings = np.where(failed.sum(axis=1) == 0, math.inf, -math.inf)
    if not mixed.any():
        return crossings
    intercept, slope = fit(groups.log_length - centre, solved[mixed], failed[mixed], RIDGE)
    placed = centre + crossings_of(intercept, slope, share)
    first, last = math.log2(groups.shortest), math.log2(groups.longest)
    placed[placed > last + REACH] = math.inf
    placed[placed < first - REACH] = -math.inf
    crossings[mixed] = placed
    return crossings


def _group(lengths: npt.ArrayLike, solved: npt.ArrayLike) -> _Groups:
    """Count the solved and failed questions of every length (or of every group of neighbouring lengths)."""
    size, hit = np.asarray(lengths, dtype=np.float64), np.asarray(solved, dtype=np.float64)
    if size.ndim != 1 or size.shape != hit.shape:
        raise ValueError(f"lengths and solved need one shape (N,), not {size.shape} and {hit.shape}")
    known = ~np.isnan(size)
    size, hit = size[known], hit[known]
    if size.size == 0:
        raise ValueError("a horizon needs at least one question of known length")
    if not (np.isfinite(size) & (size > 0)).all():
        raise ValueError("task lengths must be finite and above 0")
    if not ((hit == 0) | (hit == 1)).all():
        raise ValueError("solved must be true or false")
    distinct, group = np.unique(size, return_inverse=True)
    total = np.bincount(group).astype(np.float64)
    if distinct.size > GROUPS:  # neighbours together, by rank; a group stands at the mean of its log2 lengths
        ranks = np.cumsum(total) - total / 2.0
        _, cut = np.unique((ranks * GROUPS / size.size).astype(np.int64), return_inverse=True)
        group = cut[group]
        total = np.bincount(group).astype(np.float64)
    wins = np.bincount(group, weights=hit).astype(np.float64)
    place = np.bincount(group, weights=np.log2(size)).astype(np.float64) / total
    return _Groups(place, wins, total - wins, float(distinct[0]), float(distinct[-1]), int((~known).sum()))
