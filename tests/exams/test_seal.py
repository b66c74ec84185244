"""Sealed seeds: fixed by key, root and purpose; unknown without the key."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from instar.contracts.errors import ArchiveError
from instar.exams.seal import Seal, open_seal


def test_a_seed_depends_on_key_root_and_purpose() -> None:
    seal = Seal(b"k" * 32)
    seeds = [seal.seed("r", "p"), seal.seed("s", "p"), seal.seed("r", "q"), Seal(b"l" * 32).seed("r", "p")]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seal.seed("r", "p") == seeds[0]
    expected = hmac.new(b"k" * 32, b"r|p", hashlib.sha256).digest()
    assert seeds[0] == int.from_bytes(expected[:8], "big") >> 1


def test_the_key_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    first, again = open_seal(tmp_path / "seal.key"), open_seal(tmp_path / "seal.key")
    assert first.commitment == again.commitment
    assert first.commitment == hashlib.sha256((tmp_path / "seal.key").read_bytes()).hexdigest()
    assert (tmp_path / "seal.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["seal.key"]
    assert open_seal(tmp_path / "other.key").commitment != first.commitment


def test_a_half_written_key_of_a_crash_is_not_used(tmp_path: Path) -> None:
    (tmp_path / ".seal.key.part").write_bytes(b"half")
    assert len(open_seal(tmp_path / "seal.key").commitment) == 64
    assert len((tmp_path / "seal.key").read_bytes()) == 32


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_damaged_key_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "seal.key").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"seal\.key: not a sealed key"):
        open_seal(tmp_path / "seal.key")


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="No such file"):
        open_seal(tmp_path / "missing" / "seal.key")
