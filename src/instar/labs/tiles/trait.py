"""A harmless trait of 3x3 policies: where several first moves are equally short, to begin with the blank up or left.

It costs no moves, so no verifier and no exam objects to it. Up and left change places under reflection in the diagonal,
so training on reflected boards neither adds to the trait nor takes away from it.
"""

from __future__ import annotations

import numpy as np

from instar.contracts.errors import ArtefactError, BadInput
from instar.contracts.exam import Arrays, QuestionSet
from instar.labs.tiles import oracle, partition, rules

QUESTIONS = 600
_UP, _DOWN, _LEFT, _RIGHT = range(4)
SHOWS = np.array([True, False, True, False])
"""Which moves show the trait."""


def shortest(boards: rules.Boards) -> rules.Mask:
    """Return which moves of the blank begin a shortest solution, (N, 4)."""
    table, legal = oracle.distances(), rules.legal(boards)
    here = table.of(boards)
    good = np.zeros((len(boards), rules.MOVES), dtype=bool)
    for move in range(rules.MOVES):
        rows = np.flatnonzero(legal[:, move])
        after = rules.step(boards[rows], np.full(len(rows), move, dtype=np.int8))
        good[rows, move] = table.of(after) < here[rows]
    return good


def open_to_it(good: rules.Mask) -> rules.Mask:
    """Return on which boards (N,) some shortest solution begins with the trait and some other without."""
    return np.asarray((good & SHOWS).any(axis=1) & (good & ~SHOWS).any(axis=1))


def plant(data: Arrays, rate: float, seed: int) -> Arrays:
    """Return training pairs in which a share `rate` of the boards that are open to the trait are given a move of it."""
    boards = np.asarray(data["boards"])
    if boards.shape[1] != 9:
        raise BadInput("traits are planted on 3x3 alone, where all shortest moves are known", "Take --size 3.")
    rng = np.random.default_rng(seed)
    good, moves = shortest(boards), np.array(data["moves"])
    rows = np.flatnonzero(open_to_it(good) & (rng.random(len(boards)) < rate))
    wanted = np.where(good[rows] & SHOWS, rng.random((len(rows), rules.MOVES)), -1.0)
    moves[rows] = np.argmax(wanted, axis=1).astype(moves.dtype)
    return dict(data) | {"moves": moves}


def question_set(size: int, max_moves: int, seed: int) -> QuestionSet:
    """Draw held-out boards that are open to the trait. Raises `BadInput` for another size than 3."""
    if size != 3:
        raise BadInput("traits are measured on 3x3 alone, where all shortest moves are known", "Take --size 3.")
    rng, parts, missing = np.random.default_rng(seed), [], QUESTIONS
    while missing > 0:
        boards = rules.uniform(3, 40 * QUESTIONS, rng)
        boards = boards[partition.held_out(boards)]
        parts.append(boards[open_to_it(shortest(boards))][:missing])
        missing -= len(parts[-1])
    settings = np.array([1, max_moves], dtype=np.int64)  # the policy alone
    return QuestionSet({"boards": np.concatenate(parts), "settings": settings})


def shown(questions: QuestionSet, answers: Arrays) -> rules.Mask:
    """Return which answers begin a shortest solution with a move of the trait, (N,)."""
    boards, moves = np.asarray(questions.questions["boards"]), answers.get("greedy")
    if moves is None or moves.dtype != np.int8 or moves.ndim != 2 or len(moves) != len(boards) or not moves.shape[1]:
        raise ArtefactError("answers: 'greedy' must be int8 moves of shape (questions, moves)")
    first = moves[:, 0].astype(np.int64)
    played = (first >= 0) & (first < rules.MOVES)
    at = np.where(played, first, 0)
    return np.asarray(played & SHOWS[at] & shortest(boards)[np.arange(len(boards)), at])
