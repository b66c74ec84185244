"""What a job may hide in its directory, or put in the way of whoever clears it away."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from instar.executors import job_directory, kernel
from instar.run.conduct import canaries


def nest(job_dir: Path, depth: int, name: str = "d") -> None:
    """Make directories in one another, deeper than any path."""
    (job_dir / "out").mkdir(parents=True)
    here = os.open(job_dir / "out", os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)


@pytest.mark.parametrize(("depth", "name"), [(2000, "d"), (40, "d" * 250)])
def test_a_job_directory_is_cleared_however_deep_it_is(tmp_path: Path, depth: int, name: str) -> None:
    job_dir = tmp_path / "job"
    nest(job_dir, depth, name)
    assert (
        f"{job_directory.MAX_DEPTH} directories deep" in job_directory.overfull(job_dir, 2**30)
        or depth < job_directory.MAX_DEPTH
    )
    assert (
        list(canaries.Canary("instar-canary-0123456789abcdef").found_in(job_dir)) == []
    )  # it looks through all of it that has a name
    job_directory.clear(job_dir)
    assert not job_dir.exists()


def test_a_locked_directory_below_others_is_cleared(tmp_path: Path) -> None:
    job_dir = tmp_path / "job"
    nest(job_dir, 3)
    (job_dir / "out" / "d" / "d").chmod(0)
    (job_dir / "out" / "d").chmod(0)
    job_directory.clear(job_dir)
    assert not job_dir.exists()


def test_a_link_in_a_deep_job_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    nest(tmp_path / "job", 2000)
    (tmp_path / "job" / "out" / "link").symlink_to(tmp_path / "precious")
    job_directory.clear(tmp_path / "job")
    assert (tmp_path / "precious" / "file").exists()


def test_what_cannot_be_listed_is_too_much(tmp_path: Path) -> None:
    nest(tmp_path / "job", 20, "d" * 250)
    assert "cannot be listed" in job_directory.overfull(tmp_path / "job", 2**30)


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
