"""The first lab for real, as short as can be: 3x3 boards until generation 1 is there; and its baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from instar.contracts.lab import Lab
from instar.contracts.records import Experience, Proposal, Trial, TrialState
from instar.labs.manifest import Manifest
from instar.labs.tiles import task
from instar.run.state import Run
from tests.rig import Rig

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

_SMALL: dict[str, Any] = {"width": 128, "attempts": 1500, "compute": 50.0, "search_width": 8}


def lab() -> Lab:
    """Return the 3x3 lab with the cheapest founder that its own space allows."""
    tiles = task.create({"size": "3"})
    manifest: Manifest = tiles._manifest
    tiles._manifest = manifest.model_copy(update={"seed": dict(manifest.seed) | _SMALL})
    tiles.space.check(tiles.seed_design().parameters, "the small founder")
    return tiles


def test_the_first_successor_beats_the_founder(tmp_path: Path) -> None:
    rig = Rig(tmp_path, lab(), {"generations": 1, "rungs": 1, "budget": "300s"})
    run, why = rig.play()
    assert why == "generations reached"
    founder, first = run.generations
    assert first.metrics["greedy_success"] > founder.metrics["greedy_success"]
    assert first.estimates["metric"]["low"] > founder.estimates["metric"]["high"]
    assert all(fact.verified_by == "rules" for fact in rig.facts if isinstance(fact, Experience))


@pytest.mark.slow
@pytest.mark.parametrize("given", [{"feedback": "none"}, {"feedback": "self"}, {"builder_frozen_at": 0}])
def test_the_control_baselines_run(tmp_path: Path, given: dict[str, Any]) -> None:
    rig = Rig(tmp_path, lab(), {"rungs": 2, "eta": 16, "budget": "300s"} | given)

    def enough(run: Run) -> bool:
        return run.numbers.trial > 2

    rig.play(until=enough)
    records = [fact for fact in rig.facts if isinstance(fact, Experience)]
    assert records
    assert {record.verified_by for record in records} == {given.get("feedback", "rules")}
    ended = [fact for fact in rig.facts if isinstance(fact, Trial) and fact.state is not TrialState.RUNNING]
    assert ended
    assert all(trial.state is TrialState.SCORED for trial in ended)
    authors = {str(fact.author) for fact in rig.facts if isinstance(fact, Proposal)}
    assert authors == {"incumbent@0"}
