"""Which states are kept for exams: a fixed, public partition that training and every question go by."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from instar.labs.tiles import rules
from instar.labs.tiles.rules import Boards, Keys, Mask

SHARE = 16
"""One state in so many is kept for exams, from Manhattan distance BOTTLENECK on."""
BOTTLENECK = 8
"""Closer to the goal every path squeezes through few states: only corner states are held out, every other one."""
_SALT = 5
_CELLS = 3  # whose tiles are looked up at once where boards have exact keys
_Distances = npt.NDArray[np.uint8]
_Table = tuple[Keys, _Distances]


def held_out(boards: Boards) -> Mask:
    """Return which states (N,) are kept for exams: questions come from them alone, training never sees them.

    A fixed, public, pseudo-random partition. A state and its reflection fall on the same side, so that
    augmenting by the symmetry leaks nothing. From Manhattan distance BOTTLENECK on it takes one state in
    SHARE. Closer, a state that training must not show would stand in the way of a large share of all
    solutions; there only states with the blank in a corner are taken, every second one: a player that does not
    undo its last move crosses a corner without a choice. Published instances are held out as well. Boards must be
    permutations of their tiles, which is not looked at here.
    """
    size = rules.size_of(boards)
    code, mirrored = rules.key(boards), np.zeros(len(boards), dtype=np.uint64)
    distance = np.zeros(len(boards), dtype=np.uint8)
    looked_up = _by_cell(boards) if size > 4 else _by_digits(code, size)
    for entry, (mirrors, distances) in looked_up:
        mirrored ^= mirrors.take(entry)
        distance += distances.take(entry)
    least = np.minimum(code, mirrored)
    drawn = rules.mix(least ^ rules.mix(np.full(1, _SALT, dtype=np.uint64)))
    held = drawn % np.uint64(SHARE) == 0
    near = np.flatnonzero(distance < BOTTLENECK)
    corner = (boards[near][:, [0, size - 1, size * size - size, size * size - 1]] == 0).any(axis=1)
    held[near] = corner & (distance[near] > 0) & (drawn[near] % np.uint64(2) == 0)
    return np.asarray(held | np.isin(least, _published_keys()) if size == 4 else held)


def _by_cell(boards: Boards) -> Iterator[tuple[npt.NDArray[np.intp], _Table]]:
    """Yield for each cell the boards' tiles, with what every tile adds there: see `_tables`."""
    for cell, table in enumerate(zip(*_tables(rules.size_of(boards)), strict=True)):
        yield boards[:, cell].astype(np.intp), table


def _by_digits(keys: Keys, size: int) -> Iterator[tuple[npt.NDArray[np.int64], _Table]]:
    """Yield for a few cells at a time the digits of exact keys, with what these add: see `_tables`."""
    for number, table in enumerate(_digit_tables(size)):
        digits = (keys >> np.uint64(4 * _CELLS * number)) & np.uint64(16**_CELLS - 1)
        yield digits.view(np.int64), table


@lru_cache
def _tables(size: int) -> _Table:
    """Return by [cell, tile] what it adds to `key` of a board's reflection (by xor), and to its `manhattan`."""
    cells = np.arange(size * size, dtype=np.uint64)
    codes = rules.zobrist(size) if size > 4 else cells << (cells[:, None] * np.uint64(4))
    turn, rename = rules.mirror(size)
    return rules.fixed(codes[turn][:, rename]), rules.fixed(rules.tile_distances(size).astype(np.uint8))


@lru_cache
def _digit_tables(size: int) -> list[_Table]:
    """Return the same by the digits of `_CELLS` cells together, for each such group of cells; up to 4x4."""
    mirrors, distances = (_widened(table) for table in _tables(size))
    groups = []
    for first in range(0, size * size, _CELLS):
        mirror, distance = np.zeros(1, dtype=np.uint64), np.zeros(1, dtype=np.uint8)
        for cell in range(first, min(first + _CELLS, size * size)):  # a later cell's digit is a higher one
            mirror = (mirrors[cell][:, None] ^ mirror).ravel()
            distance = (distances[cell][:, None] + distance).ravel()
        groups.append((rules.fixed(mirror), rules.fixed(distance)))
    return groups


def _widened(table: npt.NDArray[rules.Number]) -> npt.NDArray[rules.Number]:
    """Return a table (cells, tiles) with 16 columns; no board has the digits that were not there."""
    return np.pad(table, ((0, 0), (0, 16 - table.shape[1])))


@lru_cache
def published() -> tuple[Boards, npt.NDArray[np.int64]]:
    """Return Korf's 100 random 4x4 instances turned to our goal, (100, 16), and their optimal lengths (100,).

    Korf's goal has the blank first; turning the board by 180 degrees and renaming tile k to 16 - k is the
    same problem (Artificial Intelligence 27, 1985).
    """
    with (Path(__file__).parent / "data" / "korf100.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    tiles = np.array([[int(tile) for tile in row["tiles"].split()] for row in rows])[:, ::-1]
    boards = np.where(tiles > 0, 16 - tiles, 0).astype(np.uint8)
    return boards, np.array([int(row["optimal_moves"]) for row in rows], dtype=np.int64)


@lru_cache
def _published_keys() -> Keys:
    boards = published()[0]
    return np.sort(np.minimum(rules.key(boards), rules.key(rules.reflect(boards))))
