"""Measures and removes what untrusted code left in its workspace, whatever that is."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path

MAX_FILES = 20_000  # a job directory with more entries counts as too large: measuring it would hold up the watch
MAX_DEPTH = 64  # so does one with directories nested deeper: past some depth no path names what lies there

_ATTEMPTS = 8  # at clearing a directory in which something still moves; 56 ms in all
_IN_THE_WAY = {  # of removing it: entries that come or go, rights that were taken away, depth
    errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENAMETOOLONG
}  # fmt: skip
_LOG = "log.txt"
LOG_BYTES = 16 * 2**20  # a log that is longer ends its job
SPARE_BYTES = 4 * 2**20  # of a job's own file system, beyond what the output may take: small files take a page each
_NEARLY_BYTES = 2**16  # of it free count as none


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


def filled(files: Path, output_bytes: int) -> str:
    """Say what is too much in a job's own file system, by what the kernel says of all of it, or return ''.

    Whatever takes space is in it: files without a name, directories, extended attributes. Small files are rounded up
    to a page each, for which there are `SPARE_BYTES` beyond the output's own.
    """
    found = os.statvfs(files)
    if (found.f_blocks - found.f_bfree) * found.f_frsize > output_bytes + SPARE_BYTES - _NEARLY_BYTES:
        return f"output over {output_bytes} bytes"
    return f"output over {MAX_FILES} files" if found.f_files - found.f_ffree > MAX_FILES else ""


def deliver(files: Path, job_dir: Path) -> None:
    """Copy the output that a job left in its own file system, whatever that is, into its directory outside.

    Links and pipes are copied as such, for their readers to refuse. What cannot be read is left out: its reader misses
    it. The log lies outside already.
    """
    waiting = [] if (files / "out").is_symlink() else ["out"]
    while waiting:
        folder = waiting.pop()
        with suppress(OSError):
            for entry in os.scandir(files / folder):
                name = f"{folder}/{entry.name}"
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        os.mkdir(job_dir / name)
                        waiting.append(name)
                    else:
                        _copy(entry, job_dir / name)


def _copy(entry: os.DirEntry[str], target: Path) -> None:
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        target.symlink_to(os.readlink(entry.path))
    elif stat.S_ISFIFO(mode):
        os.mkfifo(target)
    elif stat.S_ISREG(mode):
        shutil.copyfile(entry.path, target, follow_symlinks=False)


def overfull(job_dir: Path, output_bytes: int, nameless_bytes: int = 0) -> str:
    """Say what is too much in a job directory, or return ''. A log has its own allowance, where it is a plain file.

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
            count += 1
            if entry.path == f"{job_dir}/{_LOG}":
                total -= _allowance(entry)
            if entry.is_dir(follow_symlinks=False):
                waiting.append((entry.path, depth + 1))
            else:
                total += _length(entry)
    if total > output_bytes:
        return f"output over {output_bytes} bytes"
    return f"output over {MAX_FILES} files" if count > MAX_FILES else ""


def _allowance(entry: os.DirEntry[str]) -> int:
    """Return how much of what stands in the log's place is free: nothing but a plain file is a log."""
    return min(_length(entry), LOG_BYTES) if entry.is_file(follow_symlinks=False) else 0


def _length(entry: os.DirEntry[str]) -> int:
    """Return the bytes that one file takes, 0 where it is gone."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    # A small file's last block is rounding, not use.
    return max(status.st_size, status.st_blocks * 512 - 4096)
