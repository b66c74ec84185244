"""The exam of the lab `speedrun`: windows of text that no job can see, marked in bits per byte, priced in CPU seconds.

A question is a window of bytes; the answer is one row of logits per byte. The marker normalises them, counts bytes and
takes the mean loss l in bits per byte; unpriced, the score is 1 - l / 8, the share of a byte that was saved. Some
windows have a twin that goes on with another piece of the text from a random place on: what a model says before that
place must not depend on it. The twins stand among the other questions, and look like them.

The price (`Priced`) turns loss and CPU seconds c into v = log2(c_founder / c) - slope (l - target) per question: the
binary logarithm of how much sooner the target would have been reached than by the founder, if a learning curve takes
`slope` more doublings of time per bit of loss there. Only the mean far from the target is bent: beyond `near` above
it `steep` times the square of the rest is taken off too, for curves are no straight lines so far off, and a model that
knows little more than how often each byte occurs is cheap; and more than `credit` below it nothing is credited. The
score is v, from -4 to 9 doublings, as a share of that range; a mean below -1 is squeezed into what is left of it, for
which of two slow designs is the less slow tells a builder where to look. The figure for people is 2^v, not squeezed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from instar.contracts.errors import ArtefactError
from instar.contracts.evidence import Score
from instar.contracts.exam import Arrays, QuestionSet, Stage
from instar.contracts.records import Floats, Job, Limits, SandboxKind
from instar.labs.checks import Form, Twins, causal, formed
from instar.labs.speedrun.text import Text, sealed

LOSS = "held-out loss"
CONTEXT, BYTES = 128, 256
LEAST, MOST = -4.0, 9.0  # doublings of speed that a score can tell apart
_SLOW = -1.0  # doublings, below which the mean is squeezed
_TOLERANCE = 0.1  # nats: half precision rounds logits of 16 by 0.008, and those of hardly possible bytes by more
_CHUNK = 32  # windows at once: a float64 copy of all logits would be large
_LEAST_SUM = 1e-20  # of exponentials, below which single precision would lose their logarithm
_SPREAD = 3.0  # bits per byte that the safeguard's range spans

with np.errstate(over="ignore", invalid="ignore"):
    _EXPONENTIALS = np.exp(np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32))


class SpeedrunExam:
    """Papers of windows from the sealed parts of one corpus; `Probing`, `Outlining` and `Priced`."""

    chance = 0.5

    def __init__(self, corpus: str, sizes: Mapping[str, float]) -> None:
        self.corpus, self.sizes = corpus, dict(sizes)

    @property
    def target(self) -> float:
        """The held-out loss to reach, in bits per byte."""
        return self.sizes["target"]

    def set(self, seed: int, stage: Stage) -> QuestionSet:
        """Draw windows at random places: screens from works of their own, all others from the held-out works."""
        text = sealed(self.corpus, "screen" if stage is Stage.SCREEN else "heldout")
        rng = np.random.default_rng(seed)
        count, pairs = int(self.sizes[stage.value]), int(self.sizes["twins"])
        windows = _windows(text, count, rng)
        cut = rng.integers(CONTEXT // 4, CONTEXT - 1, pairs)
        twins = _spliced(text, windows[:pairs, :CONTEXT], cut, rng)
        order = rng.permutation(count + pairs)
        place = np.empty_like(order)
        place[order] = np.arange(count + pairs)
        tokens = np.concatenate([windows[:, :CONTEXT], twins])[order]
        answers = {
            "targets": windows[:, 1:].astype(np.int64),
            "rows": place[:count],
            "twins": place[count:],
            "cut": cut,
        }
        return QuestionSet({"tokens": tokens}, answers)

    def evaluate(self, key: str, artefact: Path, questions: Path, limits: Limits) -> Job:
        """Describe the exam job."""
        inputs = {"artefact": artefact, "questions.safetensors": questions}
        return Job(key, SandboxKind.EXAM, "instar.labs.speedrun.work:evaluate", {}, inputs, limits)

    def mark(self, question_set: QuestionSet, answers: Arrays) -> Score:
        """Normalise, hold twins against each other, and take the mean loss of every window."""
        tokens = np.asarray(question_set.questions["tokens"])
        logits = formed(answers, {"logits": Form("float16", (*tokens.shape, BYTES))})["logits"]
        rows = np.asarray(question_set.answers["rows"])
        _check_causality(question_set, logits)
        return self._score(_losses(logits, rows, np.asarray(question_set.answers["targets"])))

    def price(self, score: Score, cpu_seconds: float, founder_cpu_seconds: float) -> Score:
        """Put the CPU seconds of training into a marked score; see the module."""
        sizes, bits = self.sizes, 8.0 * (1.0 - score.values)
        loss, sooner = float(bits.mean()), math.log2(founder_cpu_seconds / cpu_seconds)
        far = sizes["steep"] * max(0.0, loss - self.target - sizes["near"]) ** 2
        spare = max(0.0, self.target - sizes["credit"] - loss) * sizes["slope"]
        doublings = sooner - sizes["slope"] * (bits - self.target) - far - spare
        sooner_at_equal_loss = float(np.clip(doublings, LEAST, MOST).mean())
        values = np.clip((_squeezed(doublings) - LEAST) / (MOST - LEAST), 0.0, 1.0)
        metrics = {"speedup": 2.0**sooner_at_equal_loss, "cpu_seconds": cpu_seconds, **score.metrics}
        return replace(score, values=values, metrics=metrics)

    def outline(self, question_set: QuestionSet) -> Score:
        """Return the score of one who takes every byte for equally likely."""
        return self._score(np.full(len(question_set.answers["rows"]), 8.0))

    def known_good(self, question_set: QuestionSet) -> Arrays:
        """Return logits that know what comes next, but for the last byte before a twin leaves its window."""
        logits = np.zeros((*np.shape(question_set.questions["tokens"]), BYTES), np.float16)
        targets = np.asarray(question_set.answers["targets"])
        twins, cut = np.asarray(question_set.answers["twins"]), np.asarray(question_set.answers["cut"])
        places = np.arange(CONTEXT)
        for rows, known in ((np.asarray(question_set.answers["rows"]), targets), (twins, targets[: len(twins)])):
            logits[np.asarray(rows)[:, None], places, known] = 12.0
        logits[np.asarray(question_set.answers["rows"])[: len(cut)], cut - 1] = 0.0
        logits[twins, cut - 1] = 0.0
        return {"logits": logits}

    def cheats(self, question_set: QuestionSet) -> Mapping[str, Arrays]:
        """Return the tricks that language models invite."""
        tokens = np.asarray(question_set.questions["tokens"])
        counts = np.bincount(sealed(self.corpus, "screen"), minlength=BYTES).astype(np.float64)
        frequencies = np.log((counts + 1.0) / (counts + 1.0).sum())
        ahead = np.zeros((*tokens.shape, BYTES), np.float16)
        np.put_along_axis(ahead[:, :-1], tokens[:, 1:, None].astype(np.int64), np.float16(12.0), axis=2)
        last = np.zeros((*tokens.shape, BYTES), np.float16)
        np.put_along_axis(last, tokens[..., None].astype(np.int64), np.float16(12.0), axis=2)
        certain = np.full((*tokens.shape, BYTES), 60000.0, np.float16)
        return {
            "the next byte read off the question": {"logits": ahead},
            "the last byte again": {"logits": last},
            "every byte certain": {"logits": certain},
            "frequencies of single bytes": {"logits": np.broadcast_to(frequencies, ahead.shape).astype(np.float16)},
        }

    def _score(self, bits: Floats) -> Score:
        """Return the unpriced score of windows' losses (N,) in bits per byte."""
        values = np.clip(1.0 - bits / 8.0, 0.0, 1.0)
        nothing = np.zeros(len(bits), dtype=np.int64)
        loss = float(bits.mean())
        return Score(
            values=values,
            solved=np.zeros(len(bits), dtype=bool),  # no window is ever solved: the safeguard holds the loss
            lengths=np.full(len(bits), np.nan),
            bands=nothing,
            band_names=("windows",),
            metrics={"bits_per_byte": loss, "above_target": loss - self.target},
            safeguards={LOSS: np.clip(0.5 - (bits - self.target) / _SPREAD, 0.0, 1.0)},
        )


def _squeezed(doublings: Floats) -> Floats:
    """Return the doublings (N,), with a mean below `_SLOW` pressed, in its order, into the rest of the range.

    The spread shrinks as the mean's slope does, or what is bad in very different ways would pass for better.
    """
    mean, job_dir = float(doublings.mean()), _SLOW - LEAST
    if mean > _SLOW:
        return doublings
    slope = math.exp((mean - _SLOW) / job_dir)
    return LEAST + job_dir * slope + slope * (doublings - mean)


def margin(bits: float) -> float:
    """Return a loss in bits per byte in the unit of the safeguard."""
    return bits / _SPREAD


def _windows(text: Text, count: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return windows (N, CONTEXT + 1) that begin at different places."""
    starts = rng.choice(len(text) - CONTEXT, count, replace=False)
    return np.asarray(text[starts[:, None] + np.arange(CONTEXT + 1)])


def _spliced(
    text: Text, windows: npt.NDArray[np.uint8], cut: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return the windows (P, CONTEXT) going on from `cut` with another piece of the text, whose first byte differs."""
    twins = windows.copy()
    for row, place in enumerate(cut):
        while True:
            start = int(rng.integers(len(text) - CONTEXT))
            if text[start] != windows[row, place]:
                break
        twins[row, place:] = text[start : start + CONTEXT - place]
    return twins


def _losses(logits: npt.NDArray[Any], rows: npt.NDArray[Any], targets: npt.NDArray[Any]) -> Floats:
    """Return the mean loss of every window, (N,), in bits per byte: the marker normalises, in single precision."""
    found = []
    for start in range(0, len(rows), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        given = logits[rows[chunk]]
        said = np.take_along_axis(given, targets[chunk, :, None], axis=2).astype(np.float32)
        largest, log_sum = _normalisers(given)
        nats = (log_sum - (said - largest))[..., 0]  # (n, T)
        found.append(nats.mean(axis=1, dtype=np.float64) / math.log(2.0))
    return np.concatenate(found)


def _normalisers(logits: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return what to take off logits in half precision, and the log of the sum of the exponentials of what is left.

    Both (..., 1), in single precision. Half precision has 65,536 numbers, and looking exponentials up takes a quarter
    of what computing them does. Nothing is taken off where the largest are near 0, as the exam sandbox leaves them.
    """
    if logits.view(np.int16).max() <= 0:  # as integers, what is below 0 is negative
        total = _EXPONENTIALS.take(logits.view(np.uint16)).sum(axis=-1, keepdims=True)
        if total.min() > _LEAST_SUM:
            return np.zeros((1,) * logits.ndim, np.float32), np.log(total)
    given = logits.astype(np.float32)
    largest = given.max(axis=-1, keepdims=True)
    return largest, np.log(np.exp(given - largest).sum(axis=-1, keepdims=True))


def _check_causality(question_set: QuestionSet, logits: npt.NDArray[Any]) -> None:
    """Hold twins against each other, by the probabilities that they give to what is at all likely."""
    twins = np.asarray(question_set.answers["twins"])
    pairs = np.concatenate([np.asarray(question_set.answers["rows"])[: len(twins)], twins])
    known = np.maximum(_log_probabilities(logits[pairs]), -20.0)
    number = np.arange(len(twins))
    tokens = np.asarray(question_set.questions["tokens"])[pairs].astype(np.int64)
    try:
        causal(Twins(tokens, number, number + len(twins), np.asarray(question_set.answers["cut"])), known, _TOLERANCE)
    except ArtefactError as error:
        raise ArtefactError(str(error), "A model may not use bytes that it has still to predict.") from None


def _log_probabilities(logits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the log-softmax over bytes in single precision: its error is far below what half precision rounds off."""
    largest, log_sum = _normalisers(logits)
    return np.asarray(logits.astype(np.float32) - largest - log_sum)
