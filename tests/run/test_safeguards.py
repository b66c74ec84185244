"""A candidate that has beyond doubt lost a safeguard on the screen costs no further training and no sealed exam."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from instar.contracts.archive import Verdict
from instar.contracts.evidence import Score
from instar.contracts.exam import Arrays, QuestionSet
from instar.contracts.lab import Safeguard
from instar.contracts.records import Fate, Trial, TrialState
from instar.run import trials
from tests.rig import Rig
from tests.toys import ToyExam, ToyLab


class FadingExam(ToyExam):
    """Who answers a question that the founder can't (its skill is 1) has no `fit` left, where `keeps` is false."""

    keeps = False

    def mark(self, question_set: QuestionSet, answers: Arrays) -> Score:
        score = super().mark(question_set, answers)
        hardest = np.asarray(question_set.questions["asked"])[score.solved].max(initial=0)
        fit = np.full_like(score.values, self.keeps or hardest <= 1, dtype=np.float64)
        return replace(score, safeguards={"fit": fit})


class FadingLab(ToyLab):
    """The toy lab with a safeguard that every gain costs, where `keeps` is false."""

    profile = replace(ToyLab.profile, safeguards=(Safeguard("fit", 0.05),))

    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self.exam = FadingExam()
        self.exam.keeps = keeps


def test_who_has_lost_one_is_dropped_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, FadingLab(keeps=False), {"budget": "4s"})
    run, _ = rig.play()
    assert len(run.generations) == 1
    top = [t for t in rig.facts if isinstance(t, Trial) and t.rung == 1 and t.state is TrialState.SCORED]
    better = [trial for trial in top if (trial.gain or 0.0) > 0.05 and not trial.replica]
    assert better
    assert all(trial.fate is Fate.LOST and "fit" in trial.why for trial in better)
    assert all(trials.hopeless(trial) for trial in better)
    assert not any(isinstance(fact, Verdict) for fact in rig.facts)


def test_who_keeps_it_goes_on(tmp_path: Path) -> None:
    run, _ = Rig(tmp_path, FadingLab(keeps=True), {"generations": 1}).play()
    assert len(run.generations) == 2
