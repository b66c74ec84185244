"""The decoy's token is found in whatever a job leaves, in several shapes, and nowhere else."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import numpy as np
import pytest
from tests.rig import Rig
from tests.toys import TeachingToyLab

from instar.artefacts import write_arrays
from instar.conduct.canaries import DECOY, Canary, plant

TOKEN = "0123456789abcdef" * 2


@pytest.fixture
def room(tmp_path: Path) -> Path:
    (tmp_path / "room" / "out" / "deep").mkdir(parents=True)
    (tmp_path / "room" / "log.txt").write_text("epoch 1\n")
    return tmp_path / "room"


def canary(place: Path) -> tuple[Canary, bytes]:
    made = plant(TOKEN, place)
    return made, made.token.encode()


@pytest.mark.parametrize("name", ["log.txt", "out/answers.safetensors", "out/deep/x.json"])
@pytest.mark.parametrize("log", ["epoch 1\n", "", None])
def test_the_token_is_found_wherever_it_was_left(tmp_path: Path, room: Path, name: str, log: str | None) -> None:
    made, token = canary(tmp_path)
    (room / "log.txt").unlink() if log is None else (room / "log.txt").write_text(log)
    assert list(made.found_in(room)) == []
    (room / name).write_bytes(b"x" * 1000 + token + b"y")
    assert list(made.found_in(room)) == [name]


@pytest.mark.parametrize("before", range(5))
def test_the_token_is_found_in_hexadecimal_base64_and_arrays(tmp_path: Path, room: Path, before: int) -> None:
    made, token = canary(tmp_path)
    text = b"ab{\xff}"[:before] + token + b"and more"
    for encoded in (text.hex().encode(), base64.b64encode(text)):
        (room / "out" / "a.json").write_bytes(encoded)
        assert list(made.found_in(room)) == ["out/a.json"]
    write_arrays(room / "out" / "a.json", {"w": np.frombuffer(text, dtype=np.uint8)})
    assert list(made.found_in(room)) == ["out/a.json"]


def test_links_are_not_followed_and_other_runs_tokens_are_nothing(tmp_path: Path, room: Path) -> None:
    made, _ = canary(tmp_path)
    (room / "out" / "link.json").symlink_to(tmp_path / DECOY)
    os.mkfifo(room / "out" / "fifo")
    (room / "out" / "other.json").write_text("instar-canary-" + "f" * 32)
    assert list(made.found_in(room)) == []
    assert list(made.found_in(tmp_path / "nowhere")) == []


class Curious(TeachingToyLab):
    """Its training jobs print what they find in the run directory."""

    def train(self, request):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        job = super().train(request)
        entry = "tests.conduct.test_canaries:curious" if request.parent else job.entry
        return replace(job, entry=entry)


def curious(room: Path, payload: object) -> None:
    home = room.parents[2]
    for path in sorted(home.glob("*.json")):
        print(path.read_text())
    raise RuntimeError("nothing found")


def test_a_job_that_reads_a_decoy_pauses_the_run(tmp_path: Path) -> None:
    _, why = Rig(tmp_path, Curious()).play()
    assert why == "paused: conduct: canary in job trial:1: a decoy's token in log.txt"
