"""A sampler in a process of its own: asked over a pipe, and read when it has answered.

Nothing here blocks but for a question larger than the pipe (64 kB), until the process has started (0.3 s) and reads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import IO

from instar.builders.sampling import DesignRow, Request, to_json
from instar.contracts.errors import MissingPart

_THREADS = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


class SamplerProcess:
    """Holds at most one question at a time. The process starts with the first and ends with `close` or with us.

    Args:
        name: of the builder that thinks, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._child: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._heard, self._asked = b"", False

    @property
    def busy(self) -> bool:
        """Whether it was asked and has neither answered nor ended."""
        return self._asked and not self.answered

    @property
    def answered(self) -> bool:
        """Whether the answer is in, or will never come: `take` says which."""
        ended = self._child is None or self._child.poll() is not None
        self._listen()  # after the look at the process: what it said last is not missed
        return self._asked and (b"\n" in self._heard or ended)

    def ask(self, request: Request) -> None:
        """Send a question; the answer comes in its own time."""
        if self._child is None:
            self._begin()
        child, self._asked, self._heard = self._child, True, b""
        assert child is not None
        assert child.stdin is not None
        try:
            child.stdin.write(to_json(request).encode() + b"\n")
            child.stdin.flush()
        except OSError:
            return  # `take` says that it has ended

    def take(self) -> list[DesignRow]:
        """Return the answer. Raises `MissingPart` where the process ended instead; the next question starts another."""
        self._listen()
        self._asked = False
        if b"\n" not in self._heard:
            said = self._last_words()
            self.close()
            raise MissingPart(f"the process of builder '{self._name}' ended: {said}", "Is torch installed whole?")
        line, self._heard = self._heard.split(b"\n", 1)[0], b""
        return [DesignRow(**row) for row in json.loads(line)]

    def close(self) -> None:
        """End the process. Safe to call twice."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _begin(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        self._child = subprocess.Popen(
            [sys.executable, "-m", "instar.builders.sampling"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env=os.environ | _THREADS, start_new_session=True,
        )  # fmt: skip
        assert self._child.stdout is not None
        os.set_blocking(self._child.stdout.fileno(), False)

    def _listen(self) -> None:
        """Take in what has come so far."""
        if self._child is None or self._child.stdout is None:
            return
        try:
            while part := os.read(self._child.stdout.fileno(), 2**16):
                self._heard += part
        except BlockingIOError:
            return

    def _last_words(self) -> str:
        if self._errors is None:
            return "it ended without a word"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it ended without a word"
