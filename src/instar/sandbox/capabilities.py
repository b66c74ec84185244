"""No capability, none to be had, and no way for a program that is started to bring any. See capabilities(7)."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

from instar.sandbox import calls

_CAPBSET_DROP, _SET_SECUREBITS, _SET_NO_NEW_PRIVS, _CAP_AMBIENT = 24, 28, 38, 47  # <linux/prctl.h>
_AMBIENT_CLEAR_ALL = 4
_SECUREBITS = 0xEF  # NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE and the lock of each; KEEP_CAPS locked as off
_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
LAST = int(Path("/proc/sys/kernel/cap_last_cap").read_text()) if calls.LINUX else 0


def drop_all() -> None:
    """Empty the bounding, ambient, inheritable, permitted and effective sets, and forbid new privileges for ever.

    To be called where CAP_SETPCAP is held, that is in a user namespace just made. Raises OSError.
    """
    for number in range(LAST + 1):
        calls.prctl(_CAPBSET_DROP, number)
    calls.prctl(_SET_SECUREBITS, _SECUREBITS)
    calls.prctl(_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    header = ctypes.create_string_buffer(struct.pack("Ii", _VERSION, 0))
    calls.call("capset", header, ctypes.create_string_buffer(24))
    calls.prctl(_SET_NO_NEW_PRIVS, 1)
