"""Whether a job changed what it may only read: generations, experience and the sealed key, seen from outside.

The print of a file is what the kernel keeps of it, its time of change included, which no ordinary user can set. In a
sandbox these paths are read-only and nothing is ever found; without one this sees what file permissions did not hold.
What changed while several jobs ran is held against each of them that could read it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

Fingerprint = tuple[int, int, int, int] | None  # size, inode, time of change in ns, mode; None: not there
MOST = 200  # files looked at for one job


def fingerprints_of(paths: Iterable[Path], home: Path) -> dict[str, Fingerprint]:
    """Return the prints of those files that lie in the run directory, and of what stands in such directories."""
    files = (file for path in paths if path.is_relative_to(home) for file in _files(path))
    return {file: _fingerprint(file) for file, _ in zip(files, range(MOST), strict=False)}


def changed(before: Mapping[str, Fingerprint]) -> Iterator[str]:
    """Yield the files that are no longer as they were."""
    return (path for path, earlier in before.items() if _fingerprint(path) != earlier)


def _files(path: Path) -> Iterator[str]:
    try:
        with os.scandir(path) as entries:
            inner = sorted(entry.path for entry in entries if _is_file(entry))
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ENOENT, errno.ELOOP):
            raise
        inner = [os.fspath(path)]
    yield from inner


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads round in a circle
        return False


def _fingerprint(path: str) -> Fingerprint:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return found.st_size, found.st_ino, found.st_ctime_ns, found.st_mode
