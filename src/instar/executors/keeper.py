"""The keeper watches one job: it forks it, holds its limits, ends all that it left behind, and reports.

Every descendant of the job, double-forked daemons too, ends up as the keeper's child (it is a subreaper), so
that all are found, killed, waited for and charged. The keeper's channel to the fork server is a socket; its end
of file means "end the job", whether someone cancelled it or the server died.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from instar.executors import child, kernel, rooms
from instar.executors.protocol import Ending, Task
from instar.records import OutcomeState

LOOK_SECONDS = 0.05  # between two looks at memory, CPU and log
MEASURE_SECONDS = 1.0  # between two looks at the output, which cost a walk through the room
_MEMORY_WORDS = ("MemoryError", "bad_alloc", "can't allocate memory", "annot allocate memory", "not enough memory")

Verdict = tuple[OutcomeState, str]


def keep(task: Task, channel: socket.socket) -> NoReturn:
    """Run the task to its end in a process that was just forked, write its ending to `channel`, and exit."""
    try:
        kernel.close_descriptors(keep=channel.fileno())
        kernel.adopt_orphans()
        ending = Watch(task, channel).run()
        with suppress(OSError):  # a server that died meanwhile
            channel.sendall(json.dumps(asdict(ending)).encode())
    except BaseException:  # the executor's edge: the server reports a keeper that fell silent
        traceback.print_exc()
    finally:
        os._exit(0)


class Watch:
    """One job from its fork to the death of its last process, by the keeper's monotonic clock."""

    def __init__(self, task: Task, channel: socket.socket) -> None:
        self.task = task
        self.room = Path(task.room)
        self.log = self.room / rooms.LOG
        self.channel = channel
        self.began = time.monotonic()
        self.next_measure = self.began + MEASURE_SECONDS
        self.peak_memory_bytes = 0
        self.cpu_seconds = 0.0
        self.status: int | None = None  # of the job's first process, once it ended
        keeper = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            child.become(task, keeper)

    def run(self) -> Ending:
        """Watch until the job ends or has to, end every process, and judge what is left."""
        verdict = self._until_over()
        self._end_all()
        wall_seconds = time.monotonic() - self.began
        state, reason = verdict or self._after(wall_seconds) or self._by_status()
        if rooms.length(self.log) > rooms.LOG_BYTES:
            os.truncate(self.log, rooms.LOG_BYTES)
        return Ending(state, reason, self.cpu_seconds, wall_seconds, self.peak_memory_bytes)

    def _until_over(self) -> Verdict | None:
        """Wait for the job; return why it has to end, or None where it ended by itself."""
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        if hasattr(os, "pidfd_open"):  # without it (macOS) the end shows at the next look
            poll.register(os.pidfd_open(self.pid), select.POLLIN)
        while True:
            ready = poll.poll(LOOK_SECONDS * 1000)
            if any(descriptor == self.channel.fileno() for descriptor, _ in ready):
                return OutcomeState.CANCELLED, "cancelled"
            self._reap()
            if self.status is not None:
                return None
            if verdict := self._look():
                return verdict

    def _look(self) -> Verdict | None:
        """Compare what the living processes use with the limits."""
        task, now = self.task, time.monotonic()
        living = self._account()
        if living.memory_bytes > task.memory_bytes:
            return OutcomeState.OUT_OF_MEMORY, f"{living.memory_bytes} of {task.memory_bytes} bytes of memory used"
        if self.cpu_seconds > task.cpu_seconds:
            return OutcomeState.TIMED_OUT, f"over {task.cpu_seconds:g} CPU seconds"
        if now - self.began > task.wall_seconds:
            return OutcomeState.TIMED_OUT, f"over {task.wall_seconds:g} wall seconds"
        if rooms.length(self.log) > rooms.LOG_BYTES:
            return OutcomeState.CRASHED, f"log over {rooms.LOG_BYTES} bytes"
        if now > self.next_measure:
            self.next_measure = now + MEASURE_SECONDS
            if excess := rooms.overfull(self.room, task.output_bytes):
                return OutcomeState.CRASHED, excess
        return None

    def _account(self) -> kernel.Sample:
        """Bring the figures up to date and return what is used by the living.

        Both figures only grow: a child of a parent that ignores SIGCHLD vanishes from getrusage, not from here.
        """
        living = kernel.sample(kernel.descendants(os.getpid()))
        ended = kernel.reaped_use()
        self.peak_memory_bytes = max(self.peak_memory_bytes, living.memory_bytes, ended.memory_bytes)
        self.cpu_seconds = max(self.cpu_seconds, living.cpu_seconds + ended.cpu_seconds)
        return living

    def _reap(self) -> bool:
        """Take in the processes that ended, and return whether any child is left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                self._note(pid, status)
        except ChildProcessError:
            return False

    def _note(self, pid: int, status: int) -> None:
        if pid == self.pid:
            self.status = status

    def _end_all(self) -> None:
        """Kill all descendants until none is left, then take their usage."""
        self._account()
        while self._reap():
            found = kernel.descendants(os.getpid())
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if found:  # the list may miss one that is just being reparented: then look again at once
                with suppress(ChildProcessError):
                    self._note(*os.waitpid(-1, 0))  # sleep until the next one has ended
        self._account()

    def _after(self, wall_seconds: float) -> Verdict | None:
        """Find limits that were passed between two looks, and output that is too large."""
        task, seen = self.task, rooms.last_line(self.log)
        if self.peak_memory_bytes > task.memory_bytes:
            return OutcomeState.OUT_OF_MEMORY, f"{self.peak_memory_bytes} of {task.memory_bytes} bytes of memory used"
        if self.status != 0 and any(word in seen for word in _MEMORY_WORDS):
            return OutcomeState.OUT_OF_MEMORY, rooms.crash_reason("refused more memory", self.log)
        if self.cpu_seconds > task.cpu_seconds or self.status == signal.SIGXCPU:
            return OutcomeState.TIMED_OUT, f"over {task.cpu_seconds:g} CPU seconds"
        if wall_seconds > task.wall_seconds:
            return OutcomeState.TIMED_OUT, f"over {task.wall_seconds:g} wall seconds"
        if rooms.length(self.log) > rooms.LOG_BYTES:
            return OutcomeState.CRASHED, f"log over {rooms.LOG_BYTES} bytes"
        if excess := rooms.overfull(self.room, task.output_bytes):
            return OutcomeState.CRASHED, excess
        return None

    def _by_status(self) -> Verdict:
        """Read the exit status of the job's first process."""
        code = os.waitstatus_to_exitcode(self.status or 0)
        if code == 0:
            return OutcomeState.DONE, ""
        what = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
        return OutcomeState.CRASHED, rooms.crash_reason(what, self.log)
