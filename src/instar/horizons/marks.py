"""Reads numbers and scores out of cells, and says what is wrong with one in the words of its own kind."""

from __future__ import annotations

import math
from typing import Any

from instar.contracts.errors import BadInput

WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""As Inspect reads them (its `value_to_float`): correct, incorrect, partially correct, no answer."""
_SCORES = "Scores are numbers in 0..1, yes or no, true or false, or Inspect's C, P, I, N."


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty: None, blank text, NaN."""
    return value is None or (isinstance(value, str) and not value.strip()) or (
        isinstance(value, float) and math.isnan(value)
    )  # fmt: skip


def number_in(value: Any, where: str, column: str, hint: str = "") -> float:
    """Read a finite number; text with a unit, such as 2h, is none.

    Raises:
        BadInput: it is not.
    """
    hint = hint or "Give numbers without units; lengths are in minutes."
    try:
        found = float(value)
    except (TypeError, ValueError):
        if value in (None, ""):
            raise BadInput(f"{where}: column '{column}': empty", "Fill it, or leave the row out.") from None
        raise BadInput(f"{where}: column '{column}': '{value}' is no number", hint) from None
    if not math.isfinite(found):
        raise BadInput(f"{where}: column '{column}': {found} is not finite", "Give a number.")
    return found


def score_in(value: Any, where: str, column: str) -> float:
    """Read a score: a number in 0..1, a word or a letter as Inspect reads it.

    Raises:
        BadInput: it is none.
    """
    if isinstance(value, str):
        text = value.strip()
        known = LETTERS.get(text, WORDS.get(text.lower()))
        if known is not None:
            return known
    found = number_in(value, where, column, _SCORES)
    if not 0.0 <= found <= 1.0:
        per_cent = " Divide per cent by 100." if 1.0 < found <= 100.0 else ""
        raise BadInput(f"{where}: column '{column}': {found:g} is outside 0..1", _SCORES + per_cent)
    return found


def mark_in(value: Any, where: str, column: str) -> bool:
    """Read a mark that is on or off; an empty cell is off.

    Raises:
        BadInput: it is neither.
    """
    if is_missing(value):
        return False
    found = score_in(value, where, column)
    if found not in (0.0, 1.0):
        raise BadInput(f"{where}: column '{column}': {found:g} is neither yes nor no", "Give 1 or 0, true or false.")
    return bool(found)
