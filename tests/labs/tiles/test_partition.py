"""The states kept for exams: which they are, how many, and that no two definitions of them exist."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.labs.tiles import partition, rules

sizes = st.sampled_from(rules.SIZES)
seeds = st.integers(0, 2**32 - 1)
quick = settings(deadline=None, max_examples=30)


@quick
@given(sizes, seeds, st.integers(0, 40))
def test_the_partition_is_the_one_that_exams_were_set_with(size: int, seed: int, depth: int) -> None:
    """Its definition in plain words: experience that is stored somewhere must not meet a later exam."""
    boards = rules.scramble(size, np.full(64, depth), np.random.default_rng(seed))
    if size == 4:
        boards = np.concatenate([boards, partition.published()[0]])
    least = np.minimum(rules.key(boards), rules.key(rules.reflect(boards)))
    drawn = rules.mix(least ^ rules.mix(np.full(1, 5, dtype=np.uint64)))
    corner = (boards[:, [0, size - 1, size * size - size, size * size - 1]] == 0).any(axis=1)
    far = rules.manhattan(boards) >= 8
    held = np.where(far, drawn % 16 == 0, corner & ~rules.solved(boards) & (drawn % 2 == 0))
    if size == 4:
        held[-100:] = True
    assert (partition.held_out(boards) == held).all()


@quick
@given(sizes, seeds)
def test_held_out_states_are_a_sixteenth_closed_under_reflection(size: int, seed: int) -> None:
    boards = rules.uniform(size, 2_000, np.random.default_rng(seed))
    held = partition.held_out(boards)
    assert (held == partition.held_out(rules.reflect(boards))).all()
    assert abs(held.mean() - 1 / partition.SHARE) < 0.04


@pytest.mark.parametrize(("size", "first"), [(3, 2), (4, 3), (5, 4)])
def test_short_questions_exist_and_stand_in_nobodys_way(size: int, first: int) -> None:
    layer, before = rules.goal(size)[None], np.zeros((0, size * size), dtype=np.uint8)
    corners = [0, size - 1, size * size - size, size * size - 1]
    for length in range(9):
        held = layer[partition.held_out(layer)]
        near = held[rules.manhattan(held) < partition.BOTTLENECK]
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
