"""The scratch directory: in memory where there is room, ours alone, the same for the same run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from instar import scratch
from instar.errors import ArchiveError


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scratch, "_ENOUGH_BYTES", 1)
    (tmp_path / "memory").mkdir()
    return tmp_path / "memory"


def test_the_same_run_finds_the_same_directory(tmp_path: Path, memory: Path) -> None:
    first = scratch.scratch_directory(tmp_path / "run", memory)
    (first / "kept").write_text("x")
    assert scratch.scratch_directory(tmp_path / "elsewhere" / ".." / "run", memory) == first
    assert scratch.scratch_directory(tmp_path / "other", memory) != first
    assert first.parent == memory
    assert first.stat().st_mode & 0o777 == 0o700
    scratch.remove_scratch(first)
    scratch.remove_scratch(first)
    assert not first.exists()


def test_without_memory_it_lies_in_the_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scratch.scratch_directory(tmp_path / "run", tmp_path / "none") == tmp_path / "run" / "scratch"
    monkeypatch.setattr(scratch, "_ENOUGH_BYTES", 2**62)
    assert scratch.scratch_directory(tmp_path / "run", tmp_path) == tmp_path / "run" / "scratch"


@pytest.mark.parametrize("trap", ["link", "file", "open"])
def test_a_place_that_is_not_ours_alone_is_refused(tmp_path: Path, memory: Path, trap: str) -> None:
    place = scratch.scratch_directory(tmp_path / "run", memory)
    place.rmdir()
    if trap == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "theirs")
    if trap == "file":
        place.touch()
    if trap == "open":
        place.mkdir()
        os.chmod(place, 0o777)
    with pytest.raises(ArchiveError, match="not ours alone"):
        scratch.scratch_directory(tmp_path / "run", memory)
