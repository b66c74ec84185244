"""Measures and removes what untrusted code left in its workspace, whatever that is."""

from __future__ import annotations

import errno
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

MAX_FILES = 20_000  # a job directory with more entries counts as too large: measuring it would hold up the watch
MAX_DEPTH = 64  # so does one with directories nested deeper: past some depth no path names what lies there

_ATTEMPTS = 8  # at clearing a directory in which something still moves; 56 ms in all
_IN_THE_WAY = {  # of removing it: entries that come or go, rights that were taken away, depth
    errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENAMETOOLONG
}  # fmt: skip
_LOG = "log.txt"  # measured apart


def clear(job_dir: Path) -> None:
    """Remove a job directory whatever the job left in it; inputs are links and stay.

    The loop calls it with `outcome.output.parent` when it has read the output. A job whose server was killed may be
    dying there still, and add or remove files meanwhile: then it is looked at again.
    """
    for attempt in range(_ATTEMPTS):
        if job_dir.is_symlink() or not job_dir.is_dir():
            job_dir.unlink(missing_ok=True)
            return
        try:
            shutil.rmtree(job_dir)
        except (OSError, RecursionError) as error:
            last = attempt + 1 == _ATTEMPTS
            if last or (isinstance(error, OSError) and error.errno not in _IN_THE_WAY):
                raise
            with suppress(FileNotFoundError):
                _flatten(job_dir)
            time.sleep(0.002 * attempt)


def _flatten(job_dir: Path) -> None:
    """Open every directory in it (a job may have taken rights away) and move it to the top, whatever its depth.

    Directory by directory, by descriptors: neither a long path nor a deep recursion comes up. Links are not followed.
    """
    job_dir.chmod(0o700)
    top = os.open(job_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        waiting = [entry.name for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False)]
        for name in waiting:  # grows while it is walked
            os.chmod(name, 0o700, dir_fd=top)
            here = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
            try:
                for inner in [entry.name for entry in os.scandir(here) if entry.is_dir(follow_symlinks=False)]:
                    os.chmod(inner, 0o700, dir_fd=here)
                    waiting.append(f"~{len(waiting)}-{os.getpid()}-{time.monotonic_ns()}")
                    os.rename(inner, waiting[-1], src_dir_fd=here, dst_dir_fd=top)
            finally:
                os.close(here)
    finally:
        os.close(top)


def overfull(job_dir: Path, output_bytes: int, nameless_bytes: int = 0) -> str:
    """Say what is too much in a job directory (all files but the inputs and the log), or return ''.

    A file counts with its length or its blocks, whichever is more, so that neither sparse nor preallocated
    files pass; `nameless_bytes` are those of files that were removed and are still open. Links are not followed.
    What cannot be looked through (locked, or nested too deep) is too much: it would hide files.
    """
    total, count = nameless_bytes, 0
    waiting = [(os.fspath(job_dir), 0)]
    while waiting:
        if total > output_bytes:
            return f"output over {output_bytes} bytes"
        if count > MAX_FILES:
            return f"output over {MAX_FILES} files"
        path, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return f"output over {MAX_DEPTH} directories deep"
        try:
            entries = list(os.scandir(path))
        except (FileNotFoundError, NotADirectoryError):  # removed meanwhile
            continue
        except OSError as error:
            return f"output in a directory that cannot be listed ({error.strerror})"
        for entry in entries:
            if entry.path in (f"{job_dir}/in", f"{job_dir}/{_LOG}"):
                continue
            count += 1
            if entry.is_dir(follow_symlinks=False):
                waiting.append((entry.path, depth + 1))
            else:
                total += _length(entry)
    if total > output_bytes:
        return f"output over {output_bytes} bytes"
    return f"output over {MAX_FILES} files" if count > MAX_FILES else ""


def _length(entry: os.DirEntry[str]) -> int:
    """Return the bytes that one file takes, 0 where it is gone."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    # A small file's last block is rounding, not use.
    return max(status.st_size, status.st_blocks * 512 - 4096)
