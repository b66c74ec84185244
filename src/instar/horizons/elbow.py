"""One elbow in a trend: did the doubling time change, and when? "No elbow" is an answer.

The line in ln(horizon) may bend once, staying connected: y = a + b t + d max(0, t - c). The bend is looked for over the
clock between the second and the last but one distinct date (two at least on each side of it). The statistic is the
largest share of the residual sum of squares that any bend explains. It has no standard distribution, since c is
chosen to fit; but on a straight trend with normal scatter it doesn't depend on height, slope or scatter, so its
distribution at the very dates is simulated: that is the parametric bootstrap, exact up to simulation.

Models chosen as state of the art do not scatter like that: the first is one by birth, later ones by luck, and the
chosen bend by themselves (in 3 of 10 straight trends, `bench/horizon.py`). Where the models that they were chosen from
are known, a second bootstrap draws all of these around one straight line and chooses anew; the larger p counts.

The interval of c is a posterior under flat priors (1/sigma for the scatter): p(c | y) ~ |X'X|^-1/2 RSS(c)^-(n-3)/2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from instar.contracts.evidence import Estimate
from instar.contracts.records import Floats
from instar.horizons.trend import Series, line

LEVEL = 0.04
"""A bend counts below this p: it leaves room to the 5 % of false alarms that are promised."""
LEAST = 7
"""Models below which no elbow is looked for."""
SIMULATIONS = 9999
CHOSEN = 999
"""Simulations of the choice of models."""
_PLACES = 200
_SEED = 20261123


@dataclass(frozen=True)
class Elbow:
    """What the trend says about a bend.

    Attributes:
        found: whether straight trends bend so much in less than `LEVEL` of the cases; None: can't tell (too few
            models).
        p: share of straight trends that bend as much, the larger of both bootstraps.
        p_plain: of the first bootstrap, as if the models had not been chosen.
        at: place on the clock with its 95 % interval; given even where no elbow is found, then as an estimate only.
        before, after: doubling times on both sides, in units of the clock; None for a horizon that doesn't grow.
    """

    found: bool | None
    p: float | None
    p_plain: float | None
    at: Estimate | None
    before: float | None
    after: float | None
    n: int


def elbow(series: Series, pool: Series | None = None, simulations: int = SIMULATIONS, chosen: int = CHOSEN) -> Elbow:
    """Look for one elbow in a trend of models in any order.

    Args:
        series: the models of the trend.
        pool: all models that these were chosen from as state of the art; None where they were not chosen.
        simulations: of the first bootstrap.
        chosen: simulations of the second.
    """
    series = series.in_order()
    n, y = len(series), np.log(series.value)
    places = candidates(series.at)
    if n < LEAST or not places.size:
        return Elbow(None, None, None, None, None, None, n)
    directions = hinges(series.at, places)
    gains = (directions @ y) ** 2
    rest = _straight_rest(series.at, y)
    best = int(np.argmax(gains))
    statistic = float(gains[best] / rest) if rest > 0 else 0.0
    plain = (1 + int((null(series.at, simulations) >= statistic - 1e-12).sum())) / (simulations + 1)
    p = plain if pool is None or len(pool) <= n else max(plain, _p_of_chosen(pool, statistic, n, chosen))
    before, after = _slopes(series.at, y, float(places[best]))
    low, high = _interval(series.at, places, rest - gains, n)
    at = Estimate(float(places[best]), low, high, n, "estimated")
    return Elbow(p <= LEVEL, p, plain, at, _doubling(before), _doubling(after), n)


def candidates(at: Floats) -> Floats:
    """Return places (C,) where the line may bend: inside the second and the last but one date."""
    dates = np.unique(at)
    if dates.size < 5:
        return np.zeros(0)
    return np.linspace(dates[1], dates[-2], _PLACES)


def hinges(at: Floats, places: Floats) -> Floats:
    """Return unit vectors (C, n): what a bend at each place adds to a straight line's fit at the dates (n,)."""
    bend = np.maximum(0.0, at - places[:, None])
    design = np.linalg.qr(np.stack([np.ones_like(at), at - at.mean()], axis=1))[0]
    rest = bend - bend @ design @ design.T
    return np.asarray(rest / np.linalg.norm(rest, axis=1, keepdims=True), dtype=np.float64)


def null(at: Floats, simulations: int) -> Floats:
    """Return the statistic (simulations,) on straight trends at these dates (n,); seeded, so that it is repeatable."""
    noise = np.random.default_rng(_SEED).standard_normal((simulations, at.size))
    design = np.linalg.qr(np.stack([np.ones_like(at), at - at.mean()], axis=1))[0]
    rest = (noise**2).sum(axis=1) - ((noise @ design) ** 2).sum(axis=1)
    return np.asarray(((noise @ hinges(at, candidates(at)).T) ** 2).max(axis=1) / rest, dtype=np.float64)


def statistic_of(at: Floats, y: Floats) -> float:
    """Return the statistic of one trend, y (n,) at dates (n,) in order; 0 where it can't bend."""
    places, rest = candidates(at), _straight_rest(at, y)
    return float(((hinges(at, places) @ y) ** 2).max()) / rest if places.size and rest > 0 else 0.0


def _p_of_chosen(pool: Series, statistic: float, n: int, simulations: int) -> float:
    """Return the share of straight trends whose state of the art bends as much, of those with enough of it.

    Shares of the residual are compared as F ratios, since every trend has its own number of models.
    """
    pool, rng = pool.in_order(), np.random.default_rng(_SEED)
    fitted = line(pool)
    straight = fitted.at(pool.at)
    seen, as_much, drawn = _ratio(statistic, n), 0, 0
    trends = straight + fitted.scatter * rng.standard_normal((simulations, len(pool)))
    for y, best in zip(trends, _records(pool.at, trends), strict=True):
        if best.sum() >= LEAST:
            drawn += 1
            as_much += _ratio(statistic_of(pool.at[best], y[best]), int(best.sum())) >= seen
    return (1 + as_much) / (1 + drawn)


def _records(at: Floats, y: Floats) -> npt.NDArray[np.bool_]:
    """Return which models (S, n) of trends y (S, n) are state of the art; dates (n,) in order, with ties."""
    last = np.searchsorted(at, at, side="right") - 1  # of the same day
    return np.asarray(y >= np.maximum.accumulate(y, axis=1)[:, last])


def _ratio(statistic: float, n: int) -> float:
    return (n - 3) * statistic / max(1.0 - statistic, 1e-12)


def _straight_rest(at: Floats, y: Floats) -> float:
    design = np.linalg.qr(np.stack([np.ones_like(at), at - at.mean()], axis=1))[0]
    return float(y @ y - ((y @ design) ** 2).sum())


def _slopes(at: Floats, y: Floats, place: float) -> tuple[float, float]:
    design = np.stack([np.ones_like(at), at - at.mean(), np.maximum(0.0, at - place)], axis=1)
    _, before, bend = np.linalg.lstsq(design, y, rcond=None)[0]
    return float(before), float(before + bend)


def _doubling(slope: float) -> float | None:
    return math.log(2.0) / slope if slope > 0 else None


def _interval(at: Floats, places: Floats, rests: Floats, n: int) -> tuple[float, float]:
    """Return the central 95 % of the posterior of the place, on the grid."""
    bend = np.maximum(0.0, at - places[:, None])
    design = np.linalg.qr(np.stack([np.ones_like(at), at - at.mean()], axis=1))[0]
    free = np.linalg.norm(bend - bend @ design @ design.T, axis=1)  # |X'X|^1/2 up to a constant
    log_density = -np.log(free) - (n - 3) / 2.0 * np.log(np.maximum(rests, 1e-300))
    mass = np.cumsum(np.exp(log_density - log_density.max()))
    low, high = np.searchsorted(mass / mass[-1], [0.025, 0.975])
    return float(places[low]), float(places[min(int(high), places.size - 1)])
