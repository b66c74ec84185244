"""The record of what builders asked of others: one JSON line for every reply that was judged, also for the bad ones.

It stands in the builder's own directory (`builders/NAME/calls.jsonl` in the run directory). It is for people and
reports; nothing is decided by it (money has a journal of its own, see `spend cap`).
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = "calls.jsonl"
PROPOSED, REFUSED, FAILED = "proposed", "refused", "failed"
OUTCOMES = (PROPOSED, REFUSED, FAILED)
_EXCERPT = 2000  # characters of an answer that was refused


class Calls:
    """Writes the record of one builder; a disk that fails ends the record, not the run.

    Args:
        directory: the builder's own.
        clock: seconds since the epoch.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock, self._lock = directory / NAME, clock, threading.Lock()

    def note(self, outcome: str, reason: str = "", answer: str = "", **figures: Any) -> None:
        """Add a line: what came of a reply, why, the beginning of an answer that was refused, and further figures."""
        line = {"at": round(self._clock(), 3), "outcome": outcome, "reason": reason, **figures}
        if answer:
            line["answer"] = answer[:_EXCERPT]
        with self._lock:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError:
                return


def tally(directory: Path) -> dict[str, int]:
    """Return how many replies came to what; a line that is cut off or damaged counts as nothing."""
    counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
    try:
        lines = (directory / NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return dict(counts)
    for line in lines:
        try:
            outcome = json.loads(line)["outcome"]
        except (ValueError, KeyError, TypeError):
            continue
        if outcome in OUTCOMES:
            counts[outcome] += 1
    return dict(counts)
