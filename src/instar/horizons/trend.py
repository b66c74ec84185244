"""How fast horizons grow: the doubling time as METR publishes it, and an interval that carries the horizons' own.

As published: ordinary unweighted least squares of ln(horizon) on the release date in days, over the models that were
state of the art at their release (horizon at least that of every model released on or before that date);
doubling time = ln 2 / slope. METR's figures come out to 0.01 day (`tests/horizons/test_trend.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from instar.contracts.evidence import Estimate
from instar.contracts.records import Floats

_Z = 1.959963984540054
DRAWS = 4000


@dataclass(frozen=True)
class Series:
    """Horizons over a clock that runs forward: release dates in days, or CPU seconds, or generations.

    Attributes:
        names: of the models (n).
        at: (n,) where each stands on the clock.
        value: (n,) horizons, above 0.
        low, high: (n,) 95 % intervals; NaN where there is none (an open end is no interval).
    """

    names: tuple[str, ...]
    at: Floats
    value: Floats
    low: Floats
    high: Floats

    def __post_init__(self) -> None:
        if not self.at.shape == self.value.shape == self.low.shape == self.high.shape == (len(self.names),):
            raise ValueError("names, at, value, low and high need one entry per model")
        if not (np.isfinite(self.at).all() and (np.isfinite(self.value) & (self.value > 0)).all()):
            raise ValueError("horizons must be finite and above 0, and stand somewhere on the clock")

    def __len__(self) -> int:
        return len(self.names)

    def kept(self, keep: npt.NDArray[np.bool_]) -> Series:
        """Return the models (n,) that are kept."""
        names = tuple(name for name, wanted in zip(self.names, keep, strict=True) if wanted)
        return Series(names, self.at[keep], self.value[keep], self.low[keep], self.high[keep])

    def in_order(self) -> Series:
        """Return the same models by their place on the clock."""
        order = np.argsort(self.at, kind="stable")
        names = tuple(self.names[i] for i in order)
        return replace(self, names=names, at=self.at[order], value=self.value[order], low=self.low[order],
                       high=self.high[order])  # fmt: skip

    @cached_property
    def errors(self) -> tuple[Floats, Floats]:
        """Deviations of ln(horizon) below and above, each (n,): the 95 % interval as two halves of log-normals.

        0 where there is no interval on that side.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            below = np.log(self.value / self.low) / _Z
            above = np.log(self.high / self.value) / _Z
        return np.where(below > 0, below, 0.0), np.where(above > 0, above, 0.0)


@dataclass(frozen=True)
class Line:
    """Least squares of ln(horizon) on the clock.

    Attributes:
        middle: mean of the clock; `height` is ln(horizon) there.
        slope: per unit of the clock.
        scatter: residual deviation with n - 2 degrees of freedom; 0 for two points.
        spread: sum of squared distances from the middle.
        noise: deviation of a new horizon from the line: the scatter, or the horizons' own errors where these are
            larger (errors that models share hide in a small scatter).
    """

    middle: float
    height: float
    slope: float
    scatter: float
    spread: float
    n: int
    noise: float

    def at(self, clock: npt.ArrayLike) -> Floats:
        """Return ln(horizon) at places (k,) on the clock."""
        return self.height + self.slope * (np.asarray(clock, dtype=np.float64) - self.middle)

    def error(self, clock: npt.ArrayLike) -> Floats:
        """Return the standard error (k,) of a new horizon's logarithm there."""
        away = np.asarray(clock, dtype=np.float64) - self.middle
        return np.asarray(self.noise * np.sqrt(1.0 + 1.0 / self.n + away**2 / self.spread), dtype=np.float64)

    def quantiles(self, clock: npt.ArrayLike, levels: Sequence[float]) -> Floats:
        """Return quantiles (k, q) of a new horizon: Student's t with n - 2 degrees of freedom, in the log."""
        from scipy import special

        t = special.stdtrit(self.n - 2, np.asarray(levels, dtype=np.float64))
        return np.asarray(np.exp(self.at(clock)[:, None] + self.error(clock)[:, None] * t), dtype=np.float64)


def state_of_the_art(at: Floats, value: Floats) -> npt.NDArray[np.bool_]:
    """Return (n,) whether each is at least as long as all that came no later."""
    return np.asarray([value[i] >= value[at <= at[i]].max() for i in range(at.size)], dtype=np.bool_)


def line(series: Series) -> Line:
    """Fit the published line.

    Raises:
        ValueError: fewer than two models, or all at one place of the clock.
    """
    y, middle = np.log(series.value), float(series.at.mean()) if len(series) else 0.0
    away = series.at - middle
    spread = float(away @ away)
    if len(series) < 2 or spread <= 0:
        raise ValueError("a trend needs two models at different times")
    slope = float(away @ y / spread)
    residual = y - y.mean() - slope * away
    scatter = math.sqrt(float(residual @ residual) / (len(series) - 2)) if len(series) > 2 else 0.0
    below, above = series.errors
    noise = max(scatter, math.sqrt(float(((below + above) ** 2 / 4.0).mean())))
    return Line(middle, float(y.mean()), slope, scatter, spread, len(series), noise)


def doubling(series: Series, rng: np.random.Generator, draws: int = DRAWS) -> Estimate:
    """Estimate the doubling time in units of the clock.

    The value is the published one. The interval is of ln 2 / slope over draws in which every horizon moves within its
    own error (two halves of a log-normal, independent of the others) and around the line by the scatter that those
    errors don't explain; that scatter is drawn too, since few models say little about it. Errors that models share
    (they are asked the same tasks) move the line's height more than its slope, so that the interval is rather too wide.

    Args:
        series: the models of the trend, already chosen.
        rng: draws both kinds of error.
        draws: how often.
    """
    fitted = line(series)
    slopes = _slopes(series, fitted, rng, draws)
    note = "" if slopes is not None else "two models: the interval has no scatter to go by"
    if fitted.slope <= 0:
        return Estimate(None, None, None, len(series), note="the horizons do not grow")
    value = math.log(2.0) / fitted.slope
    if slopes is None:
        return Estimate(value, None, None, len(series), "estimated", note)
    low, high = (float(end) for end in np.quantile(slopes, [0.025, 0.975]))
    if low <= 0:
        note = "no growth is not excluded"
    slowest = math.log(2.0) / low if low > 0 else None
    return Estimate(value, math.log(2.0) / high, slowest, len(series), "estimated", note)


def doubling_of_draws(at: Floats, draws: Floats, keep: npt.NDArray[np.bool_]) -> tuple[float, float | None] | None:
    """Return the 95 % interval of the doubling time from joint draws of all horizons, as the hierarchical bootstrap's.

    Here errors that models share are carried as they are; scatter around the line is not in it.

    Args:
        at: (M,) places on the clock.
        draws: (B, M) log2 horizons; draws with an infinite one are left out.
        keep: (M,) the models of the trend.

    Returns:
        None where fewer than half of the draws are finite, or growth is nowhere.
    """
    y, away = draws[:, keep], at[keep] - at[keep].mean()
    y = y[np.isfinite(y).all(axis=1)]
    if 2 * len(y) < len(draws) or keep.sum() < 2 or not away.any():
        return None
    low, high = np.quantile(y @ away / float(away @ away), [0.025, 0.975])
    return (1.0 / float(high), 1.0 / float(low) if low > 0 else None) if high > 0 else None


def _slopes(series: Series, fitted: Line, rng: np.random.Generator, draws: int) -> Floats | None:
    """Return slopes (draws,) under both kinds of error, or None where two models leave no scatter."""
    n = len(series)
    below, above = series.errors
    if n < 3 and not (below + above).any():
        return None
    z = rng.standard_normal((draws, n))
    moved = z * np.where(z < 0, below, above)
    own = float(((below + above) ** 2 / 4.0).mean())
    if n > 2:  # the scatter's posterior under 1/sigma, less what the horizons' errors explain
        total = fitted.scatter**2 * (n - 2) / rng.chisquare(n - 2, draws)
        moved += np.sqrt(np.maximum(total - own, 0.0))[:, None] * rng.standard_normal((draws, n))
    away = series.at - fitted.middle
    return np.asarray(fitted.slope + moved @ away / fitted.spread, dtype=np.float64)
