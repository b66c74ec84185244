"""What a design's source may hold: a training recipe, and no weights.

Whatever is trained costs time, and what is written into the source costs none. So the source of a design may not grow
by more than an edit does: in bytes after compression, which counts comments, names and literals alike, in the length
of a literal, and in the number of numeric literals. The allowance is held against the reference, and against the parent
as well, so that no line of descent adds up small steps.
"""

from __future__ import annotations

import ast
import lzma
from collections.abc import Mapping
from dataclasses import dataclass

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9}]


@dataclass(frozen=True)
class Growth:
    """How much more a design's files may hold than those of another.

    Attributes:
        packed_bytes: after compression, of all files together.
        numbers: numeric literals, of all files together.
        literal: the longest string or bytes literal, or integer in digits; held as it is, not against another's.
        line: the longest line in characters, likewise.
    """

    packed_bytes: int
    numbers: int
    literal: int = 1000
    line: int = 400


FROM_REFERENCE = Growth(packed_bytes=3072, numbers=150)
FROM_PARENT = Growth(packed_bytes=2048, numbers=100)


def carried(files: Mapping[str, str], before: Mapping[str, str], allowed: Growth) -> str:
    """Say what of a design's source is more than an edit of `before`, or return "".

    Source that is no Python is not judged beyond its size: it does not run.
    """
    grown = _packed(files) - _packed(before)
    if grown > allowed.packed_bytes:
        return f"its source holds {grown:,} bytes more after compression, {allowed.packed_bytes:,} are allowed"
    for name, text in files.items():
        longest = max(map(len, text.splitlines()), default=0)
        if longest > allowed.line:
            return f"{name}: a line of {longest:,} characters, {allowed.line} are allowed"
        literal = max((_length(value) for value in _literals(text)), default=0)
        if literal > allowed.literal:
            return f"{name}: a literal of {literal:,} characters, {allowed.literal:,} are allowed"
    more = _numbers(files) - _numbers(before)
    return f"its source holds {more} numbers more, {allowed.numbers} are allowed" if more > allowed.numbers else ""


def _packed(files: Mapping[str, str]) -> int:
    text = "\n".join(f"{name}\n{files[name]}" for name in sorted(files))
    return len(lzma.compress(text.encode("utf-8", "surrogatepass"), lzma.FORMAT_RAW, filters=_FILTERS))


def _literals(text: str) -> list[object]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]


def _length(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return value.bit_length() // 3 if isinstance(value, int) else 0


def _numbers(files: Mapping[str, str]) -> int:
    values = [value for text in files.values() for value in _literals(text)]
    return sum(isinstance(value, int | float | complex) and not isinstance(value, bool) for value in values)
