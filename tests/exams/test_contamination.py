"""Attack 29, an exam's questions or answers where they must not be: a planted one is found, honest runs have none."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.contracts.archive import Verdict
from instar.contracts.exam import QuestionSet, Stage
from instar.contracts.oversight import IncidentRecord
from instar.contracts.records import Experience, Goal
from instar.exams import contamination
from instar.exams.contamination import LENGTH, Sealed, Search, fingerprints, shingles, words_in
from instar.executors.artefacts import encode_arrays, write_arrays
from instar.labs.tiles import partition, rules, task
from tests.rig import Rig
from tests.toys import ToyExam, ToyLab

EXAM = task.create({"size": "3"}).exam
PAPER = EXAM.set(5, Stage.PROMOTION)


def search() -> Search:
    found = Search()
    found.remember("exam 1", PAPER)
    return found


def test_questions_have_the_shingles_of_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(1).integers(0, 6, (50, 24))
    rows[7] = 3  # a blank page has none
    monkeypatch.setattr(contamination, "_TOGETHER", 24 * 8)  # several questions at once, and a rest
    ((length, prints, questions),) = Sealed.of("exam", QuestionSet({"rows": rows}, {})).shingles
    for number, row in enumerate(rows):
        wanted = shingles(contamination._words_of(row), length)
        assert np.array_equal(prints[questions == number], wanted)
    assert length == LENGTH
    assert set(questions) == {*range(50)} - {7}


def experience(boards: Any, directory: Path) -> dict[str, Path]:
    """Return a training file of tiles with these boards."""
    count = len(boards)
    data = {"boards": boards, "moves": np.zeros(count, np.int8), "lengths": np.ones(count, np.int16)}
    path = directory / "data.safetensors"
    write_arrays(path, data, sync=False)
    return {hashlib.sha256(encode_arrays(data)).hexdigest(): path}


def free(count: int, seed: int = 0) -> Any:
    boards = rules.uniform(3, count, np.random.default_rng(seed))
    return boards[~partition.held_out(boards)]


def test_honest_training_data_holds_no_question(tmp_path: Path) -> None:
    reason, incidents = search().judge(experience(free(40_000), tmp_path), {})
    assert reason.passed, reason.text
    assert not incidents


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_one_planted_question_among_many_is_found(tmp_path: Path, kind: Any) -> None:
    boards = np.concatenate([free(40_000), PAPER.questions["boards"][300:301]]).astype(kind)
    reason, incidents = search().judge(experience(boards, tmp_path), {})
    assert not reason.passed
    assert reason.gate == "contamination"
    assert len(incidents) == 1
    assert incidents[0].kind == "contamination"
    assert incidents[0].count >= 1
    assert "of exam 1 in training data" in incidents[0].detail


@pytest.mark.parametrize("form", ["{}", "[{}]", '{{"board": "{}"}}', "solved {} in 12 moves"])
def test_a_question_in_a_text_is_found(tmp_path: Path, form: str) -> None:
    board = PAPER.questions["boards"][int(np.argmax(PAPER.answers["lengths"]))]
    log = tmp_path / "run.jsonl"
    noise = json.dumps({"gain": 0.25, "metric": 0.1875, "numbers": list(range(40))})
    log.write_text("\n".join([noise] * 50 + [form.format(", ".join(map(str, board)))] + [noise] * 50))
    reason, incidents = search().judge({}, {"the run's log": log})
    assert not reason.passed
    assert incidents[0].detail.endswith("in the run's log")
    log.write_text("\n".join([noise] * 100))
    assert search().judge({}, {"the run's log": log, "nothing there": tmp_path / "no"})[0].passed


def test_a_part_of_the_answers_in_a_brief_is_found() -> None:
    lengths = PAPER.answers["lengths"][40 : 40 + LENGTH].astype(int).tolist()
    assert not search().judge({}, {}, {"the brief": f"hints={lengths}"})[0].passed
    assert search().judge({}, {}, {"the brief": f"hints={lengths[: LENGTH // 2]}"})[0].passed


def test_former_question_sets_are_looked_for_too(tmp_path: Path) -> None:
    found = search()
    found.remember("exam 2", EXAM.set(6, Stage.PROMOTION))
    old = PAPER.questions["boards"][:50]
    assert "exam 1" in found.judge(experience(old, tmp_path), {})[0].text


def test_long_questions_are_found_by_half_of_their_shingles(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    question_set = QuestionSet({"tokens": rng.integers(0, 50_000, (20, 200))})
    found = Search()
    found.remember("exam 1", question_set)
    tokens = question_set.questions["tokens"][3]
    for share, caught in ((0.9, True), (0.6, True), (0.2, False)):
        text = " ".join(map(str, tokens[: int(200 * share)]))
        assert found.judge({}, {}, {"the brief": text})[0].passed is not caught


def test_a_log_that_has_grown_is_read_where_it_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look finds what was added, also over several lines, and reads no more."""
    log, found = tmp_path / "run.jsonl", search()
    old = "".join(json.dumps({"event": "trial", "number": number}) + "\n" for number in range(500))
    log.write_text(old)
    assert found.judge({}, {"the log": log})[0].passed
    read: list[str] = []
    monkeypatch.setattr(contamination, "words_in", lambda line: read.append(line) or words_in(line))
    board = [str(int(tile)) for tile in np.asarray(PAPER.questions["boards"])[3].ravel()]
    log.write_text(old + "\n".join(board) + "\n")
    reason, incidents = found.judge({}, {"the log": log})
    assert not reason.passed
    assert len(incidents) == 1
    assert set(read) == set(board)


def test_what_cannot_be_read_means_no(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"no")
    for name in ("bad", "missing"):
        reason, _ = search().judge({"0" * 64: tmp_path / name}, {})
        assert (reason.passed, reason.gate) == (False, "contamination")


def test_the_search_is_fast(tmp_path: Path) -> None:
    data, log = experience(free(40_000), tmp_path), tmp_path / "log"
    log.write_text("trial 12 metric 0.25 " * 2000)
    found = search()
    found.judge(data, {"log": log})
    began = time.process_time()
    found.judge(data, {"log": log})
    assert time.process_time() - began < 0.2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-100, 100), min_size=4, max_size=30))
def test_numbers_in_a_text_and_in_an_array_are_the_same_words(numbers: list[int]) -> None:
    array = np.array([numbers], dtype=np.int16)
    text = words_in(", ".join(map(str, numbers)))
    assert len(text) == len(numbers)
    from_array = shingles(words_in(" ".join(map(str, array[0].tolist()))), 4)
    assert np.array_equal(from_array, shingles(text, 4))
    varied = len(set(numbers)) > 1
    assert len(fingerprints(array)) == int(varied)
    assert np.array_equal(fingerprints(array), fingerprints(array.astype(np.float64)))


def test_short_and_blank_rows_say_nothing() -> None:
    assert not len(fingerprints(np.arange(30).reshape(10, 3)))
    assert not len(fingerprints(np.zeros((10, 64))))
    assert not len(fingerprints(np.arange(30)))


class WideExam(ToyExam):
    """The toy's questions with a few more numbers to each."""

    def set(self, seed: int, stage: Stage) -> QuestionSet:
        question_set = super().set(seed, stage)
        salt = np.random.default_rng([seed, 1]).integers(0, 10**6, (len(question_set.questions["asked"]), 6))
        return QuestionSet({**question_set.questions, "salt": salt}, question_set.answers)


def test_a_candidate_that_trained_on_the_exam_is_not_promoted(tmp_path: Path) -> None:
    """A leak of the sealed question set into a data file, between the drawing and the judging, is seen and refused."""
    lab = ToyLab()
    lab.exam = WideExam()
    rig = Rig(tmp_path, lab, {"generations": 1})
    leaked: list[str] = []

    class Leaking(WideExam):
        def set(self, seed: int, stage: Stage) -> QuestionSet:
            question_set = super().set(seed, stage)
            if stage is Stage.PROMOTION and rig_run and not leaked:
                content = encode_arrays({"salt": np.asarray(question_set.questions["salt"])})
                leaked.append(hashlib.sha256(content).hexdigest())
                (tmp_path / "experience").mkdir(exist_ok=True)
                (tmp_path / "experience" / f"{leaked[0]}.safetensors").write_bytes(content)
                run = rig_run[0]
                run.experience.append(Experience(leaked[0], 0, Goal("all", {}, 1.0), "rules", 1, 1, 1.0, 1))
                for candidate in run.candidates.values():
                    told = {place: replace(trial, experience=1) for place, trial in candidate.trials.items()}
                    candidate.trials.update(told)
            return question_set

    rig_run: list[Any] = []
    lab.exam = Leaking()

    def until(run: Any) -> bool:
        rig_run[:] = [run]
        return run.numbers.verdict > 1 and not any("exam" in task.what for task in run.queue.tasks.values())

    rig.play(until=until)
    verdicts = [fact for fact in rig.facts if isinstance(fact, Verdict)]
    assert leaked
    failed = [reason for reason in verdicts[0].decision.reasons if not reason.passed]
    assert {"contamination"} <= {reason.gate for reason in failed} <= {"contamination", "noise floor"}  # by seed noise
    assert [fact.incident.kind for fact in rig.facts if isinstance(fact, IncidentRecord)] == ["contamination"]
    assert all(reason.passed for verdict in verdicts[1:] for reason in verdict.decision.reasons
               if reason.gate == "contamination")  # fmt: skip


@pytest.mark.parametrize("text", ["x\u00b2", "\u2460", "\u0663\u0664", "9" * 500])
def test_signs_that_look_like_numbers_do_no_harm(text: str) -> None:
    assert len(words_in(text)) == 1


def test_a_question_set_is_looked_for_in_a_data_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, data = search(), experience(PAPER.questions["boards"][:50], tmp_path)
    first = found.judge(data, {})
    assert not first[0].passed
    asked: list[int] = []
    among = contamination._among
    monkeypatch.setattr(contamination, "_among", lambda rows, held: asked.append(len(held)) or among(rows, held))
    assert found.judge(data, {}) == first
    assert not asked
    found.remember("exam 2", EXAM.set(6, Stage.PROMOTION))
    assert first[1][0] in found.judge(data, {})[1]
    assert len(asked) == 1
