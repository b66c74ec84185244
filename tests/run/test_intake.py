"""What a training cost is metered outside, written by the conductor, and missing means no score."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.contracts.errors import ArtefactError
from instar.contracts.protocols import Stage
from instar.contracts.records import Usage
from instar.executors.artefacts import write_json
from instar.labs.speedrun import task as speedrun
from instar.labs.tiles import task as tiles
from instar.run import intake

PRICED, FREE = speedrun.create({"scale": "tiny"}), tiles.create({"size": "3"})


def test_the_metered_cost_replaces_what_the_job_left(tmp_path: Path) -> None:
    write_json(tmp_path / intake.COST, {"cpu_seconds": 0.01}, sync=False)
    intake.seal(PRICED, tmp_path, Usage(cpu_seconds=4.0, wall_seconds=5.0))
    assert intake.cost_of(tmp_path) == 4.0
    assert intake.spent(PRICED, tmp_path) == 4.0


def test_other_labs_know_nothing_of_it(tmp_path: Path) -> None:
    intake.seal(FREE, tmp_path, Usage(cpu_seconds=4.0))
    assert not list(tmp_path.iterdir())
    assert intake.spent(FREE, tmp_path) is None
    score = FREE.exam.outline(FREE.exam.set(1, Stage.SCREEN))
    assert intake.priced(FREE.exam, score, tmp_path, tmp_path) is score


@pytest.mark.parametrize("cost", [{}, [], 7, {"cpu_seconds": 0}, {"cpu_seconds": True}, {"cpu_seconds": "3"}])
def test_what_is_not_on_record_is_no_score(tmp_path: Path, cost: object) -> None:
    write_json(tmp_path / intake.COST, cost, sync=False)
    score = PRICED.exam.outline(PRICED.exam.set(1, Stage.SCREEN))
    with pytest.raises(ArtefactError, match="not on record"):
        intake.priced(PRICED.exam, score, tmp_path, tmp_path)
    assert intake.spent(PRICED, tmp_path) is None


def test_a_missing_file_is_no_score(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError):
        intake.cost_of(tmp_path)
