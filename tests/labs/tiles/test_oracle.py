"""The examiner's knowledge, held against published figures."""

from __future__ import annotations

import numpy as np
import pytest

from instar.labs.tiles import oracle, partition, rules

# Numbers of 3x3 states by optimal length, goal with the blank in a corner (OEIS A089473).
PUBLISHED = [1, 2, 4, 8, 16, 20, 39, 62, 116, 152, 286, 396, 748, 1024, 1893, 2512, 4485, 5638, 9529, 10878, 16993]
PUBLISHED += [17110, 23952, 20224, 24047, 15578, 14560, 6274, 3910, 760, 221, 2]


def test_breadth_first_search_gives_the_published_counts() -> None:
    found = oracle.distances()
    assert np.bincount(found.lengths).tolist() == PUBLISHED
    assert len(found.keys) == 181_440


def test_the_lower_bound_holds_for_every_3x3_state() -> None:
    found = oracle.distances()
    boards = rules.unpack(found.keys, 3)
    bound = oracle.lower_bound(boards)
    assert (bound <= found.lengths).all()
    assert ((found.lengths - bound) % 2 == 0).all()
    assert bound.mean() > rules.manhattan(boards).mean()
    assert (found.of(rules.reflect(boards)) == found.lengths).all()


def test_sampled_questions_are_held_out_and_of_their_length() -> None:
    found, lengths = oracle.distances(), np.repeat([2, 4, 6, 8, *range(9, 31)], 5)
    boards = found.sample(lengths, np.random.default_rng(0))
    assert (found.of(boards) == lengths).all()
    assert partition.held_out(boards).all()
    with pytest.raises(ValueError, match="length 1 "):
        found.sample(np.array([1]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="cannot be solved"):
        found.of(np.array([[1, 2, 3, 4, 5, 6, 8, 7, 0]], dtype=np.uint8))


def test_korfs_instances_agree_with_parity_and_bound() -> None:
    boards, optima = oracle.korf()
    assert boards.shape == (100, 16)
    assert int(optima.sum()) == 5305
    assert rules.solvable(boards).all()
    bound = oracle.lower_bound(boards)
    assert (bound <= optima).all()
    assert ((optima - bound) % 2 == 0).all()


def test_linear_conflict_of_a_reversed_line() -> None:
    board = rules.parse("3 2 1 4 5 6 7 8 9 10 11 12 13 15 14 0")[None]
    # Row one keeps one of 3 2 1, row four one of 15 14.
    assert rules.manhattan(board)[0] == 6
    assert oracle.lower_bound(board)[0] == 6 + 4 + 2


def test_the_4x4_solver_agrees_with_layers_and_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    near = oracle.layers(4, 15)
    assert [len(layer) for layer in near[:8]] == [1, 2, 4, 10, 24, 54, 107, 212]
    # With a small perimeter the search from the instance does the work.
    monkeypatch.setattr(oracle, "NEAR", 8)
    monkeypatch.setattr(oracle, "near_goal", lambda: near[:9])
    rng = np.random.default_rng(0)
    for length in (0, 5, 8, 9, 12, 15):
        boards = rules.unpack(rng.choice(near[length], 5), 4)
        assert oracle.optimal_lengths(boards).tolist() == [length] * 5
    assert oracle.optimal_lengths(rules.unpack(near[15][:1], 4), most=13).tolist() == [-1]
    assert oracle.optimal_lengths(rules.unpack(near[15][:3], 4), states=0).tolist() == [-1] * 3
