"""Control groups: the kernel itself holds memory and processes of a whole job, at every moment, and counts its CPU.

Where none can be had, the supervisor's watch and the rlimits stand alone. CPU time is a group's own count: no process
leaves it by dying unseen, whoever reaps it (cgroup-v1/cpuacct.rst; `cpu.stat` in version 2).

A group lies below the group of the fork server, so that every limit above holds on. Version 1 is used where this
process has groups for `memory` and `pids` that it may divide; `cpuacct` joins them where it can be had. In version 2 a
group with processes can't be divided: the new one lies beside the server's own, and only where that has no limit of its
own to be escaped.

Memory stays charged where it was first touched: what the job shares with the server (torch) is the server's. Files on a
tmpfs and the kernel's own structures count; page cache counts until it is taken back, which it is before anyone is
killed. See the kernel's admin-guide/cgroup-v1/memory.rst and admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CONTROLLERS = ("memory", "pids")
COUNTER = "cpuacct"  # of version 1, which holds nothing and only counts
END_SECONDS = 0.5  # how long a group may take to become empty
_PREFIX = "instar"
_FULL = 0.99  # of its limit is what a group has reached when the kernel kills for it: charges come in batches


@dataclass(frozen=True)
class Group:
    """The group of one job: a directory in each hierarchy, `memory` first and `pids` last; version 2 has one."""

    directories: tuple[Path, ...]
    version: int

    def make(self, memory_bytes: int, processes: int) -> bool:
        """Make the group with its limits; return False, and leave nothing, where that fails."""
        memory, pids = self.directories[0], self.directories[-1]
        try:
            for directory in self.directories:
                directory.mkdir()
            if self.version == 1:
                _write(memory / "memory.limit_in_bytes", memory_bytes)
                _write_if_there(memory / "memory.memsw.limit_in_bytes", memory_bytes)
            else:
                _write(memory / "memory.max", memory_bytes)
                _write_if_there(memory / "memory.swap.max", 0)
            _write(pids / "pids.max", processes)
        except OSError:
            self.end()
            return False
        return True

    def join(self, pid: int) -> bool:
        """Move a process in, which may take 15 ms (the kernel waits for every CPU); return whether it is inside."""
        try:
            for directory in self.directories:
                _write(directory / "cgroup.procs", pid)
        except OSError:
            return False
        return True

    def memory_bytes(self) -> int:
        """Return what is used now and can't be taken back: anonymous memory and files on a tmpfs; 0 where unknown."""
        figures = _figures(self.directories[0] / "memory.stat")
        return figures.get("rss" if self.version == 1 else "anon", 0) + figures.get("shmem", 0)

    def cpu_seconds(self) -> float | None:
        """Return what all processes used since they joined, dead ones included; None where it is not counted."""
        for directory in self.directories:
            if text := _read(directory / "cpuacct.usage"):
                return int(text) / 1e9
        microseconds = _figures(self.directories[0] / "cpu.stat").get("usage_usec") if self.version == 2 else None
        return None if microseconds is None else microseconds / 1e6

    def most_memory_bytes(self) -> int:
        """Return the most that was ever charged, page cache included; 0 where unknown."""
        return _number(self.directories[0] / ("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"))

    def killed_for_memory(self) -> bool:
        """Whether the kernel killed a process of this group, and this group's own limit was hit."""
        memory = self.directories[0]
        if self.version == 2:
            events = _figures(memory / "memory.events")
            return events.get("oom_kill", 0) > 0 and events.get("oom", 0) > 0
        most = max(_number(memory / "memory.max_usage_in_bytes"), _number(memory / "memory.memsw.max_usage_in_bytes"))
        full = most >= _FULL * _number(memory / "memory.limit_in_bytes")  # new kernels don't count in memory.failcnt
        return full and _figures(memory / "memory.oom_control").get("oom_kill", 0) > 0

    def end(self) -> bool:
        """Kill what is left inside and remove the group; return whether it is gone."""
        deadline = time.monotonic() + END_SECONDS
        while left := [directory for directory in self.directories if not _removed(directory)]:
            if time.monotonic() > deadline:
                return False
            for directory in left:
                _kill(directory)
            time.sleep(0.001)
        return True


@dataclass(frozen=True)
class Tree:
    """Where groups can be made: a directory in each hierarchy, `memory` first and `pids` last."""

    places: tuple[Path, ...]
    version: int

    def group(self) -> Group:
        """Return a group for a job of this process, still to be made: the process's id and what nobody can guess.

        It names no job: a process inside can read it.
        """
        name = f"{_PREFIX}-{os.getpid()}-{secrets.token_hex(8)}"
        return Group(tuple(place / name for place in self.places), self.version)

    def sweep(self) -> None:
        """Remove empty groups of servers that are gone."""
        for place in self.places:
            for left in place.glob(f"{_PREFIX}-*-*"):
                server = left.name.split("-")[1]
                if server.isdecimal() and not os.path.exists(f"/proc/{server}"):
                    _removed(left)


def find() -> Tree | None:
    """Return where this process can make groups, tried with one, or None."""
    try:
        own = _own(Path("/proc/self/cgroup").read_text())
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return None
    candidates = (_second(own, mounts), _first(own, mounts, counted=True), _first(own, mounts))
    return next((tree for tree in candidates if tree is not None and _works(tree)), None)


def _works(tree: Tree) -> bool:
    group = tree.group()
    return group.make(2**26, 16) and group.end()


def _own(text: str) -> dict[str, str]:
    """Return this process's group by controller, that of version 2 as "", from /proc/self/cgroup (cgroups(7))."""
    entries = [line.split(":", 2) for line in text.splitlines()]
    return {name: path for _, names, path in entries for name in names.split(",")}


def _first(own: dict[str, str], mounts: str, *, counted: bool = False) -> Tree | None:
    memory, pids = CONTROLLERS
    names = (memory, COUNTER, pids) if counted else CONTROLLERS
    found = [_directory(mounts, "cgroup", name, own.get(name)) for name in names]
    places = tuple(dict.fromkeys(place for place in found if place is not None))  # some may be mounted together
    return Tree(places, 1) if None not in found and places[-1] == found[-1] else None


def _second(own: dict[str, str], mounts: str) -> Tree | None:
    mine = _directory(mounts, "cgroup2", "", own.get(""))
    if mine is None:
        return None
    if _divides(mine):
        return Tree((mine,), 2)
    unlimited = all(_read(mine / f"{name}.max") == "max" for name in CONTROLLERS)
    return Tree((mine.parent,), 2) if unlimited and _divides(mine.parent) else None


def _divides(directory: Path) -> bool:
    """Whether groups below have the controllers."""
    return set(CONTROLLERS) <= set(_read(directory / "cgroup.subtree_control").split())


def _directory(mounts: str, kind: str, controller: str, path: str | None) -> Path | None:
    """Return the directory of a group by /proc/self/mountinfo (proc(5)), or None where it is not mounted."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        filesystem, _, options = after.split()[:3]
        if path is None or filesystem != kind or (controller and controller not in options.split(",")):
            continue
        below = os.path.relpath(path, root)
        if not below.startswith(".."):
            return Path(point, below)
    return None


def _removed(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _kill(directory: Path) -> None:
    """Kill every process of a group, at once where the kernel can."""
    with suppress(OSError):
        _write(directory / "cgroup.kill", 1)
        return
    for word in _read(directory / "cgroup.procs").split():
        if word != "0":  # one that this process can't name
            with suppress(OSError):
                os.kill(int(word), signal.SIGKILL)


def _write(path: Path, value: int) -> None:
    """Write to a file that is there: nothing is ever created. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)


def _write_if_there(path: Path, value: int) -> None:
    with suppress(FileNotFoundError):
        _write(path, value)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _read(path)
    return int(text) if text.isdecimal() else 0


def _figures(path: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    lines = [line.split() for line in _read(path).splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdecimal()}
