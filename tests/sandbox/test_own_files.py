"""A job's own file system: whatever is done to its files, they take no more than it has."""

from __future__ import annotations

import mmap
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from instar.sandbox import leftovers
from tests.sandbox.inside import LINUX, WAYS, inside

pytestmark = LINUX
OWN = 8 * 2**20
HELD: list[Any] = []  # until the process inside ends


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="instar-sandbox-") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def _mebibyte(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    if os.write(descriptor, bytes(2**20)) < 2**20:
        raise OSError(28, "No space left on device")
    return descriptor


def named(path: Path) -> None:
    os.close(_mebibyte(path))


def hard_linked(path: Path) -> None:
    os.close(_mebibyte(path))
    os.link(path, f"{path}.second")


def nameless(path: Path) -> None:
    HELD.append(_mebibyte(path))
    path.unlink()


def made_without_a_name(path: Path) -> None:
    HELD.append(os.open(path.parent, os.O_RDWR | os.O_TMPFILE))
    if os.write(HELD[-1], bytes(2**20)) < 2**20:
        raise OSError(28, "No space left on device")


def mapped(path: Path) -> None:
    descriptor = _mebibyte(path)
    HELD.append(mmap.mmap(descriptor, 4096))
    os.close(descriptor)
    path.unlink()


def in_flight(path: Path) -> None:
    descriptor = _mebibyte(path)
    HELD.append(socket.socketpair())
    socket.send_fds(HELD[-1][0], [b"x"], [descriptor])
    os.close(descriptor)
    path.unlink()


def allocated(path: Path) -> None:
    HELD.append(os.open(path, os.O_RDWR | os.O_CREAT))
    os.posix_fallocate(HELD[-1], 0, 2**20)


def holes(path: Path) -> None:
    """The end of a sparse file is written: 4 KiB each that its length does not tell of."""
    HELD.append(os.open(path, os.O_RDWR | os.O_CREAT))
    for block in range(256):
        os.pwrite(HELD[-1], b"x" * 4096, block * 2**22)


PLACES = {"out": "out", "temporary": "/tmp", "beside": ".", "log": "log.txt", "inputs": "in"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "kind", [named, hard_linked, nameless, made_without_a_name, mapped, in_flight, allocated, holes]
)
def test_no_kind_of_file_takes_more_than_there_is(place: Path, way: str, kind: Callable[[Path], None]) -> None:
    def fill() -> list[Any]:
        made = 0
        try:
            for made in range(64):
                kind(Path(f"out/{made}"))
        except OSError as error:
            return [made, error.errno]
        return [made, 0]

    made, why = inside(fill, place, way, own_bytes=OWN).value
    assert why == 28  # ENOSPC
    assert 1 <= made <= OWN // 2**20


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("where", PLACES)
def test_no_place_is_another_file_system(place: Path, way: str, where: str) -> None:
    (place / "job").mkdir()
    (place / "job" / "log.txt").touch()

    def fill() -> int:
        target = Path(PLACES[where])
        try:
            if where in ("log", "inputs"):
                target.rename("moved")
                target.mkdir()
            for made in range(64):
                named(target / str(made))
        except OSError:
            return made if where not in ("log", "inputs") else 0
        return 64

    assert inside(fill, place, way, own_bytes=OWN).value <= OWN // 2**20
    assert sum(path.stat().st_size for path in (place / "job").rglob("*") if path.is_file()) < 2**16


def test_directories_and_attributes_count(place: Path) -> None:
    def fill() -> list[int]:
        directories = attributes = 0
        try:
            for directories in range(40_000):
                os.mkdir(f"out/{directories}")
        except OSError:
            os.rmdir("out/0")
            os.rmdir("out/1")
        try:
            Path("tmp/file").touch()
            for attributes in range(64_000):
                os.setxattr("tmp/file", f"user.{attributes}", bytes(1024))
        except OSError:
            pass
        return [directories, attributes]

    directories, attributes = inside(fill, place, own_bytes=OWN).value
    assert directories <= leftovers.MAX_FILES + 512
    assert attributes < 64_000


def test_the_output_is_delivered_as_it_is(tmp_path: Path) -> None:
    files, job_dir = tmp_path / "files", tmp_path / "job"
    (files / "out" / "inner").mkdir(parents=True)
    (files / "out" / "inner" / "weights").write_bytes(b"w" * 100_000)
    (files / "out" / "link").symlink_to("/etc/passwd")
    os.mkfifo(files / "out" / "pipe")
    (files / "tmp").mkdir()
    (job_dir / "out").mkdir(parents=True)
    leftovers.deliver(files, job_dir)
    assert (job_dir / "out" / "inner" / "weights").read_bytes() == b"w" * 100_000
    assert os.readlink(job_dir / "out" / "link") == "/etc/passwd"
    assert (job_dir / "out" / "pipe").is_fifo()
    assert sorted(path.name for path in job_dir.iterdir()) == ["out"]


def test_an_output_that_is_a_link_is_not_delivered(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "out").symlink_to("/etc")
    (tmp_path / "job" / "out").mkdir(parents=True)
    leftovers.deliver(tmp_path / "files", tmp_path / "job")
    assert not list((tmp_path / "job" / "out").iterdir())
