"""Small plots for a terminal, in plain text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from instar.contracts.records import Floats

WIDTH, HEIGHT = 72, 14
Bar = tuple[str, float | None, float | None, float | None]


def length(minutes: float | None) -> str:
    """Return minutes as people say them: 42 s, 3.5 min, 2.4 h, 1,230 h (never days: whose?)."""
    if minutes is None:
        return "-"
    if minutes < 1.0:
        return f"{minutes * 60:.3g} s"
    if minutes < 90.0:
        return f"{minutes:.3g} min"
    hours = minutes / 60.0
    return f"{hours:.3g} h" if hours < 1000 else f"{hours:,.0f} h" if hours < 1e7 else f"{hours:.1e} h"


def bars(rows: Sequence[Bar], width: int = 40, show: Callable[[float | None], str] = length) -> list[str]:
    """Draw a line per name with its interval on one log axis; an arrow where it is open.

    Args:
        rows: name, low, value, high; None is open or unknown.
        width: columns of the axis.
        show: puts a length into words.
    """
    known = [end for _, *ends in rows for end in ends if end is not None]
    if not known:
        return []
    first, last = math.log2(min(known)), math.log2(max(known))
    unit = (width - 1) / ((last - first) or 1.0)
    label = max(len(name) for name, *_ in rows)
    lines = []
    for name, low, value, high in rows:
        cells = [" "] * width
        at = [None if end is None else round((math.log2(end) - first) * unit) for end in (low, value, high)]
        begin, end = (0 if at[0] is None else at[0]), (width - 1 if at[2] is None else at[2])
        for column in range(begin, end + 1):
            cells[column] = "-"
        cells[begin], cells[end] = "<" if at[0] is None else "|", ">" if at[2] is None else "|"
        if at[1] is not None and cells[at[1]] not in "<>":
            cells[at[1]] = "o"
        lines.append(f"{name:<{label}}  {''.join(cells)}".rstrip())
    lines.append(f"{'':<{label}}  {show(min(known))}{show(max(known)):>{width - len(show(min(known)))}}")
    return lines


def scatter(at: Floats, value: Floats, best: Sequence[bool], fitted: Floats, labels: tuple[str, str]) -> list[str]:
    """Draw horizons (n,) over a clock, the line through them on `WIDTH` columns (WIDTH,), both on a log axis.

    Args:
        at: (n,) on the clock.
        value: (n,) horizons.
        best: whether each is in the trend: drawn as o, the others as a dot.
        fitted: (WIDTH,) horizons of the line, from the first place on the clock to the last.
        labels: of the clock's first and last place.
    """
    low = math.log2(min(float(value.min()), float(fitted.min())))
    high = math.log2(max(float(value.max()), float(fitted.max())))
    cells = [[" "] * WIDTH for _ in range(HEIGHT)]

    def row(length: float) -> int:
        return HEIGHT - 1 - round((math.log2(length) - low) / ((high - low) or 1.0) * (HEIGHT - 1))

    for column, height in enumerate(fitted):
        cells[row(float(height))][column] = "-"
    span = float(at.max() - at.min()) or 1.0
    for x, y, inside in sorted(zip(at, value, best, strict=True), key=lambda point: point[2]):
        cells[row(float(y))][round((float(x) - float(at.min())) / span * (WIDTH - 1))] = "o" if inside else "."
    ticks = {
        HEIGHT - 1: 2.0**low,
        0: 2.0**high,
        HEIGHT // 2: 2.0 ** (high + (low - high) * (HEIGHT // 2) / (HEIGHT - 1)),
    }
    lines = [f"{length(ticks[n]) if n in ticks else '':>9} |{''.join(line)}".rstrip() for n, line in enumerate(cells)]
    return [*lines, f"{'':>10}+{'-' * WIDTH}", f"{'':>11}{labels[0]}{labels[1]:>{WIDTH - len(labels[0])}}"]
