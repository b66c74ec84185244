"""JSON as RFC 8259 has it and no reader can misread: UTF-8, every key once, finite numbers, no halves of characters."""

from __future__ import annotations

import json
import math
from typing import Any


def parse(data: bytes | str) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: not UTF-8, a byte order mark, a key that stands twice, NaN, an infinite number, or a surrogate that
            stands alone.
        RecursionError: nested deeper than Python reads.
    """
    text = data if isinstance(data, str) else data.decode("utf-8")
    value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite)
    if "\\u" in text:  # only an escape can name half a character
        encode(value)
    return value


def encode(value: object) -> bytes:
    """Return a value in the one way that is passed on. Raises ValueError for what strict JSON cannot hold."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large")
    return number


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
