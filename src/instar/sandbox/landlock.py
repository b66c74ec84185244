"""Landlock: a second opinion on files, and the first on TCP, signals and abstract sockets. See landlock(7).

The private root hides what must not be seen; should something get into it all the same, Landlock still lets nothing
be written outside the workspace, no file system be mounted and no device be made.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping

from instar.sandbox import calls
from instar.sandbox.policy import JOB_DIR

# <linux/landlock.h>: rights on files by the ABI that brought them
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG = (
    1 << n for n in range(9)
)
MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER, TRUNCATE, IOCTL_DEV = (1 << n for n in range(9, 16))
_FILES_BY_ABI = {1: MAKE_SYM * 2 - 1, 2: REFER * 2 - 1, 3: TRUNCATE * 2 - 1, 5: IOCTL_DEV * 2 - 1}
_TCP = 0b11  # bind, connect: ABI 4
_SCOPES = 0b11  # abstract sockets, signals: ABI 6
_VERSION_FLAG = 1
_PATH_BENEATH = 1

READ = EXECUTE | READ_FILE | READ_DIR
JOB_DIR_RIGHTS = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | MAKE_SOCK | MAKE_FIFO
JOB_DIR_RIGHTS |= REFER | TRUNCATE
_RULES = {"/": READ, "/dev": READ | WRITE_FILE | IOCTL_DEV}
_RULES |= dict.fromkeys(("/dev/shm", "/tmp", JOB_DIR), JOB_DIR_RIGHTS)  # noqa: S108 - the job's own


def abi() -> int:
    """Return the version of the kernel's Landlock, 0 where there is none."""
    try:
        return calls.call("landlock_create_ruleset", 0, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(rules: Mapping[str, int] = _RULES, *, loopback: bool = False) -> None:
    """Restrict this process and its children for ever, with the newest rights that the kernel knows.

    With `loopback` TCP is left alone: for sandboxes whose network has nothing else in it. Call it inside the private
    root, for which the rules (path -> rights beneath it) are made, and with no new privileges. Raises OSError.
    """
    version = abi()
    handled = _FILES_BY_ABI[max(known for known in _FILES_BY_ABI if known <= version)]
    attributes = struct.pack(
        "QQQ", handled, _TCP if version >= 4 and not loopback else 0, _SCOPES if version >= 6 else 0
    )
    length = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = calls.call("landlock_create_ruleset", ctypes.create_string_buffer(attributes, 24), length, 0)
    for path, rights in rules.items():
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights & handled, place))
        calls.call("landlock_add_rule", ruleset, _PATH_BENEATH, rule, 0)
        os.close(place)
    calls.call("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)
