"""How numbers, durations and counts are put into words, the same on every page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from instar.contracts.text import printable, terminal


def number(value: object) -> str:
    """Return a figure to four significant digits, `open` where there is none."""
    if value is None:
        return "open"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return printable(value)
    if isinstance(value, int):
        return str(value)
    if abs(value) < 1e-12:  # what is left of a subtraction
        return "0"
    return f"{value:.4f}".rstrip("0").rstrip(".") if 0.001 <= abs(value) < 1 else f"{value:.4g}"


def one_line(text: str) -> str:
    """Return text as one line of a terminal, sign for sign, so that columns and styles stay where they are."""
    return terminal(text).translate({ord("\n"): " ", ord("\t"): " "})


def interval(estimate: Mapping[str, Any], shown: Callable[[Any], str] = number) -> str:
    """Return a figure with its 95 % interval, such as "12.1 (10.8 to 13.6)"; an open end is said in words."""
    value, low, high = estimate.get("value"), estimate.get("low"), estimate.get("high")
    if value is None:
        return "not measured"
    if high is None and low is None:
        return f"{shown(value)} (no interval)"
    if high is None:
        return f"at least {shown(low)}"
    if low is None:
        return f"below {shown(high)}"
    return f"{shown(value)} ({shown(low)} to {shown(high)})"


def brief(estimate: Mapping[str, Any] | None) -> str:
    """Return a figure with its interval to three digits, for a column."""
    return interval(estimate or {}, "{:.3g}".format)


def clock_time(seconds: float) -> str:
    """Return seconds as a clock shows them: 0:07, 2:45 or 1:02:45."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours}:{left:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """Return seconds as people say them: 41 s, 3.2 min, 5.1 h."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def share(part: float, whole: float) -> str:
    """Return a share in per cent, `none` where there is nothing to share."""
    return f"{100 * part / whole:.1f} %" if whole else "none"


def count(number_of: int, noun: str) -> str:
    """Return a count with its noun, in the plural where that is right."""
    return f"{number_of} {noun}" if number_of == 1 else f"{number_of} {noun}s"
