"""What the exam of tiles tests itself with: solutions found on the marker's side, and tricks that must earn nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from instar.labs.tiles import oracle, rules

_WIDTH = 48  # states kept per board where no table of distances is there
_REACH = 20  # boards whose lower bound is at most this are tried without a table
_LAYERS = 30


def solutions(boards: rules.Boards) -> rules.Moves:
    """Return solutions (N, T): shortest ones on 3x3, on larger boards for those near the goal; nothing for the rest."""
    if rules.size_of(boards) == 3:
        return _shortest(boards)
    return _near(boards)


def tricks(boards: rules.Boards) -> Mapping[str, rules.Moves]:
    """Return what a cheat may try with moves alone, by name; none of it solves a board."""
    count, solved = len(boards), solutions(boards)
    lengths = (solved >= 0).sum(axis=1)
    cut = solved.copy()
    cut[np.arange(count)[lengths > 0], lengths[lengths > 0] - 1] = rules.PAD
    off = np.repeat(np.array([[0, 0, 0, 0, 0]], dtype=np.int8), count, axis=0)  # the blank leaves the board
    return {
        "a pause before the solution": np.concatenate([np.full((count, 1), rules.PAD, np.int8), solved], axis=1),
        "a walk off the board before the solution": np.concatenate([off, solved], axis=1),
        "the solution without its last move": cut,
        "there and back for ever": np.tile(np.array([0, 1, 2, 3], np.int8), (count, 500)),
    }


def _shortest(boards: rules.Boards) -> rules.Moves:
    """Walk down the table of distances, by the first of the moves that lead closer."""
    table, board = oracle.distances(), boards.copy()
    left = table.of(board)
    played = np.full((len(boards), int(left.max(initial=1))), rules.PAD, dtype=np.int8)
    for t in range(played.shape[1]):
        rows = np.flatnonzero(left > 0)
        parent, move = np.nonzero(rules.legal(board[rows]))
        after = rules.step(board[rows[parent]], move.astype(np.int8))
        closer = np.flatnonzero(table.of(after) < left[rows[parent]])
        _, first = np.unique(parent[closer], return_index=True)  # every row has one
        chosen = closer[first]
        played[rows, t], board[rows] = move[chosen], after[chosen]
        left[rows] -= 1
    return played


def _near(boards: rules.Boards) -> rules.Moves:
    """Search every board near the goal with a beam ordered by the lower bound."""
    played = np.full((len(boards), _LAYERS), rules.PAD, dtype=np.int8)
    for row in np.flatnonzero(oracle.lower_bound(boards) <= _REACH):
        found = _path(boards[row])
        played[row, : len(found)] = found
    return played


def _path(board: rules.Boards) -> npt.NDArray[np.int8]:
    """Return one board's solution, or nothing."""
    states, paths = board[None], np.zeros((1, 0), dtype=np.int8)
    for _ in range(_LAYERS + 1):
        done = np.flatnonzero(rules.solved(states))
        if len(done):
            found: npt.NDArray[np.int8] = paths[done[0]]
            return found
        parent, move = np.nonzero(rules.legal(states))
        if paths.shape[1]:
            curriculum = move != (paths[parent, -1] ^ 1)
            parent, move = parent[curriculum], move[curriculum]
        after = rules.step(states[parent], move.astype(np.int8))
        best = np.argsort(oracle.lower_bound(after), kind="stable")[:_WIDTH]
        states = after[best]
        paths = np.concatenate([paths[parent[best]], move[best, None].astype(np.int8)], axis=1)
    return paths[:0, 0]
