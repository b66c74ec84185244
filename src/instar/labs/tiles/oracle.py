"""What the examiner knows and a candidate never sees: exact lengths, lower bounds and Korf's instances.

3x3: breadth-first search over all 181,440 states, once per process (`Distances`). 4x4: `optimal_lengths`
meets layers around the goal with pruned layers around the instance. Any size: `lower_bound`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from instar.contracts.records import Floats
from instar.labs.tiles import partition, rules
from instar.labs.tiles.rules import Boards, Keys

Lengths = npt.NDArray[np.int64]
"""Numbers of moves, (N,)."""

NEAR = 20
"""Layers kept around the goal of the 4x4 puzzle: 3.4 million states, 27 MB."""


def lower_bound(boards: Boards) -> Lengths:
    """Return Manhattan distance plus linear conflict, (N,): never more than the optimum, any size.

    Tiles in their own line must leave it, two moves each, until those left stand in rising order; the fewest
    that leave are all but a longest rising subsequence (Hansson, Mayer and Yung, Information
    Sciences 63, 1992).
    """
    size = rules.size_of(boards)
    home = (boards.astype(np.int64) - 1) % (size * size)
    real = boards > 0
    cell = np.arange(size * size)
    line = np.arange(size)
    weight = (size + 1) ** line
    extra = _conflicts(size)
    row_place = np.where(real & (home // size == cell // size), home % size, size).reshape(-1, size, size)
    column_place = np.where(real & (home % size == cell % size), home // size, size).reshape(-1, size, size)
    rows = extra[(row_place * weight).sum(axis=2)].sum(axis=1)
    columns = extra[(column_place * weight[:, None]).sum(axis=1)].sum(axis=1)
    return np.asarray(rules.manhattan(boards) + rows + columns)


@lru_cache
def _conflicts(size: int) -> Lengths:
    """Return the extra moves of a line by its code: digit i is the goal place of the tile at place i.

    The digit `size` stands for the blank or for a tile of another line.
    """
    extra = np.zeros((size + 1) ** size, dtype=np.int64)
    for line in product(range(size + 1), repeat=size):
        places = [place for place in line if place < size]
        best = [1] * len(places)
        for i, place in enumerate(places):
            best[i] += max((best[j] for j in range(i) if places[j] < place), default=0)
        code = sum(digit * (size + 1) ** i for i, digit in enumerate(line))
        extra[code] = 2 * (len(places) - max(best, default=0))
    return extra


def expand(keys: Keys, size: int) -> Keys:
    """Return the keys of all states one move away from those of exact keys (N,), sorted, each once."""
    four, fifteen = np.uint64(4), np.uint64(15)
    boards = rules.unpack(keys, size)
    blank = rules.blanks(boards)
    after = []
    for move in range(rules.MOVES):
        target = rules.neighbours(size)[blank, move].astype(np.int64)
        on = target >= 0
        here, there = blank[on].astype(np.uint64) * four, target[on].astype(np.uint64) * four
        tile = (keys[on] >> there) & fifteen
        after.append(keys[on] ^ (tile << there) ^ (tile << here))
    every = np.sort(np.concatenate(after))  # three times faster here than np.unique, which hashes first
    return every[np.concatenate([[True], every[1:] != every[:-1]])] if len(every) else every


def layers(size: int, depth: int) -> list[Keys]:
    """Return the sorted keys of all states at optimal length 0, 1, .. depth (or until none is left)."""
    found = [rules.key(rules.goal(size)[None])]
    while len(found) <= depth:
        after = expand(found[-1], size)
        if len(found) > 1:
            after = after[~member(after, found[-2])]
        if not len(after):
            break
        found.append(after)
    return found


def member(keys: Keys, among: Keys) -> rules.Mask:
    """Return which keys (N,) occur in the sorted array `among`."""
    at = np.searchsorted(among, keys)
    return np.asarray(among[np.minimum(at, len(among) - 1)] == keys)


@dataclass(frozen=True)
class Distances:
    """All solvable 3x3 states: sorted `keys` (181440,) and their optimal `lengths` (181440,)."""

    keys: Keys
    lengths: Lengths
    held_out: rules.Mask

    @cached_property
    def kept(self) -> Mapping[int, Keys]:
        """The sorted keys of the states that are held out, by optimal length, for every length that has any."""
        lengths = self.lengths[self.held_out]
        return {int(length): self.keys[self.held_out][lengths == length] for length in np.unique(lengths)}

    @cached_property
    def counts(self) -> Floats:
        """How many states there are of each optimal length from 0 on, (32,)."""
        return np.bincount(self.lengths, minlength=32).astype(np.float64)

    def of(self, boards: Boards) -> Lengths:
        """Return the optimal lengths of solvable 3x3 boards, (N,)."""
        keys = rules.key(boards)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        if not (self.keys[at] == keys).all():
            raise ValueError("a board cannot be solved, so it has no optimal length")
        return self.lengths[at]

    def sample(self, lengths: Lengths, rng: np.random.Generator) -> Boards:
        """Draw a held-out state of each of the optimal lengths (N,), with replacement; boards (N, 9).

        Raises:
            ValueError: no state of a length is held out.
        """
        drawn = np.empty(len(lengths), dtype=np.uint64)
        for length in np.unique(lengths):
            if int(length) not in self.kept:
                raise ValueError(f"no 3x3 state of optimal length {length} is held out for exams")
            asked = lengths == length
            drawn[asked] = rng.choice(self.kept[int(length)], size=int(asked.sum()))
        return rules.unpack(drawn, 3)


@lru_cache
def distances() -> Distances:
    """Return the lengths of all 3x3 states (0.2 s the first time in a process)."""
    found = layers(3, 31)
    keys = np.concatenate(found)
    lengths = np.repeat(np.arange(len(found)), [len(layer) for layer in found])
    order = np.argsort(keys)
    return Distances(keys[order], lengths[order], partition.held_out(rules.unpack(keys[order], 3)))


@lru_cache
def near_goal() -> list[Keys]:
    """Return the 4x4 states at optimal length 0, 1, .. NEAR (1 s and 27 MB, once per process)."""
    return layers(4, NEAR)


def optimal_lengths(boards: Boards, most: int = 60, states: int = 4_000_000) -> Lengths:
    """Return exact optimal lengths of 4x4 boards, (N,); -1 where the limits are met first.

    For each instance the length is raised by two from its lower bound. Layers of states that the bound still
    allows grow from the instance until NEAR moves are left, and are looked up in the layer around the goal
    (bidirectional search with a perimeter; Dillenburg and Nelson, Artificial Intelligence 65, 1994).

    Args:
        boards: (N, 16), solvable.
        most: lengths above this are not tried.
        states: the largest layer to hold around an instance (each takes about 100 bytes while it grows).
    """
    return np.array([_optimal_length(board[None], most, states) for board in boards], dtype=np.int64)


def _optimal_length(board: Boards, most: int, states: int) -> int:
    near = near_goal()
    start = rules.key(board)
    for length in range(int(lower_bound(board)[0]), most + 1, 2):
        if length <= NEAR:
            if member(start, near[length]).all():
                return length
            continue
        layer, before = start, start[:0]
        for left in range(length - 1, NEAR - 1, -1):
            after = expand(layer, 4)
            if len(before):
                after = after[~member(after, before)]
            after = after[lower_bound(rules.unpack(after, 4)) <= left]
            layer, before = after, layer
            if len(layer) > states:
                return -1
        if len(layer) and member(layer, near[NEAR]).any():
            return length
    return -1


def korf() -> tuple[Boards, Lengths]:
    """Return Korf's 100 random 4x4 instances turned to our goal, (100, 16), and their optima (100,)."""
    boards, optima = partition.published()
    return boards.copy(), optima.copy()
