"""What a design may contain: typed ranges that can be sampled, checked, varied and encoded.

A `Space` maps every parameter to a range. `encode` places a design in the unit cube, one axis per number
and one axis per option of a choice, which is what a designer learns on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from instar.errors import BadInput

Value = bool | int | float | str
Parameters = Mapping[str, Value]


def _value_at(unit: float, low: float, high: float, log: bool) -> float:
    exact = low * (high / low) ** unit if log else low + (high - low) * unit
    return float(min(max(exact, low), high))  # rounding may lead a hair outside


def _place_of(number: float, low: float, high: float, log: bool) -> float:
    return math.log(number / low) / math.log(high / low) if log else (number - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Real:
    """A real number in [low, high]; `log` where ratios matter rather than differences."""

    low: float
    high: float
    log: bool = False

    def from_unit(self, unit: float) -> Value:
        """Return the value at position `unit` in [0, 1]."""
        return _value_at(unit, self.low, self.high, self.log)

    def to_unit(self, value: Value) -> float:
        """Return the position of `value` in [0, 1]."""
        return _place_of(float(value), self.low, self.high, self.log)

    def to_units(self, values: Sequence[Value]) -> npt.NDArray[np.float64]:
        """Return the positions of many values, (N,); `to_unit` up to rounding, which may differ between CPUs."""
        numbers = np.array(values, dtype=np.float64)
        if self.log:
            return np.asarray(np.log(numbers / self.low) / math.log(self.high / self.low))
        return (numbers - self.low) / (self.high - self.low)

    def problem(self, value: object) -> str | None:
        """Say what is wrong with `value`, or None."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"a number in [{self.low:g}, {self.high:g}] is needed"
        if not self.low <= value <= self.high:  # also refuses NaN
            return f"{value} is outside [{self.low:g}, {self.high:g}]"
        return None


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number in [low, high]; `log` where ratios matter rather than differences."""

    low: int
    high: int
    log: bool = False

    def from_unit(self, unit: float) -> Value:
        """Return the value at position `unit` in [0, 1]."""
        return round(_value_at(unit, self.low, self.high, self.log))

    def to_unit(self, value: Value) -> float:
        """Return the position of `value` in [0, 1]."""
        return _place_of(float(value), self.low, self.high, self.log)

    def to_units(self, values: Sequence[Value]) -> npt.NDArray[np.float64]:
        """Return the positions of many values, (N,)."""
        return Real(self.low, self.high, self.log).to_units(values)

    def problem(self, value: object) -> str | None:
        """Say what is wrong with `value`, or None."""
        if isinstance(value, bool) or not isinstance(value, int):
            return f"a whole number in [{self.low}, {self.high}] is needed"
        if not self.low <= value <= self.high:
            return f"{value} is outside [{self.low}, {self.high}]"
        return None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few options without an order."""

    options: tuple[Value, ...]

    def from_unit(self, unit: float) -> Value:
        """Return the option at position `unit` in [0, 1]."""
        return self.options[min(int(unit * len(self.options)), len(self.options) - 1)]

    def to_unit(self, value: Value) -> float:
        """Return the middle of the option's share of [0, 1]."""
        return (self.options.index(value) + 0.5) / len(self.options)

    def problem(self, value: object) -> str | None:
        """Say what is wrong with `value`, or None."""
        if any(value == option and type(value) is type(option) for option in self.options):
            return None
        return f"{value!r} is not one of {', '.join(map(repr, self.options))}"


Range = Real | Integer | Choice


@dataclass(frozen=True)
class Space:
    """The named ranges of a lab's (or a designer's) parameters, in a fixed order."""

    ranges: Mapping[str, Range]

    def check(self, parameters: Mapping[str, object], where: str) -> None:
        """Raise `BadInput` naming `where` and the key unless every parameter is there and inside its range."""
        for name in parameters:
            if name not in self.ranges:
                raise BadInput(f"{where}: unknown parameter '{name}'", f"Known: {', '.join(self.ranges)}.")
        for name, allowed in self.ranges.items():
            if name not in parameters:
                raise BadInput(f"{where}: parameter '{name}' is missing", "Give it a value.")
            problem = allowed.problem(parameters[name])
            if problem:
                raise BadInput(f"{where}: parameter '{name}': {problem}", "Choose a value inside the range.")

    def sample(self, rng: np.random.Generator) -> dict[str, Value]:
        """Draw every parameter uniformly on its own scale."""
        units = rng.random(len(self.ranges)).tolist()
        return {name: allowed.from_unit(unit) for (name, allowed), unit in zip(self.ranges.items(), units, strict=True)}

    def vary(self, parameters: Parameters, share: float, scale: float, rng: np.random.Generator) -> dict[str, Value]:
        """Return a neighbour: each parameter changes with probability `share` (at least one does).

        Numbers move by a normal step of `scale` in unit coordinates, reflected at the ends; choices are redrawn.
        """
        varied = dict(parameters)
        if not self.ranges:
            return varied
        chosen = (rng.random(len(self.ranges)) < share).tolist()
        chosen[rng.integers(len(self.ranges))] = True
        for (name, allowed), hit in zip(self.ranges.items(), chosen, strict=True):
            if not hit:
                continue
            if isinstance(allowed, Choice):
                varied[name] = allowed.from_unit(float(rng.random()))
            else:
                step = allowed.to_unit(parameters[name]) + scale * float(rng.standard_normal())
                varied[name] = allowed.from_unit(_reflect(step))
        return varied

    def encode(self, designs: Sequence[Parameters]) -> npt.NDArray[np.float64]:
        """Place designs in the unit cube: (N, D), numbers on one axis, choices one-hot."""
        columns: list[npt.NDArray[np.float64]] = []
        for name, allowed in self.ranges.items():
            values = [design[name] for design in designs]
            if isinstance(allowed, Choice):
                columns += [np.array([value == option for value in values], dtype=float) for option in allowed.options]
            else:
                columns.append(allowed.to_units(values))
        return np.stack(columns, axis=1) if columns else np.zeros((len(designs), 0))


def _reflect(unit: float) -> float:
    """Fold a real number into [0, 1] by reflection at both ends."""
    folded = abs(unit) % 2.0
    return 2.0 - folded if folded > 1.0 else folded
