"""A lab from outside, installed as a plugin, runs through the same loop unchanged."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from instar.archive import read_archive
from instar.contracts import plugins
from instar.contracts.records import Trial, TrialState
from instar.ledger import verify
from tests.rig import Rig

pytest.importorskip("instar_digits")


def test_the_digits_from_outside_get_a_generation(tmp_path: Path) -> None:
    lab = plugins.find("labs", "digits")({})
    rig = Rig(tmp_path, lab, {"executor": "local", "workers": 2, "generations": 1, "budget": "120s"})
    run, why = rig.play()
    assert why == "generations reached"
    founder, first = run.generations
    assert str(first.author) == "incumbent@0"
    assert first.metrics["accuracy"] > founder.metrics["accuracy"]
    assert "features.py" in first.design.files
    assert "horizon_50" not in first.estimates, "telling digits apart has no task length"
    assert verify(tmp_path / "ledger").problem is None
    with closing(read_archive(tmp_path / "archive.db")) as archive:
        assert all(trial.state is not TrialState.RUNNING for trial in archive.history(Trial))
        assert archive.account().reserved_cpu_seconds == pytest.approx(0.0)
