"""What a room left is opened in no way but the straight one, by openat2 and by the walk alike."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.sandbox import output
from tests.sandbox.inside import LINUX


@pytest.fixture(params=["openat2", "walk"])
def read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], bytes]:
    if request.param == "walk":
        monkeypatch.setattr(output, "_open_beneath", output.walk)

    def whole(directory: Path, name: str) -> bytes:
        with os.fdopen(output.open_regular(directory, name), "rb") as file:
            return file.read()

    return whole


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A room's output beside a secret."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "out" / "sub").mkdir(parents=True)
    (tmp_path / "out" / "sub" / "weights").write_bytes(b"weights")
    return tmp_path / "out"


def test_a_regular_file_is_read(read: Callable[[Path, str], bytes], room: Path) -> None:
    assert read(room, "sub/weights") == b"weights"


@LINUX
@pytest.mark.parametrize("name", ["link", "folder/secret", "../secret", "sub/../../secret", "pipe", "sub", "twin", ""])
def test_everything_else_is_refused_at_once(read: Callable[[Path, str], bytes], room: Path, name: str) -> None:
    (room / "link").symlink_to(room.parent / "secret")
    (room / "folder").symlink_to(room.parent)
    os.mkfifo(room / "pipe")
    os.link(room.parent / "secret", room / "twin")
    with pytest.raises(OSError, match=r"."):
        read(room, name)


def test_a_link_in_place_of_the_directory_is_refused(read: Callable[[Path, str], bytes], room: Path) -> None:
    room.rename(room.with_name("real"))
    room.symlink_to(room.with_name("real"))
    with pytest.raises(OSError, match=r"."):
        read(room, "sub/weights")


def test_an_absolute_path_is_refused(read: Callable[[Path, str], bytes], room: Path) -> None:
    with pytest.raises(OSError, match=r"."):
        read(room, str(room.parent / "secret"))
