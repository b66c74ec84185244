"""What a marker checks in every answer before it believes a number: form, normalisation, causality, length in bytes.

Pure functions on untrusted arrays, for the markers of labs (which may not see the rest of `exams`): each raises
`ArtefactError`, with one line, or returns numbers that the marker has made itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from instar.contracts.errors import ArtefactError
from instar.contracts.records import Floats
from instar.contracts.text import printable
from instar.executors.artefacts import finite

Array = npt.NDArray[Any]
Tokens = npt.NDArray[np.int64]
"""Token numbers, (N, T)."""

_LARGEST = 2**28  # numbers in one array: a marker's copy of it must fit in memory


@dataclass(frozen=True)
class Form:
    """What one array of the answers must be.

    Attributes:
        kind: numpy's name of the type, such as "int8".
        shape: side lengths; None where any is right.
        low, high: the least and the largest number; None without a bound.
        most: the largest length of a side that `shape` leaves open.
    """

    kind: str
    shape: tuple[int | None, ...]
    low: float | None = None
    high: float | None = None
    most: int = 2**20

    def __str__(self) -> str:
        sides = ", ".join("any" if side is None else str(side) for side in self.shape)
        return f"{self.kind} of shape ({sides})"


def formed(answers: Mapping[str, Array], forms: Mapping[str, Form]) -> dict[str, Array]:
    """Return the answers, which are exactly the arrays wanted: type, shape, finite numbers, range.

    Raises:
        ArtefactError: one is missing, is out of form, or stands there unasked.
    """
    for name in answers:
        if name not in forms:
            raise ArtefactError(f"answers: '{printable(name, 60)}' was not asked for")
    return {name: _formed(name, answers.get(name), form) for name, form in forms.items()}


def _formed(name: str, array: Array | None, form: Form) -> Array:
    if array is None:
        raise ArtefactError(f"answers: '{name}' is missing")
    open_ = [side for side, wanted in zip(array.shape, form.shape, strict=False) if wanted is None]
    fits = len(array.shape) == len(form.shape) and all(
        wanted in (None, side) for side, wanted in zip(array.shape, form.shape, strict=True)
    )
    if array.dtype.name != form.kind or not fits or max(open_, default=0) > form.most or array.size > _LARGEST:
        raise ArtefactError(f"answers: '{name}' must be {form}, not {array.dtype.name} {list(array.shape)}")
    if array.dtype.kind == "f" and not finite(array):
        raise ArtefactError(f"answers: '{name}' holds NaN or infinity")
    if array.size and form.low is not None and array.min() < form.low:
        raise ArtefactError(f"answers: '{name}' holds {array.min()}, {form.low} is the least")
    if array.size and form.high is not None and array.max() > form.high:
        raise ArtefactError(f"answers: '{name}' holds {array.max()}, {form.high} is the largest")
    return array


# --- probabilities --------------------------------------------------------------------------------------------------


def log_probabilities(logits: Array) -> Floats:
    """Return the log-softmax over the last axis, (..., V), in double precision.

    The marker normalises: whatever a candidate hands over, its probabilities sum to 1. (Published scores have rested
    on ones that summed to 277.)

    Raises:
        ArtefactError: not real numbers, not finite, or fewer than two classes.
    """
    if logits.dtype.kind != "f" or logits.ndim < 1 or logits.shape[-1] < 2 or logits.size > _LARGEST:
        raise ArtefactError(f"answers: logits must be real, (..., classes), not {logits.dtype} {list(logits.shape)}")
    if not finite(logits):
        raise ArtefactError("answers: logits hold NaN or infinity")
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def byte_count(texts: Sequence[str]) -> int:
    """Return the length in bytes (UTF-8) of the marker's own texts, whatever tokens a candidate made of them."""
    return sum(len(text.encode()) for text in texts)


def bits_per_byte(nats: float, texts: Sequence[str]) -> float:
    """Return a summed negative log-likelihood in bits per byte of the marker's own texts; ValueError without any."""
    count = byte_count(texts)
    if not count:
        raise ValueError("no text, so no bits per byte")
    return nats / float(np.log(2.0)) / count


# --- causality ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Twins:
    """Sequences of which two each share a beginning: what a model says about it must not depend on what follows.

    Attributes:
        tokens: (2N, T) the questions, in an order that shows no pair.
        first, second: (N,) rows of the pairs.
        cut: (N,) how many tokens a pair shares, 1..T-1.
    """

    tokens: Tokens
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    cut: npt.NDArray[np.int64]


def twins(tokens: Tokens, vocabulary: int, rng: np.random.Generator) -> Twins:
    """Give every sequence (N, T) a twin with the same beginning and another end, from a random place on.

    From the cut on every token differs (suffix perturbation). Raises ValueError where there is nothing to change.
    """
    count, length = tokens.shape
    if vocabulary < 2 or length < 2 or not count:
        raise ValueError("twins need two tokens in the vocabulary and in every sequence")
    cut = rng.integers(1, length, (count,))
    shift = rng.integers(1, vocabulary, tokens.shape)
    changed = np.where(np.arange(length) >= cut[:, None], (tokens + shift) % vocabulary, tokens)
    order = rng.permutation(2 * count)
    place = np.empty(2 * count, dtype=np.int64)
    place[order] = np.arange(2 * count)
    both = np.concatenate([tokens, changed])[order]
    return Twins(both, place[:count], place[count:], cut)


def causal(pairs: Twins, given: Array, tolerance: float = 1e-3) -> None:
    """Hold a model's answers to paired questions against causality.

    The answer at place t may depend on the tokens up to t alone, so twins must be answered alike before their cut.
    What it can't see: a model that recognises the pair among its questions and answers from memory. Set the twins in
    different question sets where that is to be feared.

    Args:
        pairs: from `twins`.
        given: (2N, T, ...) one answer per token: `log_probabilities` of the logits, since a difference that matters
            there could hide among raw logits that are all huge.
        tolerance: largest difference; rounding in other batches stays below it in float32, bfloat16 wants 0.05.

    Raises:
        ArtefactError: out of form, or an answer depends on what comes later.
    """
    if given.dtype.kind not in "iuf" or given.shape[:2] != pairs.tokens.shape or given.size > _LARGEST:
        raise ArtefactError(f"answers: one per token is wanted, not {given.dtype} {list(given.shape)}")
    if given.dtype.kind == "f" and not finite(given):
        raise ArtefactError("answers: NaN or infinity")
    pair, place = np.nonzero(np.arange(given.shape[1]) < pairs.cut[:, None])  # of all that twins must answer alike
    one, other = (given[rows[pair], place].astype(np.float64) for rows in (pairs.first, pairs.second))
    apart = np.abs(one - other).reshape(len(pair), math.prod(given.shape[2:])).max(axis=1, initial=0.0)
    leaks = np.unique(pair[apart > tolerance])
    if leaks.size:
        raise ArtefactError(
            f"answers: {leaks.size} of {len(pairs.cut)} paired questions are answered by looking at later tokens"
        )
