"""The exam of tiles: fresh held-out boards, and marks that follow from the moves alone."""

from __future__ import annotations

import numpy as np
import pytest

from instar.contracts.errors import ArtefactError
from instar.contracts.exam import QuestionSet, Stage
from instar.labs.tiles import oracle, partition, rules, task

EXAM = task.create({"size": "3"}).exam


def small(boards: list[str], lengths: list[float]) -> QuestionSet:
    asked = np.stack([rules.parse(board) for board in boards])
    none = np.zeros(len(boards), bool)
    answers = {"lengths": np.array(lengths), "bands": np.zeros(len(boards), np.int64), "random": none}
    return QuestionSet({"boards": asked, "settings": np.array([1, 62])}, answers)


def test_questions_are_held_out_and_of_every_length() -> None:
    question_set = EXAM.set(5, Stage.PROMOTION)
    boards, lengths = question_set.questions["boards"], question_set.answers["lengths"]
    assert partition.held_out(boards).all()
    assert np.array_equal(oracle.distances().of(boards), lengths)
    held = np.unique(oracle.distances().lengths[oracle.distances().held_out])
    assert set(np.unique(lengths)) == set(held.astype(float))
    assert (np.bincount(lengths.astype(int))[held] == EXAM.sizes["promotion"]).all()


def test_marks_are_path_efficiency_and_excess_moves() -> None:
    question_set = small(["1 2 3 4 5 6 0 7 8"] * 4, [2.0] * 4)
    moves = [[3, 3, -1, -1], [3, 2, 3, 3], [3, -1, 3, -1], [1, 3, 3, -1]]  # the best, a detour, given up, illegal
    score = EXAM.mark(question_set, {"greedy": np.array(moves, np.int8)})
    assert score.values.tolist() == [1.0, 0.5, 0.0, 0.0]
    assert score.solved.tolist() == [True, True, False, False]
    assert score.metrics["greedy_excess_moves"] == 1.0


def test_success_is_weighted_as_boards_occur() -> None:
    """Stratified questions are weighed back to the population of all boards."""
    question_set = EXAM.set(5, Stage.SCREEN)
    boards, lengths = question_set.questions["boards"], question_set.answers["lengths"]
    sequences = np.full((len(boards), 62), -1, np.int8)
    for row in np.flatnonzero(lengths <= 12):
        board = boards[row : row + 1]
        for t in range(int(lengths[row])):
            after = [(m, rules.step(board, np.array([m]))) for m in np.flatnonzero(rules.legal(board)[0])]
            move, board = min(after, key=lambda pair: int(oracle.distances().of(pair[1])[0]))
            sequences[row, t] = move
    score = EXAM.mark(question_set, {"greedy": sequences})
    assert np.array_equal(score.solved, lengths <= 12)
    population = oracle.distances().lengths[np.isin(oracle.distances().lengths, np.unique(lengths))]
    assert score.metrics["greedy_success"] == pytest.approx(np.mean(population <= 12), rel=1e-6)


def test_a_report_has_random_boards_too_and_they_alone_are_the_headline() -> None:
    question_set = EXAM.set(5, Stage.REPORT)
    assert question_set.answers["random"].sum() == EXAM.sizes["report"]
    nothing = np.full((len(question_set.answers["random"]), 1), -1, np.int8)
    assert EXAM.mark(question_set, {"greedy": nothing}).metrics["greedy_success"] == 0.0


@pytest.mark.parametrize("bad", [np.zeros((2, 3), np.int8), np.zeros((1, 5000), np.int8), np.full((1, 3), 9, np.int8)])
def test_answers_out_of_form_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ArtefactError, match="greedy"):
        EXAM.mark(small(["1 2 3 4 5 6 0 7 8"], [2.0]), {"greedy": bad})
