"""`instar run --builder llm` before a stand-in: it proposes, is scored, survives every fault, keeps to its money."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from instar.archive import read_archive
from instar.builders.spend_cap import paid
from instar.contracts.records import Proposal, Trial, TrialState
from instar.ledger import verify
from instar.testing import standin
from instar.testing.standin import StandIn, answering, good, no_usage, saying, slow, status
from tests.rig import REPOSITORY

pytest.importorskip("openai")

PRICES = {"price_in": 2.0, "price_out": 8.0}
FAULTS = [
    standin.garbage, standin.truncated, standin.endless, standin.trickle, standin.endless_head, standin.reset,
    slow(30.0), status(429, retry_after="0.1"), status(500), no_usage, saying("hm"), saying("hm"), standin.bad_diff,
    standin.cut_off, answering(parameters={"push": 7}), answering(forecast=None),
    answering(forecast={"p_better": 0.5, "mean": 0.5, "deviation": -1.0}),
]  # fmt: skip


def begin(home: Path, server: StandIn, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start `instar run toy` with the stand-in as its model."""
    table = {"base_url": server.url, "max_tokens": 256, "timeout": 0.5, "pause": 0.2, "api_key_env": "TALK_KEY"}
    builders = json.dumps({"llm": table | PRICES | options})
    command = ["run", "toy", "--home", str(home), "--builder", "llm:stand-in", "--executor", "inline", "--workers", "1"]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.toy_command", *command, "--unsafe-no-sandbox", "--json", *arguments],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"INSTAR_BUILDERS": builders, "TALK_KEY": "sk-a-secret-of-mine", "INSTAR_PATIENCE": "1000"},
    )  # fmt: skip


def proposals(home: Path) -> list[Proposal]:
    with closing(read_archive(home / "archive.db")) as archive:
        return list(archive.history(Proposal))


def test_it_proposes_is_scored_and_survives_every_fault(tmp_path: Path) -> None:
    home = tmp_path / "run"
    with StandIn(FAULTS) as server:
        out, said = begin(home, server, "--budget", "20s", "--max-cost", "5").communicate(timeout=120)
        assert "Traceback" not in said, said
        result = json.loads(out)
        assert result["status"] == "done"
        assert len(server.requests) > len(FAULTS), "all of them were met"
        assert server.usd(**PRICES) <= result["paid"]["llm"]["usd"] <= 5.0
    replies = result["paid"]["llm"]["replies"]
    assert replies["proposed"] >= 2
    assert replies["refused"] >= 5
    assert replies["failed"] >= 3  # which of them are retried depends on how busy the machine is
    made = proposals(home)
    with closing(read_archive(home / "archive.db")) as archive:
        trials = list(archive.history(Trial))
    own = {proposal.number for proposal in made if str(proposal.author) == "llm@stand-in"}
    assert any(trial.proposal in own and trial.state is TrialState.SCORED for trial in trials)
    assert any(str(proposal.author).startswith("incumbent@") for proposal in made)
    assert all(proposal.why.startswith("in place of llm") for proposal in made if proposal.number not in own)
    assert len(result["generations"]) > 1, "in between a better one was found"
    assert verify(home / "ledger").problem is None
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"sk-a-secret-of-mine" not in everything
    assert "sk-a-secret-of-mine" not in out + said


def test_the_money_holds_over_a_kill(tmp_path: Path) -> None:
    home, cap = tmp_path / "run", 0.06
    with StandIn([good, good], then=slow(0.2)) as server:
        first = begin(home, server, "--budget", "60s", "--max-cost", str(cap), ahead=2)
        ends = time.monotonic() + 60
        while len(server.requests) < 4:
            assert time.monotonic() < ends
            assert first.poll() is None
            time.sleep(0.01)
        os.kill(first.pid, signal.SIGKILL)  # with calls under way
        first.communicate()
        before = paid(home / "builders" / "spend_cap.jsonl")["llm"].usd
        assert 0 < before <= cap
        arguments = ("--budget", "12s", "--max-cost", str(cap))
        out, said = begin(home, server, *arguments, ahead=2).communicate(timeout=120)
        assert "Traceback" not in said, said
        spent = json.loads(out)["paid"]["llm"]["usd"]
        assert before < spent <= cap
        assert server.usd(**PRICES) <= cap
    made = proposals(home)
    assert sum(proposal.spend.usd for proposal in made) <= cap
    assert "USD is left" in " ".join(proposal.why for proposal in made)
    assert str(made[-1].author).startswith("incumbent@")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"price_out": None}, "'price_out' unknown"),
        ({"model": 3}, "model must be text"),
        ({"api_key_env": "NOT_THERE"}, "needs a key in the variable NOT_THERE"),
    ],
)
def test_what_cannot_work_is_refused_before_the_run(tmp_path: Path, options: dict[str, Any], line: str) -> None:
    home = tmp_path / "run"
    server = StandIn()
    with server:
        given = {key: value for key, value in (PRICES | options).items() if value is not None}
        table = {"base_url": server.url, **given}
        process = subprocess.run(
            [sys.executable, "-m", "tests.toy_command", "run", "toy", "--home", str(home), "--max-cost", "1",
             "--builder", "llm" if "model" in options else "llm:m", "--executor", "inline", "--unsafe-no-sandbox"],
            cwd=REPOSITORY, capture_output=True, text=True, check=False,
            env=os.environ | {"INSTAR_BUILDERS": json.dumps({"llm": table})},
        )  # fmt: skip
    assert process.returncode == 2
    assert line.replace("'", "") in process.stderr
    assert not home.exists()
    assert not server.requests


PIXELS = '''"""All pixels, which tell digits apart better than their sums."""

import numpy as np


def features(images: np.ndarray) -> np.ndarray:
    """Turn images (N, 8, 8) of 0..16 into features (N, 65): every pixel, and a constant."""
    flat = images.reshape(len(images), -1) / 16.0
    return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)
'''


def test_code_that_a_model_wrote_is_trained_sandboxed_and_promoted(tmp_path: Path) -> None:
    pytest.importorskip("instar_digits")
    home = tmp_path / "run"
    edit = answering(
        why="pixels hold more than their sums",
        files=[{"path": "features.py", "kind": "whole", "text": PIXELS}],
        parameters={"steps": 200, "learning_rate": 1.0},
        forecast={"p_better": 0.9, "mean": 0.9, "deviation": 0.05},
    )
    with StandIn(then=edit) as server:
        table = {"llm": {"base_url": server.url, "ahead": 1, "timeout": 20.0}}
        command = [
            "run",
            "digits",
            "--home",
            str(home),
            "--builder",
            "llm:stand-in",
            "--set",
            "generations=1",
            "--json",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "instar", *command, "--json", "--budget", "120s"], cwd=tmp_path,
            env=os.environ | {"INSTAR_BUILDERS": json.dumps(table)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [generation["author"] for generation in result["generations"]] == ["lab", "llm@stand-in"], done.stderr
    promoted = json.loads((home / "generations" / "0001" / "design.json").read_text())
    assert promoted["files"]["features.py"] == PIXELS
    assert result["generations"][1]["metrics"]["accuracy"] > result["generations"][0]["metrics"]["accuracy"]
