"""The scratch directory: in memory where there is space, ours alone, the same for the same run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from instar.contracts.errors import ArchiveError
from instar.executors import scratch


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


# --- who holds it, and what ended runs leave ------------------------------------------------------------------------


def left_behind(home: Path, memory: Path) -> Path:
    """A scratch directory with something in it, whose conductor was killed."""
    with scratch.held(home, memory) as directory:
        (directory / "trials").mkdir()
    return directory


def age(directory: Path, seconds: float) -> None:
    for path in (*directory.glob("*"), directory):
        os.utime(path, (time.time() - seconds,) * 2)


def test_what_an_ended_run_left_is_removed_by_the_next_of_any_kind(tmp_path: Path, memory: Path) -> None:
    dead, mine = left_behind(tmp_path / "dead", memory), left_behind(tmp_path / "mine", memory)
    age(dead, 700.0)
    age(mine, 700.0)
    with scratch.held(tmp_path / "mine", memory) as directory:
        assert directory == mine
        assert (mine / "trials").is_dir()  # a resumed run finds its own as it was
        assert not dead.exists()
    assert [path.name for path in memory.iterdir()] == [mine.name]


def test_who_restarts_soon_finds_its_scratch_although_another_run_began(tmp_path: Path, memory: Path) -> None:
    dead = left_behind(tmp_path / "dead", memory)
    with scratch.held(tmp_path / "other", memory):
        assert (dead / "trials").is_dir()


def test_what_a_living_run_holds_is_never_removed(tmp_path: Path, memory: Path) -> None:
    with scratch.held(tmp_path / "run", memory) as directory:
        age(directory, 1e6)
        assert scratch.sweep(memory) == []
        assert directory.is_dir()
    assert scratch.sweep(memory) == [directory]
    assert not list(memory.iterdir())


def test_a_directory_that_never_had_an_owner_waits_for_a_day(tmp_path: Path, memory: Path) -> None:
    bare = scratch.scratch_directory(tmp_path / "older", memory)
    assert scratch.sweep(memory) == []
    age(bare, 90_000.0)
    assert scratch.sweep(memory) == [bare]


def test_a_removal_that_was_cut_off_is_finished_and_links_are_left_alone(tmp_path: Path, memory: Path) -> None:
    doomed = memory / f"instar-{os.getuid()}-0123~"
    doomed.mkdir()
    (tmp_path / "mine").mkdir()
    link = memory / f"instar-{os.getuid()}-4567"
    link.symlink_to(tmp_path / "mine")
    scratch.sweep(memory)
    assert not doomed.exists()
    assert link.is_symlink()
    assert (tmp_path / "mine").is_dir()


def test_two_cannot_hold_the_same(tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_ATTEMPTS", 2)
    with (
        scratch.held(tmp_path / "run", memory),
        pytest.raises(ArchiveError, match="held by another process"),
        scratch.held(tmp_path / "run", memory),
    ):
        pass
