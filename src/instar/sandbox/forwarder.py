"""A program inside a sandbox: starts a command with its streams in files, and carries loopback connections out.

The sandbox has a network of its own with nothing in it but a loopback interface. Connections to each port are carried
to a Unix socket in the job directory, behind which an `egress.Egress` decides what becomes of them.
Nothing here is trusted: who takes this process over can do no more than the command itself.

It leans on the standard library alone, so that it starts at once (`python -I -S`) and needs nothing else to be visible.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress

_PIECE = 2**16


def main() -> None:
    """Do what the first argument says (JSON): open `ports`, run `arguments` in `directory`, end with its exit code."""
    told = json.loads(sys.argv[1])
    for port, path in told["ports"]:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=_stand, args=(listener, path), daemon=True).start()
    try:
        with open(told["input"], "rb") as stdin, open(told["output"], "xb") as out, open(told["errors"], "xb") as err:
            child = subprocess.Popen(  # noqa: S603 - in the sandbox
                told["arguments"], stdin=stdin, stdout=out, stderr=err, cwd=told["directory"]
            )
            code = child.wait()
    except OSError as error:
        sys.stderr.write(f"{told['arguments'][0]}: {error.strerror}\n")
        code = 127
    sys.stderr.flush()
    os._exit(code if code >= 0 else 128 - code)


def _stand(listener: socket.socket, path: str) -> None:
    """Answer every connection to one port."""
    while True:
        ours, _ = listener.accept()
        threading.Thread(target=_carry, args=(ours, path), daemon=True).start()


def _carry(ours: socket.socket, path: str) -> None:
    """Carry one connection to the socket at `path`, both ways, until both ends are done."""
    theirs = socket.socket(socket.AF_UNIX)
    with ours, theirs:
        try:
            theirs.connect(path)
        except OSError:
            return
        exchange(ours, theirs)


def exchange(ours: socket.socket, theirs: socket.socket) -> None:
    """Carry what either end says to the other until both are done."""
    back = threading.Thread(target=_pour, args=(theirs, ours), daemon=True)
    back.start()
    _pour(ours, theirs)
    back.join()


def _pour(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main()
