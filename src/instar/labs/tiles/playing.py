"""Plays answers by the rules: which boards a sequence of moves solves, and what stood on the way.

This marks every exam and judges all experience. Numpy only; what is played may be an adversary's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from instar.labs.tiles import rules
from instar.labs.tiles.rules import Boards, Keys, Mask, Moves

Counts = npt.NDArray[np.int64]
"""Numbers of moves, (N,)."""
_Places = npt.NDArray[np.int64]

_AT_ONCE = 2**20  # moves, all boards together, that are played at once: 50 MB, 80 with the states on the way
_COLUMNS = 8  # of `_onto`: a power of two, so that `move & 7` is the column, the padding's as well


def replay(boards: Boards, sequences: Moves) -> tuple[Mask, Counts]:
    """Play sequences of moves and say which boards they solve; the marking of every exam.

    A sequence ends at its first -1, at its first illegal move, or when the goal is reached; what follows is
    not read.

    Args:
        boards: (N, cells), permutations.
        sequences: (N, T) of any signed integer type, each entry -1..3.

    Returns:
        solved (N,), and the number of moves until the goal (N,), -1 where it is not reached.

    Raises:
        ValueError: the answer has another type or shape or a number that is no move.
    """
    lengths = np.concatenate([_lengths(board, moves) for board, moves in _parts(boards, sequences)])
    return lengths >= 0, lengths


def on_the_way(boards: Boards, sequences: Moves, played: Counts) -> tuple[Boards, Moves, Counts]:
    """Return every state in which a sequence moves, the move, and how many of the `played` (N,) were left to make.

    Sequences are read as in `replay`, and no further than `played`. Of as many boards as are played at once come the
    first states of all sequences, then their second ones, and so on: boards (M, cells), moves (M,), left (M,).

    Raises:
        ValueError: as `replay`.
    """
    parts, start = [], 0
    for board, moves in _parts(boards, sequences):
        stop = start + len(board)
        parts.append(_states(board, moves, played[start:stop]))
        start = stop
    states, made, left = zip(*parts, strict=True)
    return np.concatenate(states), np.concatenate(made), np.concatenate(left)


def _parts(boards: Boards, sequences: Moves) -> Iterator[tuple[Boards, Moves]]:
    """Yield boards with their sequences, transposed (T, n), as many as may be played at once; see `replay`."""
    if sequences.ndim != 2 or sequences.dtype.kind != "i" or len(sequences) != len(boards):
        raise ValueError(
            f"sequences must be signed integers of shape ({len(boards)}, T), not {sequences.dtype} {sequences.shape}"
        )
    if sequences.size and (sequences.min() < rules.PAD or sequences.max() >= rules.MOVES):
        raise ValueError("a move is 0, 1, 2 or 3, and -1 pads")
    if not rules.permutations(boards).all():
        raise ValueError("a board is no permutation of its tiles")
    moves = np.ascontiguousarray(sequences.T, dtype=np.int8)
    longest = int(np.flatnonzero((moves >= 0).any(axis=1)).max(initial=-1)) + 1
    together = max(1, _AT_ONCE // (longest + 1))  # who answers chooses how long
    for start in range(0, max(1, len(boards)), together):
        yield boards[start : start + together], moves[:longest, start : start + together]


def _lengths(boards: Boards, moves: Moves) -> Counts:
    """Return the number of moves until the goal, (N,); -1 where `moves` (T, N) don't lead there."""
    way = _way(boards, moves)
    if rules.size_of(boards) > 4:
        return _laid_out(boards, way)
    at_goal = _packed(boards, way) == _home(rules.size_of(boards))
    return np.where(at_goal.any(axis=0), at_goal.argmax(axis=0), -1)


def _states(boards: Boards, moves: Moves, played: Counts) -> tuple[Boards, Moves, Counts]:
    """See `on_the_way`; `moves` is (T, N)."""
    size, way = rules.size_of(boards), _way(boards, moves)
    left = played - np.arange(len(moves))[:, None]
    made = (way[1:] < boards.shape[1] * _COLUMNS) & (left > 0)
    if size > 4:
        lengths = _laid_out(boards, way)
        made &= (np.arange(len(moves))[:, None] < lengths) | (lengths < 0)
        return _laid_out_states(boards, way, made), moves[made], left[made]
    keys = _packed(boards, way)[:-1]
    made &= ~np.logical_or.accumulate(keys == _home(size), axis=0)
    return rules.unpack(keys[made], size), moves[made], left[made]


def _way(boards: Boards, moves: Moves) -> _Places:
    """Return the place of the blank, which no tile bears on, at each time: (T + 1, N), as `_onto` counts places."""
    table, moves = _onto(rules.size_of(boards)), moves & (_COLUMNS - 1)
    way, entry = np.empty((len(moves) + 1, len(boards)), dtype=np.int64), np.empty(len(boards), dtype=np.int64)
    way[0] = here = rules.blanks(boards) * _COLUMNS
    for move, there in zip(moves, way[1:], strict=True):
        np.add(here, move, out=entry)
        table.take(entry, out=there, mode="clip")  # "clip", which changes nothing, spares a copy
        here = there
    return way


@lru_cache
def _onto(size: int) -> _Places:
    """Return where each move (a column; the last: -1) leads from a place, flat.

    Places count by `_COLUMNS`, so that place + column is an entry. The first `cells` are the cells; as many that follow
    are the same cells at the end of a sequence, which -1 or a move off the board leads to and nothing away.
    """
    cells = size * size
    ended = np.broadcast_to(cells + np.arange(cells)[:, None], (cells, _COLUMNS))
    table = np.concatenate([ended, ended])
    near = rules.neighbours(size)
    table[:cells, : rules.MOVES] = np.where(near < 0, ended[:, : rules.MOVES], near)
    return rules.fixed(table.astype(np.int64).ravel() * _COLUMNS)


def _home(size: int) -> np.uint64:
    """Return the goal's key."""
    return np.uint64(rules.key(rules.goal(size)[None])[0])


def _packed(boards: Boards, way: _Places) -> Keys:
    """Move the tiles as the blank goes its `way` (T + 1, N), and return the keys of the boards at each time.

    A board is one number (`rules.key`). The tile that the blank changes places with is taken out, multiplied by the
    weights of both cells, and so erased from the one and written to the other. Where the way has ended these are one
    cell, and nothing changes. Up to 4x4.
    """
    size = rules.size_of(boards)
    weights = np.tile(np.repeat(rules.nibbles(size), _COLUMNS), 2).take(way)
    exchange = weights[1:] ^ weights[:-1]
    shifts = np.tile(np.repeat(4 * np.arange(size * size, dtype=np.uint64), _COLUMNS), 2).take(way[1:])
    states, tile, nibble = np.empty(way.shape, dtype=np.uint64), np.empty(len(boards), dtype=np.uint64), np.uint64(15)
    states[0] = before = rules.key(boards)
    for shift, weight, after in zip(shifts, exchange, states[1:], strict=True):
        np.right_shift(before, shift, out=tile)
        np.bitwise_and(tile, nibble, out=tile)
        np.multiply(tile, weight, out=tile)
        np.bitwise_xor(before, tile, out=after)
        before = after
    return states


def _laid_out(boards: Boards, way: _Places) -> Counts:
    """Move the tiles as the blank goes its `way` (T + 1, N), cell by cell; return what `_lengths` does. Any size."""
    lengths, home = np.where(rules.solved(boards), 0, -1), rules.goal(rules.size_of(boards))
    for t, board, blank in _moved(boards, way):
        last = np.flatnonzero((blank == boards.shape[1] - 1) & (lengths < 0))  # only then is it worth a look
        done = last[(board[last] == home).all(axis=1)]
        lengths[done] = t
    return lengths


def _laid_out_states(boards: Boards, way: _Places, made: Mask) -> Boards:
    """Return the boards before each move that is `made` (T, N), in that order; see `on_the_way`. Any size."""
    states = [boards[made[0]]] if len(made) else [boards[:0]]
    states += [board[made[t]] for t, board, _ in _moved(boards, way) if t < len(made)]
    return np.concatenate(states)


def _moved(boards: Boards, way: _Places) -> Iterator[tuple[int, Boards, npt.NDArray[np.int64]]]:
    """Yield the number of moves from 1 on, the boards after them (one array, written over), and the blanks' cells."""
    cells = boards.shape[1]
    board, first, blank = boards.ravel().copy(), np.arange(len(boards)) * cells, way // _COLUMNS % cells
    for t in range(1, len(way)):
        there = first + blank[t]
        tile = board[there]
        board[first + blank[t - 1]] = tile
        board[there] = 0
        yield t, board.reshape(-1, cells), blank[t]
