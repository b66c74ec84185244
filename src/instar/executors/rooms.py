"""A room: the directory in which one job reads `in/`, writes `out/`, and leaves `log.txt`."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from instar.errors import BadInput
from instar.records import Job, canonical

LOG = "log.txt"
LOG_BYTES = 16 * 2**20  # a job that writes a longer log is ended
MAX_FILES = 20_000  # a room with more entries counts as too large: measuring it would hold up the watch
MAX_DEPTH = 64  # so does one with directories nested deeper: past some depth no path names what lies there

_ATTEMPTS = 8  # at clearing a room in which something still moves; 56 ms in all
_IN_THE_WAY = {  # of removing a room: entries that come or go, rights that were taken away, depth
    errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENAMETOOLONG
}  # fmt: skip

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)
_ENTRY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)


def safe_name(key: str) -> str:
    """Return a file name for any key: plain keys as they are, others by digest (they begin with `~`)."""
    if _PLAIN.fullmatch(key):
        return key
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", key)[:40]
    return f"~{readable}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def check(job: Job) -> dict[str, Any]:
    """Return the payload as the job will see it, or raise `BadInput` for a job that could never run."""
    if not _ENTRY.fullmatch(job.entry):
        raise BadInput(f"job {job.key!r}: entry {job.entry!r} is malformed", "Write it as package.module:function.")
    limits = job.limits
    bounds = (limits.wall_seconds, limits.cpu_seconds, limits.memory_bytes, limits.output_bytes, job.threads)
    if not all(0 < bound < 2**62 for bound in bounds):  # above, the kernel's own numbers end
        raise BadInput(f"job {job.key!r}: limits and threads must be above 0 and finite", "Correct the lab's limits.")
    for name, path in job.inputs.items():
        if not _PLAIN.fullmatch(name):
            raise BadInput(f"job {job.key!r}: input name {name!r} is no plain file name", "Use letters and digits.")
        if not path.exists():
            raise BadInput(f"job {job.key!r}: input {name!r} is missing at {path}", "Restore the file.")
    try:
        payload: dict[str, Any] = json.loads(canonical(dict(job.payload)))
    except (TypeError, ValueError) as error:
        raise BadInput(f"job {job.key!r}: the payload is not strict JSON ({error})", "Send plain values.") from error
    return payload


def furnish(root: Path, job: Job, *, linked: bool = True) -> Path:
    """Make the job's empty room under `root` and return its path; a former life's room is removed first.

    `linked` inputs are links to the trusted paths; others are left to the sandbox, which shows them there itself.
    """
    room = root / safe_name(job.key)
    try:
        room.mkdir(mode=0o700)
    except FileExistsError:
        clear(room)
        room.mkdir(mode=0o700)
    os.mkdir(room / "in")
    os.mkdir(room / "out")
    for name, path in job.inputs.items() if linked else ():
        (room / "in" / name).symlink_to(path.absolute())
    return room


def clear(room: Path) -> None:
    """Remove a room whatever the job left in it; inputs are links and stay.

    The loop calls it with `outcome.output.parent` when it has read the output. A job whose server was killed may be
    dying there still, and add or remove files meanwhile: then it is looked at again.
    """
    for attempt in range(_ATTEMPTS):
        if room.is_symlink() or not room.is_dir():
            room.unlink(missing_ok=True)
            return
        try:
            shutil.rmtree(room)
        except (OSError, RecursionError) as error:
            last = attempt + 1 == _ATTEMPTS
            if last or (isinstance(error, OSError) and error.errno not in _IN_THE_WAY):
                raise
            with suppress(FileNotFoundError):
                _flatten(room)
            time.sleep(0.002 * attempt)


def _flatten(room: Path) -> None:
    """Open every directory in a room (a job may have taken rights away) and move it to the top, whatever its depth.

    Directory by directory, by descriptors: neither a long path nor a deep recursion comes up. Links are not followed.
    """
    room.chmod(0o700)
    top = os.open(room, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
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


def overfull(room: Path, output_bytes: int, nameless_bytes: int = 0) -> str:
    """Say what is too much in the room (all files but the inputs and the log), or return ''.

    A file counts with its length or its blocks, whichever is more, so that neither sparse nor preallocated
    files pass; `nameless_bytes` are those of files that were removed and are still open. Links are not followed.
    What cannot be looked through (locked, or nested too deep) is too much: it would hide files.
    """
    total, count = nameless_bytes, 0
    waiting = [(os.fspath(room), 0)]
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
            if entry.path in (f"{room}/in", f"{room}/{LOG}"):
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


def length(path: Path) -> int:
    """Return a file's length in bytes without following a link; 0 where there is none."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def last_line(log: Path, limit: int = 300) -> str:
    """Return the log's last line that isn't blank, made printable: it was written by the candidate."""
    try:
        # The job may have put a FIFO or a link in the log's place.
        with open(os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            stream.seek(max(0, length(log) - 4096))
            lines = (stream.read(4096) or b"").decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    text = lines[-1] if lines else ""
    return "".join(character if character.isprintable() else " " for character in text)[:limit]


def crash_reason(what: str, log: Path) -> str:
    """Return `what` happened with the log's last line and where the log lies."""
    line = last_line(log)
    return f"{what}: {line} (log: {log})" if line else f"{what} (log: {log})"


def call(entry: str, room: Path, payload: dict[str, Any]) -> None:
    """Import the entry and call it with the room and the payload."""
    module, _, function = entry.partition(":")
    getattr(importlib.import_module(module), function)(room, payload)


def exit_code(request: SystemExit) -> int:
    """Return the status with which a `sys.exit(...)` would have ended the process."""
    if request.code is None:
        return 0
    return request.code & 0xFF if isinstance(request.code, int) else 1
