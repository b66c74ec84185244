"""Reads a metric out of what a command printed: JSON or `name: number`, strictly, the last one counts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from instar.contracts.text import printable

MOST_ITEMS = 1_000_000
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|[-+]?inf(?:inity)?"


class NoMetric(ValueError):
    """There is no number that could be used; says what there was instead."""


def read(text: str, name: str) -> list[float]:
    """Return the values of the metric in a command's output: one, or one per item.

    The last line that is a JSON object with the name as a key counts; without any, the last line `name: number` or
    `name = number` (spaces do not matter, upper and lower case do).

    Raises:
        NoMetric: there is none, or it is NaN, infinite, empty or no number.
    """
    plain = re.compile(rf"\s*{re.escape(name)}\s*[:=]\s*({_NUMBER})\s*", re.IGNORECASE)
    found: list[float] | None = None
    for line in reversed(text.splitlines()):
        if line.lstrip().startswith("{"):
            found = _from_json(line, name)
        elif found is None and (match := plain.fullmatch(line)) and line.lstrip().startswith(name):
            found = [float(match[1])]
        if found is not None:
            break
    if found is None:
        last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
        said = f"its last line is '{printable(last, 80)}'" if last else "it printed nothing"
        raise NoMetric(f"no line '{name}: NUMBER' and no JSON object with '{name}': {said}")
    if not all(math.isfinite(value) for value in found):
        raise NoMetric(f"'{name}' is not finite: {next(value for value in found if not math.isfinite(value))}")
    return found


def _from_json(line: str, name: str) -> list[float] | None:
    """Return the values in a line of JSON, or None where it is none or has no such key."""
    try:
        given = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, dict) or name not in given:
        return None
    value = given[name]
    values: Sequence[object] = value if isinstance(value, list) else [value]
    if not values or len(values) > MOST_ITEMS:
        raise NoMetric(f"'{name}' has {len(values)} values, 1 to {MOST_ITEMS} are allowed")
    wrong = next((one for one in values if isinstance(one, bool) or not isinstance(one, int | float)), None)
    if wrong is not None or any(one is None for one in values):
        raise NoMetric(f"'{name}' holds {printable(json.dumps(wrong), 80)}, which is no number")
    try:
        return [float(one) for one in values]  # type: ignore[arg-type]
    except OverflowError:
        raise NoMetric(f"'{name}' holds a number that is too large") from None
