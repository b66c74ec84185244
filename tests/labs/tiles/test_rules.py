"""The rules of the sliding-tile puzzle: moves, parity, marking, symmetry and the states kept for exams."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.labs.tiles import rules

sizes = st.sampled_from(rules.SIZES)
seeds = st.integers(0, 2**32 - 1)
quick = settings(deadline=None, max_examples=30)


@quick
@given(sizes, seeds)
def test_a_move_is_undone_by_its_inverse(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    boards = rules.uniform(size, 8, rng)
    moves = np.array([rng.choice(np.flatnonzero(row)) for row in rules.legal(boards)], dtype=np.int8)
    after = rules.step(boards, moves)
    assert (after != boards).sum(axis=1).tolist() == [2] * 8
    assert (rules.step(after, moves ^ 1) == boards).all()
    assert rules.solvable(after).all()


@quick
@given(sizes, seeds)
def test_exchanging_two_tiles_makes_a_board_unsolvable(size: int, seed: int) -> None:
    boards = rules.uniform(size, 8, np.random.default_rng(seed))
    assert rules.solvable(boards).all()
    exchanged = boards.copy()
    exchanged[boards == 1], exchanged[boards == 2] = 2, 1
    assert not rules.solvable(exchanged).any()


def test_uniform_boards_are_uniform() -> None:
    boards = rules.uniform(3, 90_000, np.random.default_rng(0))
    for cell in range(9):
        counts = np.bincount(boards[:, cell], minlength=9)
        assert abs(counts - 10_000).max() < 5 * np.sqrt(10_000)


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
    solved, length = rules.replay(board, sequence)
    assert solved[0]
    assert length[0] <= depth
    assert (length[0] - depth) % 2 == 0


def test_replay_stops_at_illegal_moves_padding_and_the_goal() -> None:
    board = rules.step(rules.goal(3)[None], np.array([0], dtype=np.int8))
    boards = np.repeat(board, 6, axis=0)
    boards[5] = rules.goal(3)
    answers = np.array([[1, 3, 3], [3, 1, 1], [-1, 1, -1], [0, 1, 1], [-1, -1, -1], [0, 0, 0]], dtype=np.int8)
    solved, lengths = rules.replay(boards, answers)
    assert solved.tolist() == [True, False, False, True, False, True]
    assert lengths.tolist() == [1, -1, -1, 3, -1, 0]


@quick
@given(sizes, seeds, st.integers(0, 12), st.integers(0, 16))
def test_replay_plays_as_one_would_by_hand(size: int, seed: int, depth: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    boards = rules.scramble(size, rng.integers(0, depth + 1, 64), rng)
    answers = rng.integers(-1, 4, (64, length)).astype(np.int8)
    solved, lengths = rules.replay(boards, answers)
    for board, moves, found, count in zip(boards, answers, solved, lengths, strict=True):
        played = 0
        while not rules.solved(board[None])[0]:
            if played == length or moves[played] < 0 or not rules.legal(board[None])[0, moves[played]]:
                played = -1
                break
            board = rules.step(board[None], moves[played : played + 1])[0]
            played += 1
        assert (played >= 0, played) == (found, count)


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
        rules.replay(np.repeat(rules.goal(3)[None], 2, axis=0), answers)


@quick
@given(seeds, st.integers(0, 12))
def test_replay_survives_any_moves(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    boards = rules.uniform(3, 5, rng)
    solved, lengths = rules.replay(boards, rng.integers(-1, 4, (5, length)))
    assert ((lengths >= 0) == solved).all()


def test_an_illegal_step_and_a_wrong_board_are_refused() -> None:
    with pytest.raises(ValueError, match="off the board"):
        rules.step(rules.goal(4)[None], np.array([1], dtype=np.int8))
    with pytest.raises(ValueError, match="9, 16 or 25 cells"):
        rules.legal(np.zeros((2, 10), dtype=np.uint8))
    with pytest.raises(ValueError, match="must be uint8"):
        rules.legal(np.zeros((2, 9), dtype=np.int64))


@quick
@given(sizes, seeds)
def test_the_reflection_keeps_the_goal_and_commutes_with_moves(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    boards = rules.uniform(size, 8, rng)
    moves = np.array([rng.choice(np.flatnonzero(row)) for row in rules.legal(boards)], dtype=np.int8)
    assert (rules.reflect(rules.goal(size)[None]) == rules.goal(size)).all()
    assert (rules.reflect(rules.reflect(boards)) == boards).all()
    turned = rules.step(rules.reflect(boards), rules.reflect_moves(moves))
    assert (turned == rules.reflect(rules.step(boards, moves))).all()
    assert rules.reflect_moves(np.array([0, 1, 2, 3, -1], dtype=np.int8)).tolist() == [2, 3, 0, 1, -1]


@quick
@given(sizes, seeds, st.integers(0, 40))
def test_the_partition_is_the_one_that_exams_were_set_with(size: int, seed: int, depth: int) -> None:
    """Its definition in plain words: experience that is stored somewhere must not meet a later exam."""
    boards = rules.scramble(size, np.full(64, depth), np.random.default_rng(seed))
    if size == 4:
        boards = np.concatenate([boards, rules.published()[0]])
    least = np.minimum(rules.key(boards), rules.key(rules.reflect(boards)))
    drawn = rules.mix(least ^ rules.mix(np.full(1, 5, dtype=np.uint64)))
    corner = (boards[:, [0, size - 1, size * size - size, size * size - 1]] == 0).any(axis=1)
    far = rules.manhattan(boards) >= 8
    held = np.where(far, drawn % 16 == 0, corner & ~rules.solved(boards) & (drawn % 2 == 0))
    if size == 4:
        held[-100:] = True
    assert (rules.held_out(boards) == held).all()


def test_a_long_answer_takes_little_memory() -> None:
    boards = rules.uniform(4, 2000, np.random.default_rng(0))
    answers = np.tile(np.array([0, 1], dtype=np.int8), (2000, 2048))
    tracemalloc.start()
    rules.replay(boards, answers)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 * 2**20


@quick
@given(sizes, seeds)
def test_held_out_states_are_a_sixteenth_closed_under_reflection(size: int, seed: int) -> None:
    boards = rules.uniform(size, 2_000, np.random.default_rng(seed))
    held = rules.held_out(boards)
    assert (held == rules.held_out(rules.reflect(boards))).all()
    assert abs(held.mean() - 1 / rules.HELD_OUT_SHARE) < 0.04


@pytest.mark.parametrize(("size", "first"), [(3, 2), (4, 3), (5, 4)])
def test_short_questions_exist_and_stand_in_nobodys_way(size: int, first: int) -> None:
    layer, before = rules.goal(size)[None], np.zeros((0, size * size), dtype=np.uint8)
    corners = [0, size - 1, size * size - size, size * size - 1]
    for length in range(9):
        held = layer[rules.held_out(layer)]
        near = held[rules.manhattan(held) < rules.BOTTLENECK]
        assert np.isin(rules.blanks(near), corners).all()
        assert len(held) >= 2 if length == first else len(held) == 0 or length > first
        layer, before = next_layer(layer, before), layer


def next_layer(layer: np.ndarray, before: np.ndarray) -> np.ndarray:
    after = []
    for move in range(rules.MOVES):
        can = rules.legal(layer)[:, move]
        after.append(rules.step(layer[can], np.full(can.sum(), move, dtype=np.int8)))
    known = {row.tobytes() for row in before}
    every = np.unique(np.concatenate(after), axis=0)
    return every[[row.tobytes() not in known for row in every]]


@quick
@given(st.sampled_from([3, 4]), seeds)
def test_keys_are_exact_up_to_4x4(size: int, seed: int) -> None:
    boards = rules.uniform(size, 20, np.random.default_rng(seed))
    assert (rules.unpack(rules.key(boards), size) == boards).all()


def test_keys_of_5x5_boards_differ() -> None:
    boards = np.unique(rules.uniform(5, 10_000, np.random.default_rng(0)), axis=0)
    assert len(np.unique(rules.key(boards))) == len(boards)


@quick
@given(sizes, seeds, st.integers(1, 20))
def test_walks_are_labelled_with_the_way_back(size: int, seed: int, depth: int) -> None:
    boards, moves = rules.walks(size, 7, depth, np.random.default_rng(seed))
    back = rules.step(boards, moves)
    assert (back[:7] == rules.goal(size)).all()
    assert (back[7:] == boards[:-7]).all()
    # No walk turns back: two steps never lead to where one was.
    assert not (boards[14:] == boards[:-14]).all(axis=1).any()


def test_scrambles_have_their_own_depths() -> None:
    depths = np.array([0, 5, 1, 2, 0])
    boards = rules.scramble(4, depths, np.random.default_rng(1))
    assert rules.solved(boards).tolist() == [True, False, False, False, True]
    assert rules.manhattan(boards).tolist() == [0, 5, 1, 2, 0]
    assert rules.scramble(4, depths[:0], np.random.default_rng(1)).shape == (0, 16)


@quick
@given(sizes, seeds)
def test_parse_reads_what_format_writes(size: int, seed: int) -> None:
    board = rules.uniform(size, 1, np.random.default_rng(seed))[0]
    text = rules.format_board(board)
    assert (rules.parse(text) == board).all()
    assert (rules.parse(text.replace(" ", ", ")) == board).all()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1 2 3", "got 3"),
        ("1 2 3 4 5 6 7 8 x", "whole numbers"),
        ("1 2 3 4 5 6 7 8 -1", "whole numbers"),
        ("1 2 3 4 5 6 7 8 8", "each number"),
        ("1 2 3 4 5 6 8 7 0", "wrong parity"),
    ],
)
def test_parse_says_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        rules.parse(text)
