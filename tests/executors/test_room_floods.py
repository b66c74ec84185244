"""What a job may hide in its room, or put in the way of whoever clears it away."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from instar.conduct import canaries
from instar.executors import kernel, rooms


def nest(room: Path, depth: int, name: str = "d") -> None:
    """Make directories in one another, deeper than any path."""
    (room / "out").mkdir(parents=True)
    here = os.open(room / "out", os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)


@pytest.mark.parametrize(("depth", "name"), [(2000, "d"), (40, "d" * 250)])
def test_a_room_is_cleared_however_deep_it_is(tmp_path: Path, depth: int, name: str) -> None:
    room = tmp_path / "room"
    nest(room, depth, name)
    assert f"{rooms.MAX_DEPTH} directories deep" in rooms.overfull(room, 2**30) or depth < rooms.MAX_DEPTH
    assert (
        list(canaries.Canary("instar-canary-0123456789abcdef").found_in(room)) == []
    )  # it looks through all of it that has a name
    rooms.clear(room)
    assert not room.exists()


def test_a_locked_directory_below_others_is_cleared(tmp_path: Path) -> None:
    room = tmp_path / "room"
    nest(room, 3)
    (room / "out" / "d" / "d").chmod(0)
    (room / "out" / "d").chmod(0)
    rooms.clear(room)
    assert not room.exists()


def test_a_link_in_a_deep_room_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    nest(tmp_path / "room", 2000)
    (tmp_path / "room" / "out" / "link").symlink_to(tmp_path / "precious")
    rooms.clear(tmp_path / "room")
    assert (tmp_path / "precious" / "file").exists()


def test_what_cannot_be_listed_is_too_much(tmp_path: Path) -> None:
    nest(tmp_path / "room", 20, "d" * 250)
    assert "cannot be listed" in rooms.overfull(tmp_path / "room", 2**30)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_files_without_a_name_are_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb", buffering=0) as file:
        file.write(bytes(2**20))
        assert kernel.nameless_bytes([os.getpid()], tmp_path) == 0
        path.unlink()
        twin = os.dup(file.fileno())
        assert kernel.nameless_bytes([os.getpid()], tmp_path) == 2**20
        os.close(twin)
    assert kernel.nameless_bytes([os.getpid()], tmp_path) == 0
