"""Random process trees whose CPU time is known: each process writes its own clock as its last act.

They fork, start threads, run programs, leave daemons, end by exits and by signals, ignore the end of their children in
two ways, adopt orphans, and go on without their first thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, NoReturn

CLOCKS = "clocks"  # file in the output: one number (8 bytes, seconds) for each process
MOST = 12  # processes of one tree
_LIBC = ctypes.CDLL(None, use_errno=True)
_EXIT = 60 if os.uname().machine == "x86_64" else 93  # of one thread
_SUBREAPER = 36
_SECONDS = 20.0  # after which a tree is given up
_ENDINGS = ("exit", "status", "killed", "fault", "program", "no first thread")
_PROGRAM = """
import os, struct, time
end = time.process_time() + {seconds}
while time.process_time() < end: pass
file = os.open(os.environ["INSTAR_CLOCKS"], os.O_WRONLY | os.O_APPEND)
os.write(file, struct.pack("=d", time.process_time()))
"""

Node = Mapping[str, Any]


def draw(random: Random) -> dict[str, Any]:
    """Return a tree: how each process works, whom it starts, whom it waits for, and how it ends."""
    return _draw(random, [random.randint(1, MOST) - 1], 0)


def _draw(random: Random, left: list[int], depth: int) -> dict[str, Any]:
    children = []
    while left[0] > 0 and depth < 4 and random.random() < (0.9 if depth == 0 else 0.5):
        left[0] -= 1
        children.append(_draw(random, left, depth + 1))
    return {
        "seconds": random.choice((0.0, 0.002, 0.01, 0.03)),
        "threads": random.choice((0, 0, 0, 1, 3)),
        "children": children,
        "of_children": random.choice(("default", "default", "ignored", "handled")),
        "adopts": random.random() < 0.3,
        "waits": depth == 0 or random.random() < 0.6,  # else what it leaves is somebody else's
        "session": random.random() < 0.2,
        "ending": "exit" if depth == 0 else random.choice(_ENDINGS),
    }


def processes(node: Node) -> int:
    """Return how many processes a tree has."""
    return 1 + sum(processes(child) for child in node["children"])


def grow(job_dir: Path, payload: Node) -> None:
    """Be the tree's first process: a job's entry. It ends when every process has written its clock."""
    os.environ["INSTAR_CLOCKS"] = str(job_dir / "out" / CLOCKS)
    (job_dir / "out" / CLOCKS).touch()
    wanted = processes(payload["tree"]) - 1
    _live(payload["tree"])
    deadline = time.monotonic() + _SECONDS
    while len(clocks(job_dir / "out")) < wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(clocks(job_dir / 'out'))} of {wanted} processes have ended")
        time.sleep(0.002)
    write()


def clocks(output: Path) -> list[float]:
    """Return what the processes wrote, in CPU seconds."""
    return [seconds for (seconds,) in struct.iter_unpack("=d", (output / CLOCKS).read_bytes())]


def work(seconds: float) -> None:
    """Use CPU time in this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def write() -> None:
    """Add this process's clock to the others."""
    file = os.open(os.environ["INSTAR_CLOCKS"], os.O_WRONLY | os.O_APPEND)
    os.write(file, struct.pack("=d", time.process_time()))


def _live(node: Node) -> None:
    """Do what a node says, but for its end."""
    if node["session"]:
        with suppress(OSError):
            os.setsid()
    if node["adopts"]:
        _LIBC.prctl(_SUBREAPER, 1, 0, 0, 0)
    if node["of_children"] == "handled":
        signal.signal(signal.SIGCHLD, lambda *_: None)
    else:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN if node["of_children"] == "ignored" else signal.SIG_DFL)
    threads = [threading.Thread(target=work, args=(node["seconds"],)) for _ in range(node["threads"])]
    for child in node["children"]:
        if os.fork() == 0:
            try:
                _live(child)
            finally:
                _end(child)
    for thread in threads:
        thread.start()
    work(node["seconds"])
    for thread in threads:
        thread.join()
    with suppress(ChildProcessError):
        while node["waits"]:
            os.wait()


def _end(node: Node) -> NoReturn:
    """Write the clock and end."""
    if node["ending"] == "program":
        program = _PROGRAM.format(seconds=node["seconds"])
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", program])  # noqa: S606 - by design
    if node["ending"] == "no first thread":
        threading.Thread(target=_outlive, args=(node["seconds"],)).start()
        _LIBC.syscall(_EXIT, 0)
    write()
    if node["ending"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if node["ending"] == "fault":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    os._exit(3 if node["ending"] == "status" else 0)


def _outlive(seconds: float) -> NoReturn:
    work(seconds)
    write()
    os._exit(0)
