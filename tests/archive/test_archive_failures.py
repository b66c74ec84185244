"""What an archive does when the file, the disk or the process fails."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from instar.archive import open_archive, read_archive
from instar.contracts.archive import Reservation
from instar.contracts.errors import ArchiveError
from instar.contracts.records import Design, Proposal, Trial, Usage
from instar.testing.archive import IDENTITY, sample_proposal, sample_trial


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An archive with some facts in it, closed."""
    path = tmp_path / "archive.db"
    with open_archive(path, IDENTITY) as archive:
        archive.record([fact for n in range(1, 101) for fact in (sample_proposal(n), sample_trial(n))])
    return path


def _refusal(path: Path, *, reading: bool = False) -> ArchiveError:
    with pytest.raises(ArchiveError) as caught:
        read_archive(path) if reading else open_archive(path, IDENTITY)
    assert str(path) in caught.value.what
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize("reading", [False, True])
@pytest.mark.parametrize("cut", [10, 4_096, 20_000])
def test_a_file_cut_short_is_refused(path: Path, cut: int, reading: bool) -> None:
    os.truncate(path, cut)
    assert "damaged" in _refusal(path, reading=reading).what


def test_garbage_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"not a database " * 1_000)
    assert "damaged" in _refusal(path).what
    assert "damaged" in _refusal(path, reading=True).what
    assert path.read_bytes().startswith(b"not a database")


def test_damage_inside_is_refused(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(2, size // 4_096):
            file.seek(page * 4_096)
            file.write(b"\xff" * 512)
    assert "damaged" in _refusal(path).what


def test_a_row_that_does_not_decode_is_named(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE trials SET state = 'splendid' WHERE number = 7")
    connection.close()
    with open_archive(path, IDENTITY) as archive, pytest.raises(ArchiveError, match="table trials, row 7"):
        list(archive.history(Trial))


def test_another_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    assert "songs" in _refusal(path).what


def test_another_version_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    assert "9999" in _refusal(path).what
    assert "9999" in _refusal(path, reading=True).what


def test_no_archive_cannot_be_read(tmp_path: Path) -> None:
    assert "no archive" in _refusal(tmp_path / "archive.db", reading=True).what
    (tmp_path / "archive.db").touch()
    assert "no run yet" in _refusal(tmp_path / "archive.db", reading=True).what


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ArchiveError, match="cannot be written") as caught:
        open_archive(tmp_path / "archive.db", IDENTITY)
    assert "read-only" in caught.value.fix


def test_a_path_that_is_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "archive.db").mkdir()
    assert "cannot be written" in _refusal(tmp_path / "archive.db").what


def test_a_second_writer_learns_who_holds_the_archive(path: Path) -> None:
    with open_archive(path, IDENTITY):
        error = _refusal(path)
    assert "another instar run is using" in error.what
    assert str(os.getpid()) in error.what


def test_a_full_disk_leaves_nothing_half_written(path: Path) -> None:
    with open_archive(path, IDENTITY) as archive:
        archive.record(reserve=[Reservation("a", "improve", 1.0)])
        driver = archive._connection.connection.driver_connection
        assert driver is not None
        pages = driver.execute("PRAGMA page_count").fetchone()[0]
        driver.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(ArchiveError, match="the disk is full") as caught:
            archive.record([sample_proposal(n) for n in range(101, 400)], settle={"a": Usage(1.0, 1.0, 1)})
        assert "Free some space" in caught.value.fix
        assert archive.account().reserved_cpu_seconds == 1.0
        driver.execute("PRAGMA max_page_count = 1000000")
        archive.record([sample_proposal(n) for n in range(101, 400)], settle={"a": Usage(1.0, 1.0, 1)})
    with open_archive(path, IDENTITY) as archive:
        assert len(list(archive.history(Proposal))) == 399
        assert archive.account().total.cpu_seconds == 1.0


@pytest.mark.parametrize(
    "fact",
    [
        replace(sample_trial(), why="\ud800"),
        replace(sample_trial(), rung=2**63),
        replace(sample_proposal(), design=Design("tiles", {"rate": float("nan")})),
        replace(sample_proposal(), why=None),
    ],
    ids=["surrogate", "large", "nan", "missing"],
)
def test_a_value_that_cannot_be_stored_is_refused(path: Path, fact: Any) -> None:
    with open_archive(path, IDENTITY) as archive:
        with pytest.raises(ArchiveError, match="a value cannot be stored"):
            archive.record([sample_trial(500), fact])
        assert archive.counts() == {"running": 100}


def test_a_closed_archive_says_so(path: Path) -> None:
    archive = open_archive(path, IDENTITY)
    archive.close()
    for use in (archive.record, archive.account, archive.counts, lambda: next(archive.history(Trial))):
        with pytest.raises(ArchiveError, match="it was closed"):
            use()


@pytest.mark.parametrize(
    "change", ["DELETE FROM meta", "UPDATE meta SET identity = '[]'", "UPDATE meta SET identity = ''"]
)
def test_a_lost_identity_is_damage(path: Path, change: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()
    assert "damaged" in _refusal(path).what
    assert "damaged" in _refusal(path, reading=True).what


WRITER = """
    import sys
    from pathlib import Path
    from instar.archive import open_archive
    from instar.contracts.archive import Reservation
    from instar.contracts.records import Usage
    from instar.testing.archive import IDENTITY, sample_proposal, sample_trial

    archive = open_archive(Path(sys.argv[1]), IDENTITY)
    reserved = [f"trial:{number}:1" for number in range(int(sys.argv[2]), 100_000)]
    archive.record(reserve=[Reservation(reserved[0], "improve", 1.0)])
    for number, (key, following) in enumerate(zip(reserved, reserved[1:]), start=int(sys.argv[2])):
        archive.record(
            [sample_proposal(number), sample_trial(number)],
            settle={key: Usage(1.0, 1.0, 1)},
            reserve=[Reservation(following, "improve", 1.0)],
        )
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
"""


def test_what_was_acknowledged_outlives_the_writer(tmp_path: Path) -> None:
    """Kills at random points; this tests the end of the process, not a power cut."""
    path, rng, start = tmp_path / "archive.db", random.Random(5), 1
    for _ in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(start)], stdout=subprocess.PIPE, text=True
        )
        with writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(rng.randrange(1, 60))]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
            acknowledged = int([line for line in lines if line.endswith("\n")][-1])
        with open_archive(path, IDENTITY) as archive:
            numbers = [trial.number for trial in archive.history(Trial)]
            assert numbers == [proposal.number for proposal in archive.history(Proposal)]
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) >= acknowledged
            assert archive.counts() == {"running": len(numbers)}
            assert archive.account().total.cpu_seconds == len(numbers)
            start = len(numbers) + 1


FILLER = """
    import resource, sys
    from pathlib import Path
    from instar.archive import open_archive
    from instar.contracts.errors import ArchiveError
    from instar.testing.archive import IDENTITY, sample_proposal

    archive = open_archive(Path(sys.argv[1]), IDENTITY)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    done = 0
    try:
        while True:
            archive.record([sample_proposal(done + 1)])
            done += 1
    except ArchiveError as error:
        assert error.fix, error
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    archive.record([sample_proposal(done + 1)])
    archive.close()
    print(done + 1)
"""


def test_writes_that_fail_for_real_are_survived(tmp_path: Path) -> None:
    path = tmp_path / "archive.db"
    command = [sys.executable, "-c", textwrap.dedent(FILLER), str(path)]
    done = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    with open_archive(path, IDENTITY) as archive:
        assert [proposal.number for proposal in archive.history(Proposal)] == list(range(1, done + 1))
