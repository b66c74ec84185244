"""How much of a long list a run of the tests tries: `make test` takes a share that moves on daily, `make test-all` all.

The day stands at the head of every run; `INSTAR_TEST_DAY=20422 make test` repeats its shares. The workers of xdist
inherit it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

DAY = int(os.environ.setdefault("INSTAR_TEST_DAY", str(int(time.time() // 86400))))
LONG = os.environ.get("INSTAR_TEST_LONG") == "1"
PROCESSES = 1 if "PYTEST_XDIST_WORKER" in os.environ else os.cpu_count() or 1  # xdist fills the cores already


def share(things: Sequence[T], turns: int) -> list[T]:
    """Return every `turns`-th thing, from one that depends on the day: so many days try each. All of them if `LONG`."""
    return list(things) if LONG else list(things[DAY % turns :: turns])
