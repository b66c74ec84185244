"""Is the curve exponential? Four shapes of growth, compared by what they would have predicted and by their fit.

All are fitted to ln(horizon) by least squares, since errors of horizons are ratios; t is the clock, t > t0:

- linear            horizon = b (t - t0)
- exponential       ln horizon = a + b t
- super-exponential ln horizon = a + b t + c t^2, c >= 0: the doubling time shrinks
- S-curve           horizon = K / (1 + e^(-r (t - m))), growing: exponential first, then a ceiling

Leave-future-out: fit to all models released before a model, predict it, take the next one. AICc and BIC count the
scatter as a parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from instar.contracts.records import Floats
from instar.horizons.trend import Series

Predict = Callable[[Floats], Floats]
EARLIEST = 5
"""Models that a leave-future-out fit has at least."""
ENOUGH = 5
"""Predictions below which leave-future-out decides nothing."""


@dataclass(frozen=True)
class Fit:
    """A fitted shape: `predict` gives ln(horizon) (k,) on the clock (k,); `rest` is the residual sum of squares."""

    predict: Predict
    rest: float


@dataclass(frozen=True)
class Shape:
    """One shape against a series.

    Attributes:
        parameters: of the curve, without the scatter.
        aicc, bic: smaller is better; None where the models are too few.
        error: root mean square of the leave-future-out errors, in doublings; None without predictions.
        predictions: how many.
        note: what it degenerated to, if it did.
    """

    name: str
    parameters: int
    aicc: float | None
    bic: float | None
    error: float | None
    predictions: int
    note: str = ""


@dataclass(frozen=True)
class ShapeComparison:
    """All shapes, and what may be said: a shape's name, or "can't tell"."""

    shapes: tuple[Shape, ...]
    by_prediction: str
    by_fit: str


def compare(series: Series) -> ShapeComparison:
    """Compare the shapes on a trend of models in any order."""
    series = series.in_order()
    at, y = _scaled(series.at), np.log(series.value)
    errors = {name: _ahead(fit, at, y) for name, (fit, _) in SHAPES.items()}
    shapes = tuple(_shape(name, at, y, errors[name]) for name in SHAPES)
    return ShapeComparison(shapes, _best_ahead(errors), _best_fit(shapes))


def fitted(name: str, series: Series) -> Predict:
    """Return a shape's prediction of ln(horizon) (k,) at places (k,) on the series' own clock."""
    first, unit = float(series.at.min()), _unit(series.at)
    found = SHAPES[name][0](_scaled(series.at), np.log(series.value))
    return lambda clock: found.predict((np.asarray(clock, dtype=np.float64) - first) / unit)


def _unit(at: Floats) -> float:
    return float(np.ptp(at)) or 1.0


def _scaled(at: Floats) -> Floats:
    return np.asarray((at - at.min()) / _unit(at), dtype=np.float64)


# --- the shapes, on a clock scaled to 0..1 ----------------------------------------------------------------------------


def _linear(t: Floats, y: Floats) -> Fit:
    starts = t.min() - np.geomspace(1e-3, 100.0, 600) * (float(np.ptp(t)) or 1.0)
    heights = np.log(t - starts[:, None])
    level = (y - heights).mean(axis=1)
    rest = ((y - heights - level[:, None]) ** 2).sum(axis=1)
    best = int(np.argmin(rest))
    start, up = float(starts[best]), float(level[best])
    return Fit(lambda clock: up + np.log(np.maximum(clock - start, 1e-12)), float(rest[best]))


def _exponential(t: Floats, y: Floats) -> Fit:
    return _polynomial(t, y, 1)


def _super_exponential(t: Floats, y: Floats) -> Fit:
    if t.size < 3:
        return _exponential(t, y)
    curved = _polynomial(t, y, 2)
    middle = curved.predict(np.array([0.0, 0.5, 1.0]))
    bends_up = float(middle[0] - 2.0 * middle[1] + middle[2]) > 0
    return curved if bends_up else _exponential(t, y)


def _polynomial(t: Floats, y: Floats, degree: int) -> Fit:
    design = np.vander(t, degree + 1)
    found = np.linalg.lstsq(design, y, rcond=None)[0]
    return Fit(lambda clock: np.asarray(np.polyval(found, clock)), float(((y - design @ found) ** 2).sum()))


def _s_curve(t: Floats, y: Floats) -> Fit:
    """Search rates and middles on a grid, finer twice; the ceiling is in closed form."""
    span = float(np.ptp(t)) or 1.0
    rates, middles = np.geomspace(0.3, 60.0, 40) / span, t.min() + span * np.linspace(-1.0, 4.0, 101)
    for _ in range(3):
        r, m = (grid.ravel() for grid in np.meshgrid(rates, middles, indexing="ij"))
        heights = -np.logaddexp(0.0, -r[:, None] * (t - m[:, None]))
        level = (y - heights).mean(axis=1)
        rest = ((y - heights - level[:, None]) ** 2).sum(axis=1)
        best = int(np.argmin(rest))
        i, j = divmod(best, middles.size)
        rates = np.geomspace(rates[max(i - 1, 0)], rates[min(i + 1, rates.size - 1)], 21)
        middles = np.linspace(middles[max(j - 1, 0)], middles[min(j + 1, middles.size - 1)], 21)
    rate, middle, up = float(r[best]), float(m[best]), float(level[best])
    return Fit(lambda clock: up - np.logaddexp(0.0, -rate * (clock - middle)), float(rest[best]))


SHAPES: dict[str, tuple[Callable[[Floats, Floats], Fit], int]] = {
    "linear": (_linear, 2),
    "exponential": (_exponential, 2),
    "super-exponential": (_super_exponential, 3),
    "S-curve": (_s_curve, 3),
}

# --- comparing ------------------------------------------------------------------------------------------------------


def _shape(name: str, t: Floats, y: Floats, errors: Floats) -> Shape:
    fit, parameters = SHAPES[name]
    n, k, rest = t.size, parameters + 1, fit(t, y).rest
    base = n * math.log(max(rest, 1e-12) / n)
    aicc = base + 2 * k + 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else None
    error = math.sqrt(float((errors**2).mean())) if errors.size else None
    straight = name == "super-exponential" and abs(rest - _exponential(t, y).rest) < 1e-12
    note = "no upward curvature: the same as exponential" if straight else ""
    return Shape(name, parameters, aicc, base + k * math.log(n) if n > k + 1 else None, error, errors.size, note)


def _ahead(fit: Callable[[Floats, Floats], Fit], t: Floats, y: Floats) -> Floats:
    """Return the errors, in doublings, of predicting each model from all that were released before its day."""
    errors = []
    for number in range(t.size):
        known = t < t[number]
        if known.sum() >= max(EARLIEST, t.size // 2):
            said = float(fit(t[known], y[known]).predict(t[number : number + 1])[0])
            errors.append((y[number] - said) / math.log(2.0))
    return np.asarray(errors, dtype=np.float64)


def _best_ahead(errors: dict[str, Floats]) -> str:
    """Name the shape whose squared errors are smaller than each other's by two standard errors, or can't tell."""
    if next(iter(errors.values())).size < ENOUGH:
        return "can't tell"
    squares = {name: found**2 for name, found in errors.items()}
    best = min(squares, key=lambda name: float(squares[name].mean()))
    for name, other in squares.items():
        worse = other - squares[best]
        # A shape that fell back on another one is no rival.
        if name != best and worse.any() and worse.mean() < 2.0 * worse.std(ddof=1) / math.sqrt(worse.size):
            return "can't tell"
    return best


def _best_fit(shapes: tuple[Shape, ...]) -> str:
    """Name the shape whose AICc and BIC are both smaller by 2 at least than the others', or can't tell."""
    if any(shape.aicc is None or shape.bic is None for shape in shapes):
        return "can't tell"
    best = min(shapes, key=lambda shape: shape.aicc or 0.0)
    rivals = [shape for shape in shapes if shape is not best and not shape.note]
    clear = all(
        (rival.aicc or 0.0) - (best.aicc or 0.0) >= 2 and (rival.bic or 0.0) - (best.bic or 0.0) >= 2
        for rival in rivals
    )
    return best.name if clear else "can't tell"
