"""Decides on file locks, which a filter of system calls can't: it sees a descriptor's number, and not which file it is.

A lock on a file that several jobs see is a letter box between them: 2 kB went through in 0.09 s. So a job locks the
files of its own directory, temporary directory and shared memory, and nothing else. Elsewhere a file can be read only,
and a shared lock on what nobody may write would be granted by anyone: there it counts as granted, and is not made.
Questions about locks, exclusive ones, and locks on devices are refused. See fcntl_locking(2), flock(2).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from instar.sandbox.policy import JOB_DIR

GET, SET, SET_WAIT = 5, 6, 7  # F_GETLK, F_SETLK, F_SETLKW where a long has 64 bits
_EXCLUSIVE = 2  # LOCK_EX of flock
_OWN = (JOB_DIR, "/tmp", "/dev/shm")  # noqa: S108 - the job's own


class Answer(Enum):
    """What becomes of a call: the kernel goes on with it, it counts as done, or it fails with ENOLCK."""

    GO_ON = "go on"
    DONE = "done"
    REFUSED = "refused"

    @property
    def error(self) -> int:
        """What the call returns where the kernel does not go on with it."""
        return -errno.ENOLCK if self is Answer.REFUSED else 0


@dataclass(frozen=True)
class Locks:
    """Judges the locks of one job by the mount that a file was opened on.

    Attributes:
        mounts: identities of the mounts on which the job's own files lie.
        devices: those of their file systems, as /proc/locks writes them.
    """

    mounts: frozenset[int]
    devices: frozenset[str] = frozenset()

    @classmethod
    def of(cls, init: int) -> Locks:
        """Return those of the job with this first process, whose mounts never change again."""
        return own(Path(f"/proc/{init}/mountinfo").read_text())

    def strays(self, processes: Iterable[int]) -> bool:
        """Whether one of the processes holds a lock on another file system than the job's own.

        None should: but a thread may put another file in a descriptor's place after it was judged.
        """
        among = {str(pid) for pid in processes}
        try:
            rows = [line.replace("->", "").split() for line in Path("/proc/locks").read_text().splitlines()]
        except OSError:
            return False
        # 1: POSIX ADVISORY WRITE 1234 08:01:5678 0 EOF
        return any(row[4] in among and row[5].rpartition(":")[0] not in self.devices for row in rows if len(row) > 5)

    def judge(self, thread: int, name: str, descriptor: int, operation: int) -> Answer:
        """Return what becomes of a call of `fcntl` or `flock` with this command or operation by a thread of the job."""
        place = f"/proc/{thread}/fd/{descriptor}"
        try:
            mode = os.stat(place).st_mode
            told = Path(f"/proc/{thread}/fdinfo/{descriptor}").read_text()
            fields = dict(line.split(":", 1) for line in told.splitlines())
            mount, flags = int(fields["mnt_id"]), int(fields["flags"], 8)
        except (OSError, KeyError, ValueError):
            return Answer.REFUSED
        if mount in self.mounts and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return Answer.GO_ON
        shared = operation in (SET, SET_WAIT) if name == "fcntl" else not operation & _EXCLUSIVE
        return Answer.DONE if shared and flags & os.O_ACCMODE == os.O_RDONLY else Answer.REFUSED


def own(mountinfo: str) -> Locks:
    """Return what is said in /proc/PID/mountinfo of a job's own files. See proc(5)."""
    rows = [line.split(" ") for line in mountinfo.splitlines()]
    rows = [row for row in rows if row[4] in _OWN and "rw" in row[5].split(",")]
    devices = [tuple(map(int, row[2].split(":"))) for row in rows]
    return Locks(
        frozenset(int(row[0]) for row in rows), frozenset(f"{major:02x}:{minor:02x}" for major, minor in devices)
    )
