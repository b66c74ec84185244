"""Search with a policy: greedy play and beam search, over many boards at once.

Beam search keeps, for every instance, the `width` paths of the highest cumulative log-probability
(EfficientCube; Takano, arXiv:2106.03157), never undoes a move and holds every state once. All instances of a
chunk are expanded, moved, deduplicated and selected together; the policy's evaluation is what should cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from instar.labs.tiles import rules
from instar.labs.tiles.rules import Boards, Keys, Moves

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)
Evaluate = Callable[[Boards], Floats]
"""Map boards (N, cells) to logits (N, 4 or more); `model.Inference` is one."""

GUIDE = 3.0
KEEP = 0.9
"""How an estimate of the moves left (in tens) is weighed against the path; chosen on 200 random 4x4 boards."""

_TIES = 20261126
"""Seed of the lots that are drawn between equally likely moves."""

BOARDS_AT_ONCE = 65_536
"""Beam entries of a chunk of instances; bounds memory at about 250 bytes an entry and 3 more per layer."""


@lru_cache
def _closed(size: int) -> tuple[Floats, Floats]:
    """Return what to add to logits: -inf where a move is illegal (cells, 4) or turns back (cells, 5, 4)."""
    off = rules.neighbours(size) < 0
    illegal = np.where(off, -np.inf, 0).astype(np.float32)
    back = np.repeat(illegal[:, None], rules.MOVES + 1, axis=1)
    for last in range(rules.MOVES):
        back[:, last, last ^ 1] = -np.inf
    return illegal, back


def greedy(evaluate: Evaluate, boards: Boards, max_moves: int) -> Moves:
    """Play the likeliest move that does not undo the last one, until solved or out of moves.

    Between equally likely moves the lot decides, from a fixed seed (the same boards get the same moves): whoever knows
    nothing must not profit from the order in which moves are listed.

    Args:
        evaluate: the policy.
        boards: (N, cells), solvable.
        max_moves: the most moves to play.

    Returns:
        The moves played, (N, max_moves), padded with -1 after the goal.
    """
    size = rules.size_of(boards)
    table, closed = rules.neighbours(size).astype(np.int64), _closed(size)[1]
    played = np.full((len(boards), max_moves), rules.PAD, dtype=np.int8)
    rows = np.flatnonzero(~rules.solved(boards))
    board, blank = boards[rows], rules.blanks(boards[rows])
    last = np.full(len(rows), rules.NO_MOVE)
    rng = np.random.default_rng(_TIES)
    for t in range(max_moves):
        if not len(rows):
            break
        move = _likeliest(evaluate(board)[:, : rules.MOVES] + closed[blank, last], rng)
        target, every = table[blank, move], np.arange(len(rows))
        board[every, blank] = board[every, target]
        board[every, target] = 0
        played[rows, t] = move
        left = ~rules.solved(board)
        rows, board, blank, last = rows[left], board[left], target[left], move[left]
    return played


def _likeliest(scores: Floats, rng: np.random.Generator) -> Ints:
    """Return the column of each row's highest score, (N,); among equal ones by lot."""
    best = scores == scores.max(axis=1, keepdims=True)
    if best.sum() > len(scores):
        best = np.where(best, rng.random(best.shape, dtype=np.float32), -1.0)
    return np.asarray(np.argmax(best, axis=1))


def beam(evaluate: Evaluate, boards: Boards, width: int, max_moves: int, guide: float = GUIDE) -> Moves:
    """Search each board with a beam and return the first solution found, which is this beam's shortest.

    A policy that also estimates the moves left (a fifth output) is asked where a path stands, not only how likely its
    moves were: a child ranks by KEEP x its parent's cumulative log-probability + its move's - guide x the parent's
    estimate. It costs nothing more; in a 4x4 prototype (one seed) a beam of 64 became as good as one of 256.

    Args:
        evaluate: the policy.
        boards: (N, cells), solvable.
        width: paths kept per instance, 1..32768.
        max_moves: layers to search.
        guide: weight of the estimate; without a fifth output it is not used.

    Returns:
        Solutions (N, max_moves), padded with -1; a row of nothing but -1 is unsolved (or solved already).
    """
    if not 1 <= width <= 2**15:
        raise ValueError(f"a beam keeps 1..32768 paths, not {width}")
    solutions = np.full((len(boards), max_moves), rules.PAD, dtype=np.int8)
    rows = np.flatnonzero(~rules.solved(boards))
    at_once = max(1, BOARDS_AT_ONCE // width)
    for start in range(0, len(rows), at_once):
        chunk = rows[start : start + at_once]
        solutions[chunk] = _Beams(evaluate, boards[chunk], width, max_moves, guide).search()
    return solutions


@dataclass(frozen=True)
class _Children:
    """Candidates for the next layer, best first, each array (A, C); illegal ones score -inf."""

    rank: Floats
    """What decides who stays; -inf for what is no child."""
    score: Floats
    """Cumulative log-probability of the path, which is handed on."""
    parent: Ints
    """Row of the parent in the flat arrays (A * K,)."""
    move: Ints
    blank: Ints
    key: Keys


class _Beams:
    """The beams of a chunk of A instances, of K entries each: arrays are (A, K), missing entries score -inf."""

    def __init__(self, evaluate: Evaluate, boards: Boards, width: int, max_moves: int, guide: float) -> None:
        self.evaluate, self.width, self.max_moves, self.guide = evaluate, width, max_moves, guide
        self.size = size = rules.size_of(boards)
        self.table = rules.neighbours(size).astype(np.int64)
        self.zobrist = rules.zobrist(size)
        instances, cells = boards.shape
        self.instance = np.arange(instances)
        self.boards = boards.copy()  # (A * K, cells)
        self.blank = rules.blanks(boards)[:, None]
        self.last = np.full((instances, 1), rules.NO_MOVE)
        self.score = np.zeros((instances, 1), dtype=np.float32)
        # States of different instances must not be taken for one another: each has its own salt, drawn from
        # numbers far from those that the Zobrist table is made of.
        self.salt = rules.mix(np.arange(2**32, 2**32 + instances, dtype=np.uint64))[:, None]
        self.key = np.bitwise_xor.reduce(self.zobrist[np.arange(cells), boards], axis=1)[:, None] ^ self.salt
        self.goal = np.bitwise_xor.reduce(self.zobrist[np.arange(cells), rules.goal(size)])
        self.parents = np.zeros((max_moves, instances, width), dtype=np.int16)
        self.moves = np.zeros((max_moves, instances, width), dtype=np.int8)
        bits = int(np.ceil(np.log2(16 * instances * width)))
        self.seen = _Seen(bits)
        self.seen.add(self.key.ravel())

    def search(self) -> Moves:
        """Grow layer after layer until every instance is solved or the moves run out; (A, max_moves)."""
        solutions = np.full((len(self.instance), self.max_moves), rules.PAD, dtype=np.int8)
        for layer in range(self.max_moves):
            children = self._candidates()
            reached = (children.key == self.goal ^ self.salt) & (children.rank > -np.inf)
            self._trace(solutions, layer, reached, children)
            going = ~reached.any(axis=1)
            if not going.any():
                break
            self._select(layer, going, children)
            if not len(self.instance):  # every state within reach has been seen
                break
        return solutions

    def _candidates(self) -> _Children:
        """Return the children worth a look, best first: twice the width leaves enough once duplicates are gone."""
        instances, entries = self.score.shape
        illegal, back = _closed(self.size)
        blank, last = self.blank.ravel(), self.last.ravel()
        scores = self.evaluate(self.boards)
        moves = torch.log_softmax(torch.from_numpy(scores[:, : rules.MOVES] + illegal[blank]), dim=1).numpy()
        # The share of turning back is lost, not spread over the rest: a path that wants to go back is worse.
        path, rank = self.score.reshape(-1, 1), moves + back[blank, last]
        if scores.shape[1] > rules.MOVES and self.guide:
            path = path * np.float32(KEEP)
            rank = rank - np.float32(self.guide) * scores[:, rules.MOVES :]
        rank = rank + path
        most = min(rules.MOVES * entries, 2 * self.width)
        best, code = torch.topk(torch.from_numpy(rank).view(instances, -1), most, dim=1)
        return self._children(best.numpy(), code.numpy(), moves + path)

    def _children(self, rank: Floats, code: Ints, path: Floats) -> _Children:
        """Make the children that ranks and codes (parent * 4 + move), (A, C), stand for."""
        parent = (code >> 2) + (np.arange(len(code)) * self.score.shape[1])[:, None]
        move = code & 3
        before = self.blank.ravel()[parent]
        blank = self.table[before, move]  # -1 for illegal moves, whose rank is -inf
        tile = self.boards[parent, blank]
        key = self.key.ravel()[parent] ^ self.zobrist[before, tile] ^ self.zobrist[blank, tile]
        return _Children(rank, path[parent, move], parent, move, blank, key)

    def _trace(self, solutions: Moves, layer: int, reached: rules.Mask, children: _Children) -> None:
        """Write the moves that lead to the best goal of each solved instance, walking the layers back."""
        rows = np.flatnonzero(reached.any(axis=1))
        if not len(rows):
            return
        best = np.argmax(reached[rows], axis=1)
        instance, entry = self.instance[rows], children.parent[rows, best] % self.score.shape[1]
        solutions[instance, layer] = children.move[rows, best]
        for t in range(layer - 1, -1, -1):
            solutions[instance, t] = self.moves[t, instance, entry]
            entry = self.parents[t, instance, entry].astype(np.int64)

    def _select(self, layer: int, going: rules.Mask, children: _Children) -> None:
        """Keep the best `width` new states of each unsolved instance as the next layer."""
        at = np.flatnonzero((children.rank > -np.inf) & going[:, None])  # row by row, best first
        at = at[self.seen.first(children.key.ravel()[at])]
        row = at // children.rank.shape[1]
        counts = np.bincount(row, minlength=len(going))
        rank = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
        at, row, rank = (of[rank < self.width] for of in (at, row, rank))
        going = going & (counts > 0)  # instances that are solved, or stuck, leave
        shape = int(going.sum()), int(min(self.width, counts.max(initial=1)))
        place = (np.cumsum(going) - 1)[row] * shape[1] + rank
        self.instance, self.salt = self.instance[going], self.salt[going]

        origin, blank = children.parent.ravel()[at], children.blank.ravel()[at]
        entry, key = origin % self.score.shape[1], children.key.ravel()[at]
        self.boards = self._moved(origin, blank, place, shape[0] * shape[1])
        self.blank = _placed(shape, place, blank, 0)
        self.last = _placed(shape, place, children.move.ravel()[at], rules.NO_MOVE)
        self.score = _placed(shape, place, children.score.ravel()[at], -np.inf)
        self.key = _placed(shape, place, key, 0)
        self.seen.add(key)
        self.parents[layer, self.instance, : shape[1]] = _placed(shape, place, entry, 0)
        self.moves[layer, self.instance, : shape[1]] = self.last

    def _moved(self, origin: Ints, blank: Ints, place: Ints, rows: int) -> Boards:
        """Return `rows` boards: at `place` those of the rows `origin`, their blank brought to `blank`."""
        every, before = np.arange(len(origin)), self.blank.ravel()[origin]
        moved = self.boards[origin]
        moved[every, before] = moved[every, blank]
        moved[every, blank] = 0
        # Missing entries show the goal, so that the policy is asked about real boards only.
        boards = np.tile(rules.goal(self.size), (rows, 1))
        boards[place] = moved
        return boards


def _placed(shape: tuple[int, int], place: Ints, values: npt.NDArray[Number], missing: float) -> npt.NDArray[Number]:
    """Return an array (A, K) with the values at the given flat places and `missing` elsewhere."""
    out = np.full(shape[0] * shape[1], missing, dtype=values.dtype)
    out[place] = values
    return out.reshape(shape)


class _Seen:
    """States met so far: a table with one key per slot where a newer key displaces an older one."""

    def __init__(self, bits: int) -> None:
        self.shift = np.uint64(64 - bits)
        self.keys = np.zeros(2**bits, dtype=np.uint64)
        self.owner = np.zeros(2**bits, dtype=np.int32)

    def first(self, keys: Keys) -> rules.Mask:
        """Return which keys (M,) are new and the first of their kind in the array."""
        slot = (keys >> self.shift).astype(np.int64)
        new: rules.Mask = self.keys[slot] != keys
        number = np.arange(len(keys), dtype=np.int32)
        self.owner[slot[::-1]] = number[::-1]  # assigned in order: the first in the array stays
        winner = self.owner[slot]
        lost = winner != number
        new[lost] &= keys[winner[lost]] != keys[lost]
        # Another state was in the slot: look once more, in a slot made of other bits.
        again = np.flatnonzero(lost & new)
        if len(again):
            slot = ((keys[again] << np.uint64(24)) >> self.shift).astype(np.int64)
            self.owner[slot[::-1]] = again[::-1]
            winner = self.owner[slot]
            new[again] &= (winner == again) | (keys[winner] != keys[again])
        return new

    def add(self, keys: Keys) -> None:
        """Note the keys (M,)."""
        self.keys[(keys >> self.shift).astype(np.int64)] = keys
