"""What a process and all that it has started use, from outside: CPU seconds, memory, what outlives it (Linux)."""

from __future__ import annotations

import ctypes
import os
import re
import signal
from contextlib import suppress
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


def adopt_orphans() -> None:
    """Let what any of our processes leaves behind become our child, so that it is found."""
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Return all that a process has started and that is still there, itself left out."""
    below: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            below.setdefault(parent(int(name)), []).append(int(name))
    tree, left = [], [pid]
    while left:
        found = below.get(left.pop(), [])
        tree += found
        left += found
    return tree


def parent(pid: int) -> int:
    """Return a process's parent, 0 where it is gone."""
    found = _stat(pid)
    return int(found[1]) if found else 0


def cpu_seconds(pid: int, *, reaped: bool) -> float:
    """Return what a process has used; with what its children had that it waited for, if `reaped`."""
    found = _stat(pid)
    return sum(map(int, found[11 : 15 if reaped else 13])) / _TICK if found else 0.0


def memory_bytes(pid: int) -> int:
    """Return a process's PSS, or its RSS where that can't be read; 0 for one that is gone."""
    for name, key in (("smaps_rollup", "Pss"), ("status", "VmRSS")):
        with suppress(OSError):
            said = Path(f"/proc/{pid}/{name}").read_text()
            if found := re.search(rf"^{key}:\s+(\d+) kB", said, re.MULTILINE):
                return 1024 * int(found[1])
    return 0


def runs(pid: int, module: str) -> bool:
    """Whether a process's command line names a module."""
    try:
        return module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def left_behind(spare: int) -> list[int]:
    """Return what runs below us but for one process, the dead not counted."""
    found = [pid for pid in descendants(os.getpid()) if pid != spare]
    return [pid for pid in found if (stat := _stat(pid)) and stat[0] != "Z"]


def end_left_behind(spare: int) -> None:
    """Kill what runs below us but for one process."""
    for pid in left_behind(spare):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on, or None where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
