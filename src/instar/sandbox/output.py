"""Opens what untrusted code left: regular files beneath one directory, never through a link, never a pipe or a device.

On Linux by openat2(2), which resolves the whole path in the kernel; elsewhere (and where a filter above us forbids it)
component by component with O_NOFOLLOW.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from pathlib import Path, PurePosixPath

from instar.sandbox import calls

_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08  # RESOLVE_*, <linux/openat2.h>
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW


def open_regular(directory: str | Path, name: str) -> int:
    """Return a descriptor of the regular file `name` (a relative path) beneath an untrusted directory.

    Raises:
        OSError: missing, behind a link or `..`, no regular file, a file with a second name, or `directory` is a link.
    """
    base = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        descriptor = _open_beneath(base, name)
    finally:
        os.close(base)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    if found.st_nlink != 1:
        os.close(descriptor)
        raise OSError(errno.EMLINK, "it has a second name elsewhere")
    return descriptor


def _open_beneath(base: int, name: str) -> int:
    if calls.LINUX:
        how = _FLAGS.to_bytes(8, "little") + bytes(8) + (_NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH).to_bytes(8, "little")
        try:
            return calls.call("openat2", base, os.fsencode(name), ctypes.create_string_buffer(how, 24), 24)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise OSError(error.errno, os.strerror(error.errno or 0)) from None
    return walk(base, name)


def walk(base: int, name: str) -> int:
    """Open `name` beneath `base` one component at a time; raises OSError at the first that is a link or `..`."""
    if not PurePosixPath(name).parts:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    *folders, last = PurePosixPath(name).parts
    if ".." in (*folders, last) or PurePosixPath(name).is_absolute():
        raise OSError(errno.EXDEV, "it leads out of its directory")
    here = os.dup(base)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = below
        return os.open(last, _FLAGS, dir_fd=here)
    finally:
        os.close(here)


def redirect_streams(log: int) -> None:
    """Let this process read nothing and write to the descriptor `log`, which is closed under its own number."""
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
