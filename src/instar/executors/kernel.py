"""What is asked of the operating system: who descends from a process, what they use, who dies with whom.

On Linux by prctl and /proc. Elsewhere (macOS) the prctl parts do nothing, so a daemon that a job leaves behind
escapes, and processes are listed by psutil.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from instar.sandbox import calls

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
_TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds
_PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2) differs


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent ends; exit at once if `parent` has ended already."""
    if sys.platform == "linux":
        calls.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def wake_when_orphaned() -> None:
    """Let the kernel continue this process when its parent ends: one that was stopped could not clear up after it."""
    if sys.platform == "linux":
        calls.prctl(PR_SET_PDEATHSIG, signal.SIGCONT)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that no daemon gets away."""
    if sys.platform == "linux":
        calls.prctl(PR_SET_CHILD_SUBREAPER, 1)


def children(pid: int) -> list[int]:
    """Return the process ids of the direct children, of every thread; [] for a process that is gone."""
    if sys.platform != "linux":
        return _children_elsewhere(pid)
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split())
    except OSError:
        pass
    return found


def _children_elsewhere(pid: int) -> list[int]:
    import psutil  # type: ignore[import-untyped]  # loaded late: Linux needs none of it

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def descendants(pid: int) -> list[int]:
    """Return all processes below `pid`, parents before children."""
    found = children(pid)
    for descendant in found:  # grows while it is walked
        found += children(descendant)
    return found


@dataclass(frozen=True, slots=True)
class Sample:
    """What living processes use: resident memory (shared pages count for each), CPU since they began, and threads."""

    memory_bytes: int
    cpu_seconds: float
    threads: int = 0


def sample(pids: Iterable[int]) -> Sample:
    """Add up what the processes use now; those that are gone count nothing."""
    each = [_sample(pid) for pid in pids]
    memory, cpu = sum(one.memory_bytes for one in each), sum(one.cpu_seconds for one in each)
    return Sample(memory, cpu, sum(one.threads for one in each))


def _sample(pid: int) -> Sample:
    if sys.platform != "linux":
        return _sample_elsewhere(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return Sample(0, 0.0)
    # proc(5): after the name come state (3) ...; utime, stime, cutime, cstime are 14-17, threads 20, rss 24.
    pages, threads = int(fields[21]), int(fields[17])
    if pages == 0 and threads > 1:  # its first thread has ended, and with it what is told of the memory
        pages = max((_pages(place) for place in _threads(pid)), default=0)
    return Sample(pages * _PAGE, sum(map(int, fields[11:15])) * _TICK, threads)


def _threads(pid: int) -> list[str]:
    """Return the /proc directories of a process's threads; [] where it is gone."""
    try:
        return [f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def _pages(place: str) -> int:
    """Return the resident pages of a thread that lives; 0 of one that has ended."""
    try:
        return int(Path(place, "stat").read_bytes().rpartition(b")")[2].split()[21])
    except OSError:
        return 0


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits only to be waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return True


def cpu_clock(pid: int) -> float:
    """Return the CPU seconds of a process, its threads that ended included, and without its children.

    That of a zombie too, until it is waited for; 0 where it is gone or only a thread. See clock_getcpuclockid(3).
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of <linux/posix-timers.h>
    except OSError:
        return 0.0


def _sample_elsewhere(pid: int) -> Sample:
    import psutil

    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return Sample(process.memory_info().rss, times.user + times.system)
    except psutil.Error:
        return Sample(0, 0.0)


def reaped_use() -> Sample:
    """Return peak memory and CPU of all descendants that were waited for (getrusage(2), RUSAGE_CHILDREN)."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Sample(usage.ru_maxrss * _MAXRSS_UNIT, usage.ru_utime + usage.ru_stime)


def nameless_bytes(pids: Iterable[int], place: Path) -> int:
    """Return what the files take that processes hold open on the file system of `place` and that have no name there.

    Each thread is asked: it may have files of its own, and the first one of a process, once ended, tells of none.
    One that is held by a mapping alone, or lies in a socket's queue, is not seen. Linux only; 0 elsewhere.
    """
    found: dict[int, int] = {}
    try:
        device = place.stat().st_dev
    except OSError:
        return 0
    for thread in (thread for pid in pids for thread in _threads(pid)):
        try:
            with os.scandir(f"{thread}/fd") as descriptors:
                for descriptor in descriptors:
                    with suppress(OSError):
                        status = os.stat(descriptor.path)
                        if status.st_dev == device and status.st_nlink == 0 and stat.S_ISREG(status.st_mode):
                            found[status.st_ino] = status.st_blocks * 512
        except OSError:  # it ended, or there is no such directory here
            continue
    return sum(found.values())


def data_bytes() -> int:
    """Return this process's private writable memory, which is what RLIMIT_DATA counts; 0 where unknown."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData:")), 0)
