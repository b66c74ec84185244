"""Where a run keeps what can be made again: job directories, open trials' artefacts, question sets.

In memory (tmpfs) where there is space for it: making and removing a directory takes 0.03 ms there and 3.2 ms on a
journaling disk, several times per trial. It survives kill -9, not a reboot; what is missing is made again.

Memory is dear, so it does not wait for ever for a run that nobody resumes. The conductor holds a lock in its scratch
directory, which the kernel drops when it ends in whatever way. What nobody holds is removed: by the next run of any
kind once nothing has moved there for ten minutes (whoever restarts what was killed finds it as it was), and by
`instar doctor` at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from instar.contracts.errors import ArchiveError

MEMORY = Path("/dev/shm")  # noqa: S108 (checked below: ours alone, no link)
OWNER = "owner"  # the file in it that its conductor holds locked
_DOOMED = "~"  # ends the name of what is being removed
_ENOUGH_BYTES = 2**30
_GRACE_SECONDS = 600.0  # that a killed run has to be resumed in
_UNOWNED_SECONDS = 86_400.0  # after which a directory goes that never had an owner
_ATTEMPTS = 100


def scratch_directory(home: Path, memory: Path = MEMORY) -> Path:
    """Return the run's scratch directory, made if needed: the same one for the same run directory.

    Raises:
        ArchiveError: somebody else owns the place.
    """
    if not (memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= _ENOUGH_BYTES):
        fallback = home / "scratch"
        fallback.mkdir(parents=True, exist_ok=True)
        return fallback
    name = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]
    directory = memory / f"instar-{os.getuid()}-{name}"
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    if not _ours(directory, mode=0o700):
        raise ArchiveError(f"{directory} is not ours alone", "Remove it, or choose another --home.")
    return directory


@contextmanager
def held(home: Path, memory: Path = MEMORY) -> Iterator[Path]:
    """Hold the run's scratch directory as its owner, after removing those that ended runs have left in memory.

    Raises:
        ArchiveError: somebody else owns the place.
    """
    own = scratch_directory(home, memory)
    sweep(memory, spare=own, grace_seconds=_GRACE_SECONDS)
    for _ in range(_ATTEMPTS):
        directory = scratch_directory(home, memory)
        lock = _lock(directory, create=True)
        if lock is not None:
            break
        time.sleep(0.01)  # somebody is just sweeping
    else:
        raise ArchiveError(f"{own} is held by another process", "End it, or choose another --home.")
    try:
        yield directory
    finally:
        os.close(lock)


def sweep(memory: Path = MEMORY, spare: Path | None = None, grace_seconds: float = 0.0) -> list[Path]:
    """Remove the scratch directories in memory whose owner has ended, but for `spare`; return those removed.

    Those in which something moved less than `grace_seconds` ago stay. A run that is resumed later makes anew what it
    misses there.
    """
    removed = []
    for directory in memory.glob(f"instar-{os.getuid()}-*"):
        if directory == spare or not _ours(directory):
            continue
        if not directory.name.endswith(_DOOMED):
            if _still_seconds(directory) < grace_seconds or not _doom(directory):
                continue
            removed.append(directory)
            directory = directory.with_name(directory.name + _DOOMED)
        shutil.rmtree(directory, ignore_errors=True)
    return removed


def remove_scratch(directory: Path) -> None:
    """Remove what a finished run no longer needs."""
    shutil.rmtree(directory, ignore_errors=True)


def _doom(directory: Path) -> bool:
    """Take a directory that nobody holds out of its owner's reach, by a new name; return whether that was done."""
    lock = None
    try:
        if (directory / OWNER).exists():
            lock = _lock(directory, create=False)
            if lock is None:
                return False
        elif _still_seconds(directory) < _UNOWNED_SECONDS:
            return False
        directory.replace(directory.with_name(directory.name + _DOOMED))
    except OSError:
        return False
    finally:
        if lock is not None:
            os.close(lock)
    return True


def _still_seconds(directory: Path) -> float:
    """Return for how long nothing has come or gone in a directory or in those that it holds."""
    newest = 0.0
    for path in (directory, *directory.glob("*"), *directory.glob("jobs/*")):
        with suppress(OSError):
            newest = max(newest, path.lstat().st_mtime)
    return time.time() - newest


def _lock(directory: Path, *, create: bool) -> int | None:
    """Return a descriptor that holds the directory, or None where another process does (or it has just gone)."""
    path = directory / OWNER
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _ours(directory: Path, mode: int | None = None) -> bool:
    """Whether it is a directory of this user's (and of that mode), and no link."""
    try:
        found = directory.lstat()
    except FileNotFoundError:
        return False
    right_mode = mode is None or stat.S_IMODE(found.st_mode) == mode
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and right_mode


def bytes_below(*directories: Path) -> int:
    """Return the length of all files below directories, although others come and go meanwhile."""
    total = 0
    for directory in directories:
        for folder, _, names in os.walk(directory):
            for name in names:
                with suppress(FileNotFoundError):
                    total += os.lstat(os.path.join(folder, name)).st_size
    return total
