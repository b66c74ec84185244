"""Reads wanted values out of a large JSON text, and passes over the rest without building it.

Evaluation logs hold transcripts of many megabytes around a few scores. What is passed over is held only to its brackets
and strings (RFC 8259); what is taken is parsed by `json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from instar.contracts.errors import BadInput

CHUNK = 1 << 18
_RUN = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)  # whole strings, and all but brackets
_INSIDE = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_BLANK = re.compile(rb"[\s,:]*+")
_SCALAR = re.compile(rb"[^\s,\]}]*+")


class JsonStream:
    """One JSON text, read from the front in chunks.

    Args:
        stream: of bytes.
        where: how messages name it.
    """

    def __init__(self, stream: IO[bytes], where: str) -> None:
        self._stream, self._where = stream, where
        self._buffer, self._at = stream.read(CHUNK).removeprefix(b"\xef\xbb\xbf"), 0

    def members(self) -> Iterator[str]:
        """Yield the keys of the object that comes next; `value`, `skip` or another walk must take each value."""
        self._open(b"{")
        while self._peek() != b"}":
            if self._peek() != b'"':
                raise self._broken("a key is missing")
            yield str(self.value())
        self._at += 1

    def items(self) -> Iterator[int]:
        """Yield the numbers, from 0, of the items of the list that comes next; each must be taken."""
        self._open(b"[")
        number = 0
        while self._peek() != b"]":
            yield number
            number += 1
        self._at += 1

    def value(self) -> Any:
        """Return the value that comes next."""
        try:
            return json.loads(b"".join(self._taken()))
        except ValueError as error:
            raise self._broken(str(error)) from None

    def skip(self) -> None:
        """Pass over the value that comes next."""
        for _ in self._taken():
            pass

    def is_next(self, mark: bytes) -> bool:
        """Return whether the next value begins with a byte, such as b"[" for a list."""
        return self._peek() == mark

    # --- bytes --------------------------------------------------------------------------------------------------------

    def _taken(self) -> Iterator[bytes]:
        """Take the value that comes next, in pieces."""
        first = self._peek()
        if first in (b"{", b"["):
            yield from self._nested()
        elif first == b'"':
            yield from self._string()
        elif first in (b"}", b"]"):
            raise self._broken("a value is missing")
        else:
            while (end := self._end(_SCALAR)) == len(self._buffer):
                self._more()
            yield self._take(end)

    def _nested(self) -> Iterator[bytes]:
        depth = 0
        while True:
            end = self._end(_RUN)
            yield self._take(end)
            if end == len(self._buffer):
                self._more()
            elif self._buffer[self._at] == ord('"'):  # a string that goes on behind this chunk
                yield from self._string()
            else:
                depth += 1 if self._buffer[self._at] in b"{[" else -1
                yield self._take(self._at + 1)
                if not depth:
                    return

    def _string(self) -> Iterator[bytes]:
        yield self._take(self._at + 1)
        while True:
            yield self._take(self._end(_INSIDE))
            if self._buffer[self._at : self._at + 1] == b'"':
                yield self._take(self._at + 1)
                return
            self._more()  # a backslash at the end of the chunk stays for the next one

    def _open(self, mark: bytes) -> None:
        if self._peek() != mark:
            raise self._broken("an object is expected" if mark == b"{" else "a list is expected")
        self._at += 1

    def _peek(self) -> bytes:
        while (end := self._end(_BLANK)) == len(self._buffer):
            self._at = end
            self._more()
        self._at = end
        return self._buffer[end : end + 1]

    def _end(self, pattern: re.Pattern[bytes]) -> int:
        found = pattern.match(self._buffer, self._at)
        return found.end() if found else self._at

    def _take(self, end: int) -> bytes:
        found, self._at = self._buffer[self._at : end], end
        return found

    def _more(self) -> None:
        chunk = self._stream.read(CHUNK)
        if not chunk:
            raise self._broken("it ends in the middle")
        self._buffer, self._at = self._buffer[self._at :] + chunk, 0

    def _broken(self, why: str) -> BadInput:
        return BadInput(f"{self._where}: not JSON: {why}", "Check the file, or leave it out.")
