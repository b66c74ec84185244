"""The one way out of a sandbox's network: TLS tunnels to hosts that a person has named, or ports of this machine.

A sandbox never shares this machine's network. Its own has a loopback interface alone; `forwarder` (inside) carries
connections to Unix sockets in the job directory, and here, outside, each is held against the list:

- A named host is reached through a proxy that knows HTTP's CONNECT alone (RFC 9110, section 9.3.6): a host and port
  on the list, resolved here, and not to this machine or its link.
- A named port of this machine (`127.0.0.1:8080`: a local model, a stand-in) is reached at the same port inside.

What flows is not looked into: who may talk to a host may tell it all that the sandbox shows. A host is known by name:
whoever answers under that name, a shared front of many sites among them, is reached.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from instar.contracts.errors import BadInput
from instar.contracts.text import printable
from instar.sandbox.forwarder import exchange
from instar.sandbox.policy import JOB_DIR

HTTPS = 443
_FOLDER = "net"  # in the workspace
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII)
_HEAD_BYTES = 8192
_CONNECT_SECONDS = 15.0
_CONNECTIONS = 64  # at once
_LEAST_PORT = 1024  # a port below can't be opened inside

Connect = Callable[[tuple[str, int], float], socket.socket]


@dataclass(frozen=True)
class Host:
    """A place that may be reached."""

    name: str
    port: int

    @property
    def here(self) -> bool:
        """Whether it is a port of this machine."""
        return self.name == "127.0.0.1"


def parse_host(text: str) -> Host:
    """Read `NAME`, `NAME:PORT` or `127.0.0.1:PORT`. Raises `BadInput`."""
    name, _, port = text.partition(":")
    name = "127.0.0.1" if name == "localhost" else name.lower()
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0 if port else HTTPS
    if not _NAME.fullmatch(name) or not 0 < number < 65536:
        raise BadInput(f"'{text}' is no host", "Write NAME, NAME:PORT, or 127.0.0.1:PORT for this machine.")
    if name == "127.0.0.1" and number < _LEAST_PORT:
        raise BadInput(
            f"'{text}': ports of this machine from {_LEAST_PORT} on can be opened", "Name one, with a colon."
        )
    return Host(name, number)


@dataclass
class Egress:
    """Sockets in a sandbox's workspace through which its processes reach `hosts`, and nothing else.

    Attributes:
        workspace: the sandbox's, outside.
        hosts: what may be reached.
        refused: how often something else was asked for, by what it was ("evil.example:443").
    """

    workspace: Path
    hosts: Sequence[Host]
    connect: Connect = lambda address, timeout: socket.create_connection(address, timeout)
    refused: Counter[str] = field(default_factory=Counter)
    _listeners: list[socket.socket] = field(default_factory=list)
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False

    @property
    def proxy_port(self) -> int:
        """The proxy's port inside."""
        taken = {host.port for host in self.hosts if host.here}
        return next(port for port in range(3128, 65536) if port not in taken)

    @property
    def ports(self) -> list[tuple[int, str]]:
        """Ports inside, and the socket in the job directory that each leads to."""
        found = [(host.port, f"{JOB_DIR}/{_FOLDER}/{host.port}") for host in self.hosts if host.here]
        if any(not host.here for host in self.hosts):
            found.append((self.proxy_port, f"{JOB_DIR}/{_FOLDER}/proxy"))
        return found

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that tell a client of the proxy; {} without one."""
        if all(host.here for host in self.hosts):
            return {}
        proxy = f"http://127.0.0.1:{self.proxy_port}"
        told = {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "NO_PROXY": "127.0.0.1,localhost"}
        return told | {name.lower(): value for name, value in told.items()}

    def __enter__(self) -> Self:
        folder = self.workspace / _FOLDER
        folder.mkdir(mode=0o755)
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for host in self.hosts:
                if host.here:
                    self._listen(here, str(host.port), lambda ours, host=host: self._reach(ours, host))  # type: ignore[misc]
            if any(not host.here for host in self.hosts):
                self._listen(here, "proxy", self._tunnel)
        finally:
            os.close(here)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            ends = [*self._listeners, *self._open]
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _listen(self, folder: int, name: str, answer: Callable[[socket.socket], None]) -> None:
        listener = socket.socket(socket.AF_UNIX)
        path = f"/proc/self/fd/{folder}/{name}"  # a run directory's own path may be longer than a socket's may be
        listener.bind(path)
        os.chmod(path, 0o666)  # noqa: S103 - inside it is nobody who connects; outside, a directory of mode 0700 is above
        listener.listen(16)
        self._listeners.append(listener)
        threading.Thread(target=self._answer, args=(listener, answer), daemon=True).start()

    def _answer(self, listener: socket.socket, answer: Callable[[socket.socket], None]) -> None:
        while True:
            try:
                ours, _ = listener.accept()
            except OSError:
                return
            if self._keep(ours, most=_CONNECTIONS):
                threading.Thread(target=self._served, args=(ours, answer), daemon=True).start()

    def _keep(self, end: socket.socket, most: int) -> bool:
        """Note an open end, or close it where the egress is closed or full."""
        with self._lock:
            if not self._closed and len(self._open) < 2 * most:
                self._open.add(end)
                return True
        end.close()
        return False

    def _served(self, ours: socket.socket, answer: Callable[[socket.socket], None]) -> None:
        try:
            with suppress(OSError):
                answer(ours)
        finally:
            self._drop(ours)

    def _drop(self, end: socket.socket) -> None:
        with self._lock:
            self._open.discard(end)
        end.close()

    def _tunnel(self, ours: socket.socket) -> None:
        """Answer one request to the proxy."""
        ours.settimeout(_CONNECT_SECONDS)
        head, rest = _head(ours)
        words = head.split(b"\r\n", 1)[0].decode("ascii", "replace").split()
        if len(words) != 3 or words[0] != "CONNECT":
            self._refuse(ours, "plain " + " ".join(words[:2])[:100], "405 Method Not Allowed")
            return
        name, _, port = words[1].rpartition(":")
        host = next(
            (host for host in self.hosts if not host.here and words[1].lower() == f"{host.name}:{host.port}"), None
        )
        if host is None:
            self._refuse(ours, f"{name[:100]}:{port[:5]}", "403 Forbidden")
            return
        self._reach(ours, host, b"HTTP/1.1 200 Connection established\r\n\r\n", rest)

    def _refuse(self, ours: socket.socket, what: str, status: str) -> None:
        with self._lock:
            if what in self.refused or len(self.refused) < 100:
                self.refused[printable(what)] += 1
        ours.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def _reach(self, ours: socket.socket, host: Host, welcome: bytes = b"", first: bytes = b"") -> None:
        """Carry a connection to a host on the list."""
        try:
            theirs = self.connect((host.name, host.port), _CONNECT_SECONDS)
        except OSError:
            if welcome:
                ours.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        if not host.here and _of_this_machine(theirs):
            theirs.close()
            self._refuse(ours, f"{host.name}:{host.port}, which leads to this machine", "403 Forbidden")
            return
        if not self._keep(theirs, most=_CONNECTIONS):
            return
        try:
            ours.settimeout(None)
            theirs.settimeout(None)
            ours.sendall(welcome)
            theirs.sendall(first)
            exchange(ours, theirs)
        finally:
            self._drop(theirs)


def _head(ours: socket.socket) -> tuple[bytes, bytes]:
    """Read a request up to its empty line; return it, and what came after. Raises OSError for one too long."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = ours.recv(_HEAD_BYTES)
        got += piece
        if not piece or len(got) > _HEAD_BYTES:
            raise OSError("no request")
    head, _, rest = got.partition(b"\r\n\r\n")
    return head, rest


def _of_this_machine(theirs: socket.socket) -> bool:
    """Whether a name has led to this machine or its link, as a name server that means harm could let it."""
    address = ipaddress.ip_address(theirs.getpeername()[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified)
