"""System calls that Python has no function for: by libc where it has one, by number otherwise."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

LINUX = sys.platform == "linux"
MACHINE = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}.get(platform.machine(), "")
AT_FDCWD = -100

_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded before any fork
_LIBC.syscall.restype = ctypes.c_long

# <asm/unistd_64.h> and <asm-generic/unistd.h>: from 424 on every architecture has the same numbers.
_NUMBERS = {
    "open_tree": 428, "move_mount": 429, "openat2": 437, "mount_setattr": 442,
    "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
    "pivot_root": 155 if MACHINE == "x86_64" else 41,
    "seccomp": 317 if MACHINE == "x86_64" else 277,
    "capset": 126 if MACHINE == "x86_64" else 91,
    "ptrace": 101 if MACHINE == "x86_64" else 117,
}  # fmt: skip


def call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Make a system call by name and return its result. Raises OSError with the call's name."""
    passed = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return checked(name, _LIBC.syscall(ctypes.c_long(_NUMBERS[name]), *passed))


def prctl(option: int, second: int = 0, third: int = 0, fourth: int = 0, fifth: int = 0) -> int:
    """Operate on this process; see the manual's section 2. Raises OSError."""
    rest = [ctypes.c_ulong(value) for value in (second, third, fourth, fifth)]
    return checked("prctl", _LIBC.prctl(ctypes.c_int(option), *rest))


def unshare(flags: int) -> None:
    """Leave namespaces for new ones; see the manual's section 2. Raises OSError."""
    checked("unshare", _LIBC.unshare(ctypes.c_int(flags)))


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Attach a file system; see the manual's section 2. Raises OSError."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, data)]
    checked(f"mount {target}", _LIBC.mount(*words[:3], ctypes.c_ulong(flags), words[3]))


def detach(target: str) -> None:
    """Unmount lazily: umount2(2) with MNT_DETACH. Raises OSError."""
    checked(f"umount {target}", _LIBC.umount2(os.fsencode(target), 2))


def set_host_name(name: str) -> None:
    """Name this UTS namespace by sethostname(2). Raises OSError."""
    checked("sethostname", _LIBC.sethostname(name.encode(), len(name.encode())))


def close_descriptors(keep: int = -1) -> None:
    """Close every descriptor but the standard streams and `keep`."""
    if keep < 0:
        os.closerange(3, 65536)
        return
    os.closerange(3, keep)
    os.closerange(keep + 1, 65536)


def checked(what: str, result: int) -> int:
    """Return a call's result, or raise the OSError that errno tells of."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
