"""Attacks by untrusted code in the sandbox: on the network and on the kernel."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from instar.testing.redteam.attack import WORD, Off, Range, Seen
from instar.testing.redteam.register import attack

_X86 = os.uname().machine == "x86_64"


def _works(range_: Range, function: str, payload: Mapping[str, Any] | None = None) -> Seen:
    """Shoot, and say whether the job could keep the word that it only gets by success."""
    shot = range_.shoot(function, {"word": WORD} | dict(payload or {}))
    through = WORD.encode() in shot.left
    range_.sweep(shot)
    return shot.seen(through, "the kernel did it" if through else f"the kernel refused ({shot.said})")


def _reach(range_: Range, family: int, kind: int, address: Any) -> Seen:
    """Open a socket outside and let a job speak to it."""
    mine = range_.listen(family, kind, address)
    target = mine.getsockname()
    target = target.decode("latin-1") if isinstance(target, bytes) else target
    shot = range_.shoot("connect", {"family": family, "kind": kind, "address": target, "words": WORD})
    range_.sweep(shot)
    heard = b""
    with suppress(OSError):
        if kind == socket.SOCK_DGRAM:
            heard = mine.recv(64)
        else:
            with mine.accept()[0] as line:
                heard = line.recv(64)
    return shot.seen(WORD.encode() in heard, "the words arrived" if heard else "nothing arrived")


@attack("sandbox", "no network", Off.SANDBOX)
def host_loopback(range_: Range) -> Seen:
    """Connect to a port of this machine."""
    return _reach(range_, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))


@attack("sandbox", "no network", Off.SANDBOX)
def dns_exfiltration(range_: Range) -> Seen:
    """Send secrets out as a datagram, as DNS does."""
    return _reach(range_, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))


@attack("sandbox", "another network namespace; Landlock", Off.SANDBOX)
def abstract_socket(range_: Range) -> Seen:
    """Connect to an abstract Unix socket."""
    return _reach(range_, socket.AF_UNIX, socket.SOCK_STREAM, f"\0instar-red-{time.monotonic_ns()}")


@attack("sandbox", "no such file", Off.SANDBOX)
def docker_socket(range_: Range) -> Seen:
    """Connect to a Unix socket by its path, such as docker.sock."""
    return _reach(range_, socket.AF_UNIX, socket.SOCK_STREAM, str(range_.fresh("s") / "docker.sock"))


@attack("sandbox", "denied, and counted", Off.SANDBOX)
def socket_families(range_: Range) -> Seen:
    """Open sockets of other families (raw, packet, netlink, vsock, crypto)."""
    shot = range_.shoot("open_sockets")
    range_.sweep(shot)
    opened = shot.left.count(b" open")
    return shot.seen(opened > 0, f"{opened} sockets were opened")


@attack("sandbox", "denied, and counted", Off.SANDBOX, root=True)
def io_uring(range_: Range) -> Seen:
    """Set up io_uring, past any filter of single calls."""
    return _works(range_, "call_kernel", {"number": 425, "arguments": [4, "memory"]})


@attack("sandbox", "denied, and counted", Off.SANDBOX)
def user_namespace(range_: Range) -> Seen:
    """Become root in a user namespace of its own."""
    return _works(range_, "new_user_namespace")


@attack("sandbox", "denied, and counted", Off.NEVER)
def mount(range_: Range) -> Seen:
    """Mount file systems, and the machine's own writable again."""
    return _works(range_, "mount")


@attack("sandbox", "no rights, and denied", Off.SANDBOX, root=True)
def become_root(range_: Range) -> Seen:
    """Become another user or give files away."""
    return _works(range_, "become_root")


@attack("sandbox", "denied, and counted", Off.SANDBOX, root=True)
def kernel_log(range_: Range) -> Seen:
    """Ask the kernel for its log."""
    return _works(range_, "call_kernel", {"number": 103 if _X86 else 116, "arguments": [10, 0, 0]})
