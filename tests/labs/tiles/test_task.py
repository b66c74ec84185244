"""The lab `tiles` as the loop sees it: goals, verified experience, control arms, and boards from people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from instar.errors import ArtefactError, BadInput
from instar.interfaces import CollectRequest, Feedback
from instar.labs.tiles import rules, task
from instar.records import Experience, Limits

LAB = task.create({"size": "3"})
LIMITS = Limits(60.0, 60.0, 2**30)


def request(feedback: Feedback = Feedback.VERIFIED) -> CollectRequest:
    design = LAB.seed_design()
    return CollectRequest("c", design, Path("/"), 0, LAB.goals(design, ())[0], 1, LIMITS, feedback)


def answers(count: int = 400, depth: int = 12) -> dict[str, np.ndarray]:
    """Return scrambles with the walk played backwards; every second answer is spoilt by an early end."""
    rng = np.random.default_rng(0)
    boards = np.tile(rules.goal(3), (count, 1))
    sequences = np.full((count, depth + 3), -1, np.int8)
    for t in range(depth):
        legal = rules.legal(boards)
        moves = np.array([rng.choice(np.flatnonzero(row)) for row in legal], dtype=np.int8)
        boards = rules.step(boards, moves)
        sequences[:, depth - 1 - t] = moves ^ 1
    sequences[::2, 1:] = -1
    return {"boards": boards, "sequences": sequences, "confidence": rng.random(count).astype(np.float32)}


def test_verified_experience_holds_no_exam_state_and_nothing_wrong() -> None:
    given = answers()
    data, record = LAB.verify(request(), given)
    solved, _ = rules.replay(given["boards"], given["sequences"])
    assert (record.attempts, record.kept, record.verified_by) == (400, int(solved.sum()), "rules")
    assert record.mastery == pytest.approx(solved.mean())
    assert record.examples == len(data["moves"]) > 0
    assert rules.held_out(given["boards"]).any()
    assert not rules.held_out(data["boards"]).any()
    assert rules.legal(data["boards"])[np.arange(record.examples), data["moves"]].all()
    assert not rules.solved(data["boards"]).any()


def test_what_stands_after_the_goal_changes_nothing() -> None:
    given = answers()
    data, _ = LAB.verify(request(), given)
    _, lengths = rules.replay(given["boards"], given["sequences"])
    junk = {**given, "sequences": given["sequences"].copy()}
    for row in np.flatnonzero(lengths > 0):
        junk["sequences"][row, lengths[row] :] = 0
    again, _ = LAB.verify(request(), junk)
    assert all(np.array_equal(data[name], again[name]) for name in data)
    assert data["lengths"].max() <= lengths.max()


@pytest.mark.parametrize(("feedback", "kept"), [(Feedback.NONE, 400), (Feedback.SELF, 200)])
def test_the_ungrounded_arms_keep_what_is_wrong_but_measure_rightly(feedback: Feedback, kept: int) -> None:
    data, record = LAB.verify(request(feedback), answers())
    _, grounded = LAB.verify(request(), answers())
    assert record.kept == kept
    assert record.verified_by == feedback.value
    assert record.mastery == grounded.mastery
    assert not rules.held_out(data["boards"]).any()


@pytest.mark.parametrize("name", ["boards", "sequences", "confidence"])
def test_malformed_answers_are_refused(name: str) -> None:
    given = answers(8)
    for bad in (np.zeros((), given[name].dtype), given[name][:3], given[name].astype(np.float64)):
        with pytest.raises(ArtefactError, match="answers"):
            LAB.verify(request(), {**given, name: bad})
    with pytest.raises(ArtefactError, match="permutation"):
        LAB.verify(request(), {**given, "boards": np.zeros_like(given["boards"])})


def test_the_frontier_moves_as_goals_are_measured() -> None:
    design, experience, hardest = LAB.seed_design(), [], 0.0
    for step in range(8):
        goals = LAB.goals(design, experience)
        assert [goal.difficulty for goal in goals] == sorted({goal.difficulty for goal in goals})
        assert goals[-1].difficulty > hardest or goals[-1].parameters["uniform"]
        hardest = goals[-1].difficulty
        experience.append(Experience(str(step), 0, goals[-1], "rules", 10, 5, 0.5, 10))
    assert hardest == LAB.exam.sizes["last_frontier"]
    assert goals[-1].name == "uniformly random boards"
    faster = replace(design, parameters=dict(design.parameters) | {"growth": 3.0})
    assert LAB.goals(faster, experience[:1])[-1].difficulty > LAB.goals(design, experience[:1])[-1].difficulty


def test_a_board_from_a_person_is_solved_or_refused() -> None:
    solvable = LAB.parse_task("1 2 3 4 5 6 0 7 8")
    found = LAB.read_solution(solvable, {"sequences": np.array([[3, 3, -1]], np.int8)})
    assert (found["solved"], found["moves"], found["length"], found["shortest"]) == (True, ["right", "right"], 2, 2)
    assert not LAB.read_solution(solvable, {})["solved"]
    with pytest.raises(ArtefactError):
        LAB.read_solution(solvable, {"sequences": np.zeros((), np.int8)})
    with pytest.raises(BadInput, match="parity"):
        LAB.parse_task("2 1 3 4 5 6 7 8 0")
    with pytest.raises(BadInput, match="16 numbers"):
        LAB.parse_task(" ".join(map(str, [*range(1, 16), 0])))
