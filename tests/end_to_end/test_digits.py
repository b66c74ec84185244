"""A lab in one file goes through the same loop: from the command line, and from Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import instar
from instar.contracts.errors import MissingPart
from instar.contracts.records import TrialState
from instar.ledger import verify

pytest.importorskip("sklearn")
EXAMPLE = Path(__file__).parents[2] / "examples" / "digits_lab.py"


def test_the_digits_of_forty_lines_get_a_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40
    found = instar.run(EXAMPLE, budget="120s", generations=1, home=tmp_path / "run", workers=2)
    founder, first = found.generations
    assert found.reason == "generations reached"
    assert found.best is first
    assert str(first.author).startswith("incumbent@")
    assert first.metrics["accuracy"] > founder.metrics["accuracy"]
    assert "horizon_50" not in first.estimates, "telling digits apart has no task length"
    assert verify(tmp_path / "run" / "ledger").problem is None
    assert all(trial.state is not TrialState.RUNNING for trial in found.trials)
    assert found.data["generations"][1]["metrics"]["accuracy"] == first.metrics["accuracy"]
    again = instar.load_run(tmp_path / "run")
    assert again.rows() == found.rows()
    assert {"trial", "metric", "design.units"} <= set(found.rows()[0])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPart, match="pip install pandas"):
        found.to_frame()


def test_a_job_cannot_read_the_whole_data_set(tmp_path: Path) -> None:
    """A training function that loads what it should not see crashes in its sandbox; so does every trial of it."""
    signature = "def train(design, data, seed):"
    text = EXAMPLE.read_text().replace(signature, f"{signature}\n    split(True)")
    peeking = tmp_path / "peeking.py"
    peeking.write_text(text)
    with pytest.raises(instar.LabError, match=r"the founder was not made: .*Permission.*sklearn/datasets/data"):
        instar.run(peeking, budget="60s", home=tmp_path / "run", workers=1)
