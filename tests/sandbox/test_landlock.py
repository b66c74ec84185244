"""Landlock alone, in a plain fork: what the other layers would hide is tried with it and without."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.sandbox import landlock
from tests.sandbox.inside import LINUX

pytestmark = [LINUX, pytest.mark.skipif(not landlock.abi(), reason="the kernel has no Landlock")]


def forked(function: Callable[[], object], rules: dict[str, int] | None) -> str:
    """Run a function in a fork, restricted if there are rules; return "done" or the error's name."""
    theirs, ours = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "done"
        try:
            if rules is not None:
                ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
                landlock.restrict(rules)
            function()
        except OSError as error:
            said = type(error).__name__
        os.write(ours, said.encode())
        os._exit(0)
    os.close(ours)
    os.waitpid(pid, 0)
    with os.fdopen(theirs) as pipe:
        return pipe.read()


@pytest.fixture
def rules(tmp_path: Path) -> dict[str, int]:
    (tmp_path / "job").mkdir()
    return {"/": landlock.READ, str(tmp_path / "job"): landlock.JOB_DIR_RIGHTS}


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        ("write", lambda place: (place / "victim").write_text("mine")),
        ("remove", lambda place: (place / "victim").unlink()),
        ("make", lambda place: (place / "new").touch()),
        ("rename out of the job directory", lambda place: (place / "job" / "own").rename(place / "planted")),
        ("truncate", lambda place: os.truncate(place / "victim", 0)),
    ],
)
def test_files_outside_of_the_room(
    tmp_path: Path, rules: dict[str, int], name: str, attack: Callable[[Path], object]
) -> None:
    (tmp_path / "victim").write_text("before")
    (tmp_path / "job" / "own").touch()
    assert forked(lambda: attack(tmp_path), rules) in ("PermissionError", "OSError"), name
    assert (tmp_path / "victim").read_text() == "before"
    assert forked(lambda: attack(tmp_path), None) == "done"


def test_inside_the_job_directory_all_is_allowed(tmp_path: Path, rules: dict[str, int]) -> None:
    def work() -> None:
        job_dir = tmp_path / "job"
        (job_dir / "a").write_text("x")
        (job_dir / "b").mkdir()
        (job_dir / "a").rename(job_dir / "b" / "a")
        (job_dir / "b" / "a").unlink()

    assert forked(work, rules) == "done"


@pytest.mark.skipif(landlock.abi() < 4, reason="needs ABI 4")
def test_tcp(rules: dict[str, int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def connect() -> None:
            socket.create_connection(server.getsockname(), 5.0).close()

        assert forked(connect, None) == "done"
        assert forked(connect, rules) == "PermissionError"


@pytest.mark.skipif(landlock.abi() < 6, reason="needs ABI 6")
def test_signals_and_abstract_sockets(rules: dict[str, int]) -> None:
    address = f"\0instar-landlock-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        for attack in (lambda: os.kill(os.getppid(), 0), lambda: socket.socket(socket.AF_UNIX).connect(address)):
            assert forked(attack, None) == "done"
            assert forked(attack, rules) == "PermissionError"
