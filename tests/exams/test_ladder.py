"""The Ladder: an attacker who sees many scores gains far less, honest steps are shown, queries are counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from instar.contracts.archive import Verdict
from instar.contracts.errors import ArchiveError
from instar.contracts.records import Trial
from instar.exams.ladder import Ladder, QueryBudget
from instar.executors.artefacts import read_json
from tests.rig import Rig
from tests.toys import ToyLab

QUESTIONS, QUERIES, RUNS = 500, 300, 20


def boosted(release: object, seed: int) -> float:
    """Return the score that the boosting attack of Blum and Hardt (their section 5) is told in the end.

    It submits random answers to yes-no questions, keeps those that are said to beat chance, and submits their majority.
    Nothing is known about the questions, so every score above one half is not real.
    """
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, QUESTIONS)
    kept, before = [], 0.5
    for _ in range(QUERIES):
        guess = rng.integers(0, 2, QUESTIONS)
        told = release((guess == truth).astype(float))  # type: ignore[operator]
        if told > before if isinstance(release, Ladderlike) else told > 0.5:
            kept.append(guess)
            before = max(before, told)
    majority = (np.mean(kept, axis=0) > 0.5).astype(int) if kept else rng.integers(0, 2, QUESTIONS)
    return float(release((majority == truth).astype(float)))  # type: ignore[operator]


class Ladderlike:
    """A ladder as the attacker sees it: one number per submission."""

    def __init__(self, ladder: Ladder) -> None:
        self.ladder = ladder

    def __call__(self, values: np.ndarray) -> float:
        return self.ladder.look(values)


@pytest.mark.parametrize("step", [None, 0.05])
def test_the_boosting_attack_gains_far_less_through_the_ladder(step: float | None) -> None:
    raw = np.mean([boosted(lambda values: float(values.mean()), seed) for seed in range(RUNS)]) - 0.5
    held = np.mean([boosted(Ladderlike(Ladder(step)), seed) for seed in range(RUNS)]) - 0.5
    assert raw > 0.15, "the attack works on raw scores"
    assert held < 0.4 * raw


def test_honest_steps_are_shown_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    start = (rng.random(400) < 0.5).astype(float)
    ladder = Ladder(start=start)
    first = ladder.best
    assert ladder.look(start) == first
    slightly = start.copy()
    slightly[np.flatnonzero(start == 0)[:1]] = 1.0
    slightly[np.flatnonzero(start == 1)[:1]] = 0.0
    assert ladder.look(slightly) == first
    better = np.maximum(start, (rng.random(400) < 0.3).astype(float))
    told = ladder.look(better)
    assert told == pytest.approx(better.mean(), abs=1 / 400)
    assert ladder.look(start) == told, "a worse one is told the best so far"


def test_scores_are_rounded_to_the_step() -> None:
    ladder = Ladder(step=0.1)
    assert ladder.look(np.array([0.0, 0.0, 1.0])) == pytest.approx(0.3)
    assert ladder.look(np.array([0.0, 0.4, 0.78])) == pytest.approx(0.3)
    assert ladder.look(np.array([1.0, 0.0, 1.0])) == pytest.approx(0.7)
    with pytest.raises(ValueError, match="a step"):
        Ladder(step=0.0)
    free = Ladder(start=np.zeros(3))
    with pytest.raises(ValueError, match="same questions"):
        free.look(np.ones(4))


# --- the count ------------------------------------------------------------------------------------------------------


def test_looks_are_counted_over_lives_and_refused_when_spent(tmp_path: Path) -> None:
    queries = QueryBudget(tmp_path / "queries.json", 3, 60)
    assert queries.spend()
    again = QueryBudget(tmp_path / "queries.json", 3, 60)
    assert (again.spent, again.budget) == (1, 3)
    assert [again.spend() for _ in range(4)] == [True, True, False, False]
    assert not QueryBudget(tmp_path / "queries.json", 1000, 60).spend(), "a later life does not raise the budget"
    assert read_json(tmp_path / "queries.json") == {"spent": 3, "budget": 3, "pool": 60}


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"spent": -1, "budget": 3}', '{"spent": true, "budget": 3}'])
def test_without_a_count_nothing_is_shown(tmp_path: Path, content: str) -> None:
    (tmp_path / "queries.json").write_text(content)
    with pytest.raises(ArchiveError, match="query count"):
        QueryBudget(tmp_path / "queries.json", 3, 60)


def test_a_killed_run_never_gets_a_look_back(tmp_path: Path) -> None:
    """The file counts at least what was released, whenever the process dies."""
    program = (
        "import sys; from pathlib import Path; from instar.exams.ladder import QueryBudget\n"
        "budget = QueryBudget(Path(sys.argv[1]), 10**6, 9)\n"
        "while budget.spend(): print(budget.spent, flush=True)"
    )
    released = 0
    for _ in range(3):
        command = [sys.executable, "-c", program, str(tmp_path / "queries.json")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(20):
                process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
            released += 20 + len(process.stdout.read().split("\n")[:-1])
        assert released <= QueryBudget(tmp_path / "queries.json", 10**6, 9).spent <= released + 3


# --- in the loop ----------------------------------------------------------------------------------------------------


def fixed_toy() -> ToyLab:
    lab = ToyLab()
    lab.profile = replace(lab.profile, pool=64)
    return lab


def test_a_run_on_a_fixed_exam_counts_its_looks_and_still_promotes(tmp_path: Path) -> None:
    rig = Rig(tmp_path, fixed_toy(), {"generations": 1})
    run, why = rig.play()
    assert why == "generations reached"
    trials = {fact.number for fact in rig.facts if isinstance(fact, Trial) and fact.metric is not None}
    verdicts = [fact for fact in rig.facts if isinstance(fact, Verdict)]
    assert run.queries is not None
    assert run.queries.spent == len(trials) + len(verdicts)
    assert read_json(tmp_path / "queries.json")["spent"] == run.queries.spent


def test_a_run_ends_when_its_looks_are_spent(tmp_path: Path) -> None:
    rig = Rig(tmp_path, fixed_toy(), {"queries": 2})
    run, why = rig.play()
    assert why == "looks used up"
    assert run.queries is not None
    assert run.queries.spent == 2
    shown = [fact for fact in rig.facts if isinstance(fact, Trial) and fact.metric is not None]
    assert len({trial.number for trial in shown}) == 2
    assert len(run.generations) == 1


def test_fresh_exams_are_not_counted(tmp_path: Path) -> None:
    run, _ = Rig(tmp_path, ToyLab(), {"generations": 1}).play()
    assert run.queries is None
    assert not (tmp_path / "queries.json").exists()
