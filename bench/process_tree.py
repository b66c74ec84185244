"""What a process and all that it has started use, from outside: CPU seconds, memory, what outlives it (Linux).

As a program it holds the charge of random process trees in the sandbox against other counts of the same jobs:

    python bench/process_tree.py [--trees 1000] [--first 0]

It prints one JSON object: how far the charge is off, in milliseconds, and how many are off by more than 2 % and 20 ms.
Each tree is charged by its control group, and by tracing, and held against what its processes say of themselves as
their last act (which leaves out what their ends take); the tracing also against a control group that only this program
reads.
See `instar.testing.process_trees`. Needs a machine where control groups can be made.
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


BESIDE = """
from instar.executors import supervisor
from instar.sandbox.cgroups import Group
count, end, start = Group.cpu_seconds, Group.end, supervisor.Tally.__init__
before = []
def started(self, init, group=None, **options):
    before.append(count(group))
    start(self, init, group, **options)
    assert self.way.name == "TRACED"
def ended(self):
    if before:
        open({path!r}, "w").write(str(count(self) - before[0]))
    return end(self)
supervisor.Tally.__init__, Group.end, Group.cpu_seconds = started, ended, lambda self: None
"""
_ENTRY = "instar.testing.process_trees"
_LIMITS = Limits(60.0, 60.0, 2**30, 2**24)


def charge(executor: LocalExecutor, seed: int) -> tuple[float, float]:
    """Return what one random tree was charged, and what its processes say that they used."""
    payload = {"tree": process_trees.draw(Random(seed))}
    executor.submit(Job(f"tree-{seed}", SandboxKind.TRAINING, f"{_ENTRY}:grow", payload, {}, _LIMITS))
    (outcome,) = executor.wait(120.0)
    if outcome.state is not OutcomeState.DONE or outcome.incidents:
        raise RuntimeError(f"tree {seed}: {outcome}")
    return outcome.usage.cpu_seconds, sum(process_trees.clocks(outcome.output))


def by_group(place: Path, seeds: range) -> dict[str, object]:
    """Charge the trees by their control groups."""
    with LocalExecutor(1, place / "jobs", [_ENTRY]) as executor:
        pairs = [charge(executor, seed) for seed in seeds]
    return {"control group against own clocks": spread(pairs)}


def by_tracing(place: Path, seeds: range) -> dict[str, object]:
    """Charge the trees by tracing, with a control group beside it."""
    counted = place / "counted"
    (place / "patched.py").write_text(BESIDE.format(path=str(counted)))
    said, read = [], []
    with LocalExecutor(1, place / "jobs", [_ENTRY, "patched"], {"PYTHONPATH": str(place)}) as executor:
        for seed in seeds:
            seconds, clocks = charge(executor, seed)
            said.append((seconds, clocks))
            read.append((seconds, float(counted.read_text())))
    return {"tracing against own clocks": spread(said), "tracing against a control group": spread(read)}


def spread(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Return how far charges are off from another count."""
    off = sorted(1e3 * (charged - counted) for charged, counted in pairs)
    return {
        "trees": len(pairs),
        "CPU seconds": round(sum(counted for _, counted in pairs), 2),
        "off by, least ms": round(off[0], 2),
        "off by, median ms": round(statistics.median(off), 2),
        "off by, most ms": round(off[-1], 2),
        "off by more than 2 % and 20 ms": sum(abs(a - b) > max(0.02, 0.02 * b) for a, b in pairs),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first tree")
    chosen = parser.parse_args()
    seeds = range(chosen.first, chosen.first + chosen.trees)
    figures: dict[str, object] = {"load_average": round(os.getloadavg()[0], 1)}
    for measure in (by_group, by_tracing):
        with tempfile.TemporaryDirectory() as place:
            os.chmod(place, 0o755)
            figures |= measure(Path(place), seeds)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
