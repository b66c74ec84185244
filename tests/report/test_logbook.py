"""The log in autoresearch's columns: one line per experiment, in the metric's own unit."""

from __future__ import annotations

from pathlib import Path

from instar.archive import read_archive
from instar.contracts.records import Trial, TrialState
from instar.report.logbook import NAME, Logbook
from tests.rig import Rig
from tests.toys import TeachingToyLab


def test_every_experiment_has_its_line_and_the_promoted_ones_are_kept(tmp_path: Path) -> None:
    run, _ = Rig(tmp_path, TeachingToyLab(), {"generations": 1}).play()
    with read_archive(tmp_path / "archive.db") as archive:
        book = Logbook(tmp_path, "val_bpb", lambda score: 10.0 * (1.0 - score))
        lines = [line.rstrip("\n").split("\t") for line in book.lines(archive)]
        trials = [trial for trial in archive.history(Trial) if not trial.replica]
    assert lines[0] == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert lines[1][3:] == ["keep", "baseline"]
    tried = [trial for trial in trials if trial.state not in (TrialState.CANCELLED, TrialState.RUNNING)]
    assert len(lines) == 2 + len(tried)
    assert all(len(line) == 5 and len(line[0]) == 7 for line in lines[1:])
    assert {line[3] for line in lines[1:]} <= {"keep", "discard", "crash"}
    kept = [line for line in lines[2:] if line[3] == "keep"]
    assert {line[0] for line in kept} == {run.incumbent.design.digest[:7]}
    scored = next(trial for trial in tried if trial.metric is not None)
    assert f"{10.0 * (1.0 - (scored.metric or 0.0)):.6f}" in {line[1] for line in lines}
    assert str(NAME) == "autoresearch/results.tsv"
