"""The rules of sliding-tile puzzles, in batches, for boards of 3x3, 4x4 and 5x5.

A board is a row of `cells = size * size` uint8 numbers, row by row from the top left; 0 is the blank and the
goal is 1 2 .. cells-1 0. A move is the direction in which the *blank* goes: 0 up, 1 down, 2 left, 3 right, so
that `move ^ 1` undoes it. A sequence of moves is a row of int8, padded with -1.

The trusted conductor imports this module to mark answers: numpy only, nothing that a candidate can reach.
Which states are kept for exams is in `held_out`.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Boards = npt.NDArray[np.uint8]
"""Boards, (N, cells)."""
Moves = npt.NDArray[np.int8]
"""Moves, (N,) or sequences (N, T)."""
Mask = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.uint64]
Number = TypeVar("Number", bound=np.generic)

SIZES = (3, 4, 5)
MOVES = 4
PAD = -1
NO_MOVE = 4
"""Stands for "no move yet" where a last move is kept."""

HELD_OUT_SHARE = 16
"""One state in so many is kept for exams, from Manhattan distance BOTTLENECK on."""
BOTTLENECK = 8
"""Closer to the goal every path squeezes through few states: only corner states are held out, every other one."""
_HELD_OUT_SALT = 5
_AT_ONCE = 2**20  # moves, all boards together, that are replayed at once: 40 MB


def size_of(boards: Boards) -> int:
    """Return the side of the boards (N, cells), or raises ValueError for another shape or type."""
    if boards.ndim != 2 or boards.dtype != np.uint8:
        raise ValueError(f"boards must be uint8 of shape (N, cells), not {boards.dtype} {boards.shape}")
    for size in SIZES:
        if boards.shape[1] == size * size:
            return size
    raise ValueError(f"a board has 9, 16 or 25 cells, not {boards.shape[1]}")


def goal(size: int) -> Boards:
    """Return the solved board, (cells,)."""
    board = np.arange(1, size * size + 1, dtype=np.uint8)
    board[-1] = 0
    return board


@lru_cache
def neighbours(size: int) -> npt.NDArray[np.int8]:
    """Return where the blank arrives from each cell by each move, (cells, 4); -1 is off the board."""
    cell = np.arange(size * size)
    row, column = np.divmod(cell, size)
    table = np.stack(
        [
            np.where(row > 0, cell - size, -1),
            np.where(row < size - 1, cell + size, -1),
            np.where(column > 0, cell - 1, -1),
            np.where(column < size - 1, cell + 1, -1),
        ],
        axis=1,
    ).astype(np.int8)
    table.setflags(write=False)
    return table


def blanks(boards: Boards) -> npt.NDArray[np.int64]:
    """Return the cell of each board's blank, (N,)."""
    return np.asarray(np.argmin(boards, axis=1))


def legal(boards: Boards) -> Mask:
    """Return which moves stay on the board, (N, 4)."""
    return neighbours(size_of(boards))[blanks(boards)] >= 0


def step(boards: Boards, moves: Moves) -> Boards:
    """Play one move (N,) on each board (N, cells) and returns new boards; ValueError if one is illegal."""
    target = neighbours(size_of(boards))[blanks(boards), moves].astype(np.int64)
    if target.size and target.min() < 0:
        raise ValueError("a move takes the blank off the board")
    after = boards.copy()
    slide(after, np.arange(len(boards)), blanks(boards), target)
    return after


def slide(
    boards: Boards,
    rows: npt.NDArray[np.int64],
    blank: npt.NDArray[np.int64],
    target: npt.NDArray[np.int64],
) -> None:
    """Move the blank of the given rows from `blank` to `target`, in place; nothing is checked."""
    boards[rows, blank] = boards[rows, target]
    boards[rows, target] = 0


def solved(boards: Boards) -> Mask:
    """Return which boards are the goal, (N,)."""
    return np.asarray((boards == goal(size_of(boards))).all(axis=1))


def solvable(boards: Boards) -> Mask:
    """Return which boards are permutations that legal moves can bring to the goal, (N,).

    A move keeps the parity of the tiles' inversions plus, on an even side, the blank's row (Johnson and
    Story, American Journal of Mathematics 2, 1879).
    """
    size = size_of(boards)
    permutation = (np.sort(boards, axis=1) == np.arange(size * size)).all(axis=1)
    odd = np.zeros(len(boards), dtype=np.int64)
    for cell in range(size * size):
        here = boards[:, cell : cell + 1]
        later = boards[:, cell + 1 :]
        odd += ((later < here) & (later > 0)).sum(axis=1)
    if size % 2 == 0:
        odd += size - 1 - blanks(boards) // size
    return np.asarray(permutation & (odd % 2 == 0))


def replay(boards: Boards, sequences: Moves) -> tuple[Mask, npt.NDArray[np.int64]]:
    """Play sequences of moves and says which boards they solve; the marking of every exam.

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
    if sequences.ndim != 2 or sequences.dtype.kind != "i" or len(sequences) != len(boards):
        raise ValueError(
            f"sequences must be signed integers of shape ({len(boards)}, T), not {sequences.dtype} {sequences.shape}"
        )
    if sequences.size and (sequences.min() < PAD or sequences.max() >= MOVES):
        raise ValueError("a move is 0, 1, 2 or 3, and -1 pads")
    if not (np.sort(boards, axis=1) == np.arange(boards.shape[1])).all():
        raise ValueError("a board is no permutation of its tiles")
    longest = int(np.flatnonzero((sequences >= 0).any(axis=0)).max(initial=-1)) + 1
    together = max(1, _AT_ONCE // (longest + 1))  # who answers chooses how long
    parts = [
        _played(boards[start : start + together], sequences[start : start + together, :longest])
        for start in range(0, max(1, len(boards)), together)
    ]
    return np.concatenate([solved for solved, _ in parts]), np.concatenate([lengths for _, lengths in parts])


def _played(boards: Boards, sequences: Moves) -> tuple[Mask, npt.NDArray[np.int64]]:
    """Replay what has been looked at; see `replay`. Takes about 40 bytes for each move of each board."""
    table, moves = _onto(size_of(boards)), sequences.T % (MOVES + 1)
    way = np.empty((len(moves) + 1, len(boards)), dtype=np.int64)  # of the blank, which no tile bears on
    way[0] = blanks(boards)
    for t, move in enumerate(moves):
        table.take(way[t] * (MOVES + 1) + move, out=way[t + 1], mode="clip")
    way %= boards.shape[1]
    return _packed(boards, way) if size_of(boards) <= 4 else _laid_out(boards, way)


def _packed(boards: Boards, blank: npt.NDArray[np.int64]) -> tuple[Mask, npt.NDArray[np.int64]]:
    """Move the tiles as `blank` (T + 1, N) goes, all boards in one number each; see `replay`. Up to 4x4."""
    place = blank.astype(np.uint64) << np.uint64(2)
    state = np.empty(blank.shape, dtype=np.uint64)
    state[0] = key(boards)
    for t in range(len(blank) - 1):
        tile = (state[t] >> place[t + 1]) & np.uint64(15)
        np.bitwise_xor(state[t], (tile << place[t]) ^ (tile << place[t + 1]), out=state[t + 1])
    at_goal = state == key(goal(size_of(boards))[None])
    solved = at_goal.any(axis=0)
    return solved, np.where(solved, at_goal.argmax(axis=0), -1)


def _laid_out(boards: Boards, blank: npt.NDArray[np.int64]) -> tuple[Mask, npt.NDArray[np.int64]]:
    """Move the tiles as `blank` (T + 1, N) goes, cell by cell; see `replay`. Any size."""
    lengths, cells, home = np.where(solved(boards), 0, -1), boards.shape[1], goal(size_of(boards))
    board, first = boards.ravel().copy(), np.arange(len(boards)) * cells
    for t in range(len(blank) - 1):
        there, tile = first + blank[t + 1], board[first + blank[t + 1]]
        board[first + blank[t]] = tile
        board[there] = 0
        last = np.flatnonzero((blank[t + 1] == cells - 1) & (lengths < 0))  # only then is it worth a look
        done = last[(board.reshape(-1, cells)[last] == home).all(axis=1)]
        lengths[done] = t + 1
    return lengths >= 0, lengths


@lru_cache
def _onto(size: int) -> npt.NDArray[np.int64]:
    """Return where each of the five moves (the last: -1) leads from a place, flat: (2 * cells * 5,).

    Place `cells + c` is cell c at the end of the sequence, which -1 or a move off the board leads to and nothing away.
    """
    cells = size * size
    ended = cells + np.arange(cells)[:, None]
    table = np.concatenate([np.where(neighbours(size) < 0, ended, neighbours(size)), ended], axis=1)
    return _fixed(np.concatenate([table, np.broadcast_to(ended, table.shape)]).astype(np.int64).ravel())


def key(boards: Boards) -> Keys:
    """Return one number per board, (N,): an exact packing up to 4x4, a 64-bit Zobrist hash for 5x5."""
    size = size_of(boards)
    if size <= 4:
        shifts = np.arange(size * size, dtype=np.uint64) * np.uint64(4)
        return np.asarray(np.bitwise_or.reduce(boards.astype(np.uint64) << shifts, axis=1))
    return np.asarray(np.bitwise_xor.reduce(zobrist(size)[np.arange(size * size), boards], axis=1))


def unpack(keys: Keys, size: int) -> Boards:
    """Return the boards (N, cells) of exact keys (N,); sizes 3 and 4 only."""
    if size > 4:
        raise ValueError("only boards up to 4x4 have exact keys")
    shifts = np.arange(size * size, dtype=np.uint64) * np.uint64(4)
    return ((keys[:, None] >> shifts) & np.uint64(15)).astype(np.uint8)


@lru_cache
def zobrist(size: int) -> Keys:
    """Return the random numbers of a Zobrist hash, (cells, tiles); the blank's are 0 (Zobrist, 1970).

    The hash is the xor over cells of `[cell, tile]`; sliding one tile changes it by two numbers.
    """
    cells = size * size
    table = mix(np.arange(1, cells * cells + 1, dtype=np.uint64)).reshape(cells, cells)
    table[:, 0] = 0
    table.setflags(write=False)
    return table


def mix(numbers: Keys) -> Keys:
    """Scramble 64-bit numbers one to one (the finaliser of SplitMix64; Steele, Lea and Flood, 2014)."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def manhattan(boards: Boards) -> npt.NDArray[np.int64]:
    """Return the sum over tiles of the distance to their cell in the goal, (N,); at most the optimum."""
    size = size_of(boards)
    return np.asarray(_distances(size)[np.arange(size * size), boards].sum(axis=1))


@lru_cache
def _distances(size: int) -> npt.NDArray[np.int64]:
    """Return how far each tile is from its place, by [cell, tile]; the blank's are 0."""
    cell = np.arange(size * size)
    home = (cell - 1) % (size * size)
    distance = abs(cell[:, None] // size - home // size) + abs(cell[:, None] % size - home % size)
    distance[:, 0] = 0
    return _fixed(distance)


def reflect(boards: Boards) -> Boards:
    """Return the boards (N, cells) mirrored on the main diagonal, tiles renamed so that the goal stays."""
    turn, rename = _mirror(size_of(boards))
    return rename[boards[:, turn]]


@lru_cache
def _mirror(size: int) -> tuple[npt.NDArray[np.int64], Boards]:
    """Return the cell that comes to each cell when the board is mirrored, and the new name of each tile."""
    turn = np.arange(size * size).reshape(size, size).T.ravel()
    return _fixed(turn), _fixed(np.concatenate([[0], turn[:-1] + 1]).astype(np.uint8))


def reflect_moves(moves: Moves) -> Moves:
    """Return the moves that do on reflected boards what `moves` do (up <-> left, down <-> right)."""
    return np.where(moves < 0, moves, moves ^ 2).astype(np.int8)


def held_out(boards: Boards) -> Mask:
    """Return which states (N,) are kept for exams: questions come from them alone, training never sees them.

    A fixed, public, pseudo-random partition. A state and its reflection fall on the same side, so that
    augmenting by the symmetry leaks nothing. From Manhattan distance BOTTLENECK on it takes one state in
    HELD_OUT_SHARE. Closer, a state that training must not show would stand in the way of a large share of all
    solutions; there only states with the blank in a corner are taken, every second one: a player that does not
    undo its last move crosses a corner without a choice. Published instances are held out as well.
    """
    size = size_of(boards)
    code, mirrored = np.zeros((2, len(boards)), dtype=np.uint64)
    distance = np.zeros(len(boards), dtype=np.int64)
    for cell, (codes, mirrors, distances) in enumerate(zip(*_tables(size), strict=True)):
        tile = boards[:, cell].astype(np.intp)
        code ^= codes[tile]
        mirrored ^= mirrors[tile]
        distance += distances[tile]
    least = np.minimum(code, mirrored)
    drawn = mix(least ^ mix(np.full(1, _HELD_OUT_SALT, dtype=np.uint64)))
    held = drawn % np.uint64(HELD_OUT_SHARE) == 0
    near = np.flatnonzero(distance < BOTTLENECK)
    corner = (boards[near][:, [0, size - 1, size * size - size, size * size - 1]] == 0).any(axis=1)
    held[near] = corner & (distance[near] > 0) & (drawn[near] % np.uint64(2) == 0)
    return np.asarray(held | np.isin(least, _published_keys()) if size == 4 else held)


@lru_cache
def _tables(size: int) -> tuple[Keys, Keys, npt.NDArray[np.int64]]:
    """Return by [cell, tile] what it adds to `key` of a board, to `key` of its reflection, and to `manhattan`."""
    cells = np.arange(size * size, dtype=np.uint64)
    # Bits that don't overlap: to add them up and to xor them is the same.
    codes = zobrist(size) if size > 4 else cells << (cells[:, None] * np.uint64(4))
    turn, rename = _mirror(size)
    return _fixed(codes), _fixed(codes[turn][:, rename]), _distances(size)


def _fixed(array: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Return the array, which from now on nobody can write to."""
    array.setflags(write=False)
    return array


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
    return np.sort(np.minimum(key(boards), key(reflect(boards))))


def uniform(size: int, n: int, rng: np.random.Generator) -> Boards:
    """Return n boards drawn uniformly from all solvable ones, (n, cells)."""
    boards = rng.permuted(np.tile(goal(size), (n, 1)), axis=1)
    odd = np.flatnonzero(~solvable(boards))
    # Exchanging two tiles changes the parity and maps the unsolvable boards one to one on the solvable.
    one, two = np.argmax(boards[odd] == 1, axis=1), np.argmax(boards[odd] == 2, axis=1)
    boards[odd, one], boards[odd, two] = 2, 1
    return boards


def scramble(size: int, depths: npt.NDArray[np.integer], rng: np.random.Generator) -> Boards:
    """Return boards (N, cells) after random walks of `depths` moves (N,) that never undo their last move."""
    boards = np.tile(goal(size), (len(depths), 1))
    order = np.argsort(-np.asarray(depths), kind="stable")
    walk = boards.copy()
    blank = np.full(len(depths), size * size - 1)
    last = np.full(len(depths), NO_MOVE)
    longest_first = np.asarray(depths)[order]
    for t in range(int(longest_first[0]) if len(depths) else 0):
        active = int(np.searchsorted(-longest_first, -t, side="left"))
        _walk(size, walk[:active], blank[:active], last[:active], rng)
    boards[order] = walk
    return boards


def walks(size: int, n: int, depth: int, rng: np.random.Generator) -> tuple[Boards, Moves]:
    """Make training pairs from n random walks of `depth` moves that start at the goal and never turn back.

    Every state on a walk is labelled with the inverse of the move that led to it (EfficientCube; Takano,
    arXiv:2106.03157).

    Returns:
        boards (depth * n, cells) and moves (depth * n,), all states after one move first.
    """
    cells = size * size
    boards = np.empty((depth, n, cells), dtype=np.uint8)
    moves = np.empty((depth, n), dtype=np.int8)
    walk, blank, last = np.tile(goal(size), (n, 1)), np.full(n, cells - 1), np.full(n, NO_MOVE)
    for t in range(depth):
        _walk(size, walk, blank, last, rng)
        boards[t], moves[t] = walk, last ^ 1
    return boards.reshape(-1, cells), moves.reshape(-1)


def _walk(
    size: int,
    boards: Boards,
    blank: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    """Play one random move on each board that does not undo its last; updates all three in place."""
    options, count = _onward(size)
    draw = (rng.random(len(boards), dtype=np.float32) * count[blank, last]).astype(np.int64)
    move = options[blank, last, draw]
    target = neighbours(size)[blank, move].astype(np.int64)
    slide(boards, np.arange(len(boards)), blank, target)
    blank[:], last[:] = target, move


@lru_cache
def _onward(size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the moves from (blank, last move) that stay on the board and do not turn back, and how many."""
    cells = size * size
    options, count = np.zeros((cells, MOVES + 1, MOVES), np.int64), np.zeros((cells, MOVES + 1), np.int64)
    for cell in range(cells):
        for last in range(MOVES + 1):
            onward = [m for m in range(MOVES) if neighbours(size)[cell, m] >= 0 and m != last ^ 1]
            options[cell, last, : len(onward)], count[cell, last] = onward, len(onward)
    return options, count


def parse(text: str) -> Boards:
    """Read one board, (cells,), from text such as "1 2 3 4 5 6 7 0 8"; commas may separate too.

    Raises:
        ValueError: it is no solvable board of 9, 16 or 25 cells.
    """
    words = text.replace(",", " ").split()
    if len(words) not in (9, 16, 25):
        raise ValueError(f"a board has 9, 16 or 25 numbers, row by row, 0 for the blank; got {len(words)}")
    if not all(word.isdecimal() and word.isascii() and len(word) <= 2 for word in words):
        raise ValueError(f"a board is made of whole numbers; got {text.strip()!r}")
    board = np.array([int(word) for word in words], dtype=np.uint8)
    if sorted(board.tolist()) != list(range(len(words))):
        raise ValueError(f"a board holds each number from 0 to {len(words) - 1} once; got {text.strip()!r}")
    if not solvable(board[None])[0]:
        raise ValueError(f"no moves lead from {text.strip()!r} to the goal (wrong parity)")
    return board


def format_board(board: Boards) -> str:
    """Write one board (cells,) as `parse` reads it."""
    return " ".join(str(tile) for tile in board.tolist())
