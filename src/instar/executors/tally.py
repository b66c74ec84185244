"""Adds up the CPU time of a job: by its control group, or process by process at the end of each.

What getrusage(2) tells is not enough: a process whose parent ignores SIGCHLD is charged to nobody. In order:

1. The control group counts, whoever reaps whom.
2. Without one, the supervisor traces every process and reads its clock when it has ended (`tracing`).
3. Where neither can be had, a process that nobody waits for counts as far as it was seen living. Then CPU time can be
   hidden, and no run whose score has a price is begun (`probe.require_counting`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from enum import Enum

from instar.executors import kernel
from instar.sandbox import tracing
from instar.sandbox.cgroups import Group

_ROUNDING = 1.02  # of the kernel's figures against one another
_SLACK_SECONDS = 0.1  # so much may a figure be older than another


class Way(Enum):
    """How the CPU time of a job is counted."""

    GROUP = "by its control group"
    TRACED = "by tracing each process"
    SEEN = "as far as it was seen"


class Tally:
    """CPU seconds of one job from when its sandbox stands: building that is not the job's.

    Args:
        init: the first process of the job, a child of this one.
        group: the job's control group, or None.
        trace: whether its processes may be traced where no group counts.
    """

    def __init__(self, init: int, group: Group | None = None, *, trace: bool = True) -> None:
        self._group = group
        self._before = kernel.cpu_clock(init)
        counted = None if group is None else group.cpu_seconds()
        self._group_before = counted or 0.0
        self._clocks = {init: self._before}  # as last seen; once a traced process has ended, it counts below
        self._ended = 0.0
        self._taken: set[int] = set()  # what was traced and has ended
        self.woken: int | None = None  # readable when a traced process has stopped or ended
        if counted is not None:
            self.way = Way.GROUP
        elif trace:
            self.woken = _wake_up()
            self.way = Way.TRACED if tracing.seize(init) else Way.SEEN
        else:
            self.way = Way.SEEN

    def look(self, pids: Iterable[int]) -> None:
        """Read the clocks of all that live."""
        if self.way is Way.GROUP:
            return
        for pid in pids:
            if pid in self._taken:  # its parent may not have waited for it yet, and it is counted
                if kernel.has_ended(pid):
                    continue
                self._taken.discard(pid)
            seconds, before = kernel.cpu_clock(pid), self._clocks.get(pid, 0.0)
            if 0.0 < seconds < before:  # its number is another's by now
                self._ended += before
            self._clocks[pid] = seconds or before

    def next_ended(self, *, wait: bool = False) -> tuple[int, int] | None:
        """Take in one process that ended: return it and its status, or None for none; (0, 0) asks to look again.

        With `wait` it sleeps until something happens. Raises ChildProcessError where no process is left.
        """
        if self.way is not Way.TRACED:
            pid, status = os.waitpid(-1, 0 if wait else os.WNOHANG)
            return (pid, status) if pid else None
        ended = tracing.next_ended(wait=wait)
        if not ended:
            return None if ended is None else (0, 0)
        self._clocks.pop(ended, None)
        self._taken.add(ended)
        self._ended += kernel.cpu_clock(ended)  # 0 for a thread: its process has what it used
        return ended, tracing.take(ended)

    def seconds(self, chain: float) -> float:
        """Return what the job has used, given what the kernel adds up from child to parent, the sandbox's start too."""
        chain -= self._before
        if self._group is not None and self.way is Way.GROUP:
            return max(chain, (self._group.cpu_seconds() or 0.0) - self._group_before)
        return max(chain, self._ended + sum(self._clocks.values()) - self._before)

    def contradiction(self, chain: float, wall_seconds: float) -> str:
        """Say which figures can't all be true, or return ''."""
        seconds = self.seconds(chain)
        most = wall_seconds * (os.cpu_count() or 1)
        if seconds > _ROUNDING * most + _SLACK_SECONDS:
            return "more CPU seconds than its wall time and the machine's cores allow"
        if self._group is not None and self.way is Way.GROUP:
            counted = (self._group.cpu_seconds() or 0.0) - self._group_before
            if seconds > _ROUNDING * counted + _SLACK_SECONDS:
                return "more CPU seconds by its processes than by its control group"
        return ""


def _wake_up() -> int:
    """Return a descriptor that becomes readable when a child or a traced process has stopped or ended."""
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable
