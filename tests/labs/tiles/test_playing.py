"""Answers are played by the rules: what solves a board, how long it takes, and what stood on the way."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.labs.tiles import playing, rules

sizes = st.sampled_from(rules.SIZES)
seeds = st.integers(0, 2**32 - 1)
quick = settings(deadline=None, max_examples=30)


@quick
@given(sizes, seeds, st.integers(0, 30))
def test_the_way_back_solves_a_scramble(size: int, seed: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    board = rules.goal(size)[None]
    back: list[int] = []
    for _ in range(depth):
        move = int(rng.choice(np.flatnonzero(rules.legal(board)[0])))
        board = rules.step(board, np.array([move], dtype=np.int8))
        back.insert(0, move ^ 1)
    sequence = np.array([[*back, -1, -1]], dtype=np.int8)
    solved, length = playing.replay(board, sequence)
    assert solved[0]
    assert length[0] <= depth
    assert (length[0] - depth) % 2 == 0


def test_replay_stops_at_illegal_moves_padding_and_the_goal() -> None:
    board = rules.step(rules.goal(3)[None], np.array([0], dtype=np.int8))
    boards = np.repeat(board, 6, axis=0)
    boards[5] = rules.goal(3)
    answers = np.array([[1, 3, 3], [3, 1, 1], [-1, 1, -1], [0, 1, 1], [-1, -1, -1], [0, 0, 0]], dtype=np.int8)
    solved, lengths = playing.replay(boards, answers)
    assert solved.tolist() == [True, False, False, True, False, True]
    assert lengths.tolist() == [1, -1, -1, 3, -1, 0]


@quick
@given(sizes, seeds, st.integers(0, 12), st.integers(0, 16))
def test_replay_plays_as_one_would_by_hand(size: int, seed: int, depth: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    boards = rules.scramble(size, rng.integers(0, depth + 1, 64), rng)
    answers = rng.integers(-1, 4, (64, length)).astype(np.int8)
    solved, lengths = playing.replay(boards, answers)
    for board, moves, found, count in zip(boards, answers, solved, lengths, strict=True):
        way = by_hand(board, moves)
        home = bool(rules.solved(way[-1][None])[0])
        assert (home, len(way) - 1 if home else -1) == (found, count)


def by_hand(board: np.ndarray, moves: np.ndarray) -> list[np.ndarray]:
    """Return the board and what it becomes by each move, until the goal or the first that can't be made."""
    way = [board]
    for move in moves:
        if move < 0 or not rules.legal(way[-1][None])[0, move] or rules.solved(way[-1][None])[0]:
            break
        way.append(rules.step(way[-1][None], np.array([move]))[0])
    return way


@pytest.mark.parametrize(
    "answers",
    [
        np.zeros((2, 3), dtype=np.float64),
        np.zeros((2, 3), dtype=np.uint8),
        np.zeros((3, 3), dtype=np.int8),
        np.zeros(2, dtype=np.int8),
        np.full((2, 3), 4, dtype=np.int8),
        np.full((2, 3), -2, dtype=np.int64),
        np.array([[None] * 3] * 2),
    ],
)
def test_replay_refuses_what_is_no_answer(answers: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"sequences must be|a move is"):
        playing.replay(np.repeat(rules.goal(3)[None], 2, axis=0), answers)


@quick
@given(seeds, st.integers(0, 12))
def test_replay_survives_any_moves(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    boards = rules.uniform(3, 5, rng)
    solved, lengths = playing.replay(boards, rng.integers(-1, 4, (5, length)))
    assert ((lengths >= 0) == solved).all()


def test_a_long_answer_takes_little_memory() -> None:
    boards = rules.uniform(4, 2000, np.random.default_rng(0))
    answers = np.tile(np.array([0, 1], dtype=np.int8), (2000, 2048))
    tracemalloc.start()
    playing.replay(boards, answers)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 * 2**20


@quick
@given(sizes, seeds, st.integers(0, 12), st.integers(0, 16))
def test_the_states_on_the_way_are_those_that_one_plays_by_hand(size: int, seed: int, depth: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    boards = rules.scramble(size, rng.integers(0, depth + 1, 32), rng)
    answers = rng.integers(-1, 4, (32, length)).astype(np.int8)
    played = rng.integers(0, length + 2, 32)
    expected = []
    for row, board in enumerate(boards):
        moves = answers[row, : played[row]].tolist()
        before = by_hand(board, answers[row, : played[row]])[:-1]
        expected += [(t, row, state.tolist(), moves[t], int(played[row]) - t) for t, state in enumerate(before)]
    expected.sort(key=lambda one: one[:2])
    states, moves, left = playing.on_the_way(boards, answers, played)
    assert states.shape == (len(expected), size * size)
    assert [(s, m, n) for _, _, s, m, n in expected] == list(
        zip(states.tolist(), moves.tolist(), left.tolist(), strict=True)
    )


@pytest.mark.parametrize("size", rules.SIZES)
def test_boards_that_are_played_in_parts_give_what_they_give_together(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(size)
    boards, answers = rules.scramble(size, rng.integers(0, 9, 50), rng), rng.integers(0, 4, (50, 9)).astype(np.int8)
    played = np.full(50, 9)
    solved, states = playing.replay(boards, answers), playing.on_the_way(boards, answers, played)
    monkeypatch.setattr(playing, "_AT_ONCE", 70)  # seven boards
    again, others = playing.replay(boards, answers), playing.on_the_way(boards, answers, played)
    assert all(np.array_equal(one, other) for one, other in zip(solved, again, strict=True))
    rows = [sorted(zip(*(part.tolist() for part in found), strict=True)) for found in (states, others)]
    assert rows[0] == rows[1]
