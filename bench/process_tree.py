"""What a process and all that it has started use, from outside: CPU seconds, memory, what outlives it (Linux).

As a program it holds what jobs are charged against what their processes say of themselves:

    python bench/process_tree.py [--trees 1000] [--first 0]

It prints one JSON object for random process trees in the sandbox (see `instar.testing.process_trees`), counted by
control groups and by tracing: how far the charge is off, in milliseconds, and how many are off by more than 2 % and
20 ms.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import signal
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from instar.contracts.records import Job, Limits, OutcomeState, SandboxKind
from instar.executors.local import LocalExecutor
from instar.testing import process_trees

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


WITHOUT_GROUPS = "from instar.sandbox import cgroups\ncgroups.find = lambda: None\n"
_ENTRY = "instar.testing.process_trees"
_LIMITS = Limits(60.0, 60.0, 2**30, 2**24)


def off_seconds(executor: LocalExecutor, seed: int) -> tuple[float, float]:
    """Return by how much the charge of one random tree is off, and what its processes used."""
    payload = {"tree": process_trees.draw(Random(seed))}
    executor.submit(Job(f"tree-{seed}", SandboxKind.TRAINING, f"{_ENTRY}:grow", payload, {}, _LIMITS))
    (outcome,) = executor.wait(120.0)
    if outcome.state is not OutcomeState.DONE or outcome.incidents:
        raise RuntimeError(f"tree {seed}: {outcome}")
    used = sum(process_trees.clocks(outcome.output))
    return outcome.usage.cpu_seconds - used, used


def measure(place: Path, patch: str, seeds: range) -> dict[str, float]:
    """Run the trees and return the figures."""
    (place / "patched.py").write_text(patch)
    began = time.monotonic()
    with LocalExecutor(1, place / "jobs", [_ENTRY, "patched"], {"PYTHONPATH": str(place)}) as executor:
        pairs = [off_seconds(executor, seed) for seed in seeds]
    off = sorted(1e3 * off for off, _ in pairs)
    return {
        "trees": len(seeds),
        "CPU seconds, by the processes' own clocks": round(sum(used for _, used in pairs), 2),
        "off by, median ms": round(statistics.median(off), 2),
        "off by, least ms": round(off[0], 2),
        "off by, 99th percentile ms": round(off[int(0.99 * len(off))], 2),
        "off by, most ms": round(off[-1], 2),
        "off by more than 2 % and 20 ms": sum(abs(off) > max(0.02, 0.02 * used) for off, used in pairs),
        "wall seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first tree")
    chosen = parser.parse_args()
    seeds = range(chosen.first, chosen.first + chosen.trees)
    figures: dict[str, object] = {"load_average": round(os.getloadavg()[0], 1)}
    for name, patch in (("control group", ""), ("tracing", WITHOUT_GROUPS)):
        with tempfile.TemporaryDirectory() as place:
            os.chmod(place, 0o755)
            figures[name] = measure(Path(place), patch, seeds)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
