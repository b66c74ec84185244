"""What a job left is opened in no way but the straight one, by openat2 and by the walk alike."""

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
def job_dir(tmp_path: Path) -> Path:
    """A job's output beside a secret."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "out" / "sub").mkdir(parents=True)
    (tmp_path / "out" / "sub" / "weights").write_bytes(b"weights")
    return tmp_path / "out"


def test_a_regular_file_is_read(read: Callable[[Path, str], bytes], job_dir: Path) -> None:
    assert read(job_dir, "sub/weights") == b"weights"


@LINUX
@pytest.mark.parametrize("name", ["link", "folder/secret", "../secret", "sub/../../secret", "pipe", "sub", "twin", ""])
def test_everything_else_is_refused_at_once(read: Callable[[Path, str], bytes], job_dir: Path, name: str) -> None:
    (job_dir / "link").symlink_to(job_dir.parent / "secret")
    (job_dir / "folder").symlink_to(job_dir.parent)
    os.mkfifo(job_dir / "pipe")
    os.link(job_dir.parent / "secret", job_dir / "twin")
    with pytest.raises(OSError, match=r"."):
        read(job_dir, name)


def test_a_link_in_place_of_the_directory_is_refused(read: Callable[[Path, str], bytes], job_dir: Path) -> None:
    job_dir.rename(job_dir.with_name("real"))
    job_dir.symlink_to(job_dir.with_name("real"))
    with pytest.raises(OSError, match=r"."):
        read(job_dir, "sub/weights")


def test_an_absolute_path_is_refused(read: Callable[[Path, str], bytes], job_dir: Path) -> None:
    with pytest.raises(OSError, match=r"."):
        read(job_dir, str(job_dir.parent / "secret"))
