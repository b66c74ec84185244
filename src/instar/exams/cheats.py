"""Planted cheats that need no knowledge of the lab: made of questions and of answers of the right form.

Two promises are tested. What carries nothing of the question (constants, answers in another order, answers to another
question set, the question itself) must be refused or score as chance does. What merely bends the form (a wrong type, a
missing row, an extra array) must be refused or gain nothing over the same answers unbent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from instar.contracts.exam import Arrays, QuestionSet

Array = npt.NDArray[Any]

_SHORT = 2**18  # numbers


class Promise(Enum):
    """What an exam owes a cheat."""

    WORTHLESS = "no better than chance"
    NO_GAIN = "no better than the same answers unbent"


@dataclass(frozen=True)
class Cheat:
    """Answers that no honest model gave, and what they may score at the most."""

    name: str
    promise: Promise
    answers: Arrays


def planted(
    question_set: QuestionSet, answers: Arrays, other: Arrays | None, rng: np.random.Generator
) -> Iterator[Cheat]:
    """Yield every generic cheat.

    Args:
        question_set: the questions that the cheats are marked against.
        answers: answers of the right form to it, by the founder or known to be good.
        other: answers of the right form to another question set (replayed), or None where there are none.
        rng: for the shuffling.
    """
    yield Cheat("no answers at all", Promise.WORTHLESS, {})
    yield from _uninformed(answers, rng)
    if other is not None:
        yield Cheat("answers to another question set", Promise.WORTHLESS, other)
    yield from _echoes(question_set, answers)
    yield from _bent(answers)


def _uninformed(answers: Arrays, rng: np.random.Generator) -> Iterator[Cheat]:
    """Yield answers that carry nothing of the question."""
    rows = _rows(answers)
    every = {name: np.asarray(array) for name, array in answers.items()}
    for shown, value in (("0", 0), ("1", 1)):
        yield Cheat(f"nothing but {shown}", Promise.WORTHLESS, {n: np.full_like(a, value) for n, a in every.items()})
    for shown in ("lowest", "highest"):
        full = {n: np.full_like(a, _extreme(a.dtype, shown)) for n, a in every.items()}
        yield Cheat(f"nothing but the {shown} number", Promise.WORTHLESS, full)
    if rows > 1:
        commonest = {n: np.broadcast_to(_commonest(a), a.shape) for n, a in every.items()}
        yield Cheat("the commonest answer to every question", Promise.WORTHLESS, commonest)
        order = np.roll(rng.permutation(rows), 1)
        yield Cheat("answers shuffled among the questions", Promise.WORTHLESS, {n: a[order] for n, a in every.items()})


def _echoes(question_set: QuestionSet, answers: Arrays) -> Iterator[Cheat]:
    """Yield the questions handed back, as they are and forced into the form of the answers."""
    yield Cheat("the questions handed back", Promise.WORTHLESS, dict(question_set.questions))
    for asked, question in question_set.questions.items():
        echo = {name: _forced(np.asarray(question), np.asarray(array)) for name, array in answers.items()}
        if all(array is not None for array in echo.values()):
            found = {name: array for name, array in echo.items() if array is not None}
            yield Cheat(f"the question '{asked}' in the form of an answer", Promise.WORTHLESS, found)


def _bent(answers: Arrays) -> Iterator[Cheat]:
    """Yield the given answers with their form bent: types, axes, rows, numbers, company."""
    every = {name: np.asarray(array) for name, array in answers.items()}
    gain = Promise.NO_GAIN
    extra = {"score": np.ones(1), "metric": np.ones(1), "values": np.ones(_rows(answers)), "solved": np.ones(1, bool)}
    yield Cheat("arrays that claim a score", gain, every | extra)
    yield Cheat("other names", gain, {f"x{name}": array for name, array in every.items()})
    many = {n: np.broadcast_to(a[:1], (1000 * len(a), *a.shape[1:])) for n, a in every.items() if a.ndim and len(a)}
    yield Cheat("a thousand times too many rows", gain, many)
    for name, array in every.items():
        for what, other in _misshapen(array):
            yield Cheat(f"'{name}' {what}", gain, every | {name: other})
        yield Cheat(f"'{name}' missing", gain, {kept: held for kept, held in every.items() if kept != name})


def _misshapen(array: Array) -> Iterator[tuple[str, Array]]:
    yield "without an axis", np.zeros((), array.dtype)
    yield "without rows", array[:0]
    yield "short of a row", array[:-1]
    yield "with a row too many", np.concatenate([array, array[-1:]])
    yield "flat", np.concatenate([array.ravel()] * (1 if array.ndim > 1 else 2))
    yield "with an axis more", array[..., None]
    text = array.astype("U32") if array.size <= _SHORT else np.zeros(array.shape, "U1")  # the former takes seconds
    yield "as text", text
    yield "as complex numbers", array.astype(np.complex128)
    yield "as bytes of another type", array.astype(np.float64 if array.dtype.kind != "f" else np.int64)
    for number in (np.nan, np.inf, -np.inf, 1e30):
        kind = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
        with np.errstate(over="ignore"):
            yield f"full of {number}", np.full(array.shape, number, kind)


def _rows(answers: Arrays) -> int:
    return min((len(array) for array in answers.values() if np.ndim(array)), default=0)


def _extreme(kind: np.dtype[Any], which: str) -> Any:
    if kind.kind == "b":
        return which == "highest"
    limits = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind)
    return limits.min if which == "lowest" else limits.max


def _commonest(array: Array) -> Array:
    """Return the row that occurs most often, byte by byte; of several such, the first."""
    if not array.ndim or not len(array):
        return array
    rows = [row.tobytes() for row in array]
    return np.asarray(array[rows.index(Counter(rows).most_common(1)[0][0])])


def _forced(question: Array, like: Array) -> Array | None:
    """Return a question cut and cast to the form of an answer, or None where its rows are others."""
    if not question.ndim or not like.ndim or len(question) != len(like) or not question.size:
        return None
    flat = question.reshape(len(question), -1)
    width = int(np.prod(like.shape[1:]))
    with np.errstate(invalid="ignore", over="ignore"):
        return np.resize(flat.T, (width, len(question))).T.astype(like.dtype).reshape(like.shape)
