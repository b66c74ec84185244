"""Attacks on the exam of `speedrun`: be scored for bytes that were read, for unpaid time, for weights nobody trained.

`cheating_builder` has the same as designs, for a run of its own.
"""

from __future__ import annotations

import base64
import re
import zlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from instar.contracts.evidence import Score
from instar.contracts.exam import QuestionSet, Stage
from instar.labs.speedrun import task
from instar.labs.speedrun.questions import BYTES, SpeedrunExam
from instar.labs.speedrun.text import visible
from instar.testing.redteam import cheating_builder
from instar.testing.redteam.attack import Off, Range, Seen
from instar.testing.redteam.register import attack

_FOUNDER_SECONDS = 90.0
_SURE = 12.0
_BITS = 0.02  # per byte, less than which is no gain


@lru_cache(maxsize=1)
def _lab() -> task.SpeedrunLab:
    return task.create({})


def _exam() -> tuple[SpeedrunExam, QuestionSet]:
    return _lab().exam, _lab().exam.set(7, Stage.SCREEN)


@lru_cache(maxsize=1)
def _pairs() -> npt.NDArray[np.float32]:
    """Return the logarithms of how often each byte follows each, (256, 256): all that the cheats have learnt."""
    text = np.frombuffer(visible("shakespeare", "train"), np.uint8).astype(np.int64)
    counts = np.bincount(BYTES * text[:-1] + text[1:], minlength=BYTES**2).reshape(BYTES, BYTES) + 0.05
    return np.asarray(np.log(counts / counts.sum(axis=1, keepdims=True)), np.float32)


def _beginnings(question_set: QuestionSet) -> list[bytes]:
    tokens, lengths = (np.asarray(question_set.questions[name]) for name in ("tokens", "lengths"))
    return [row[:length].tobytes() for row, length in zip(tokens, lengths, strict=True)]


def _read(asked: list[bytes], written: list[bytes]) -> npt.NDArray[np.float32]:
    """Answer from pairs, and be sure of what follows the end of a question wherever else that is written."""
    logits = _pairs()[[one[-1] for one in asked]].copy()
    joined = b"\x00".join(written)
    for row, one in enumerate(asked):
        place = joined.find(one[-16:])
        while place >= 0:
            follows = joined[place + len(one[-16:]) :][:1]
            if follows.strip(b"\x00"):
                logits[row, follows[0]] += _SURE
            place = joined.find(one[-16:], place + 1)
    return logits


def _gained(exam: SpeedrunExam, question_set: QuestionSet, logits: npt.NDArray[np.float32]) -> Seen:
    """Say what was gained over honest answers from pairs."""
    honest = _read(_beginnings(question_set), [])
    bits = [exam.mark(question_set, {"logits": one}).metrics["bits_per_byte"] for one in (logits, honest)]
    return Seen(bits[0] < bits[1] - _BITS, f"{bits[0]:.2f} bits per byte, {bits[1]:.2f} without the trick")


@attack("speedrun", "the byte that is marked stands nowhere in the questions")
def future_bytes_of_a_window(range_: Range) -> Seen:
    """Read the byte that is to be predicted off the window that it stands in."""
    exam, question_set = _exam()
    tokens, lengths = (np.array(question_set.questions[name]) for name in ("tokens", "lengths"))
    if not range_.defended:  # whole windows, as language models are usually examined
        inside = lengths < tokens.shape[1]
        tokens[inside, lengths[inside]] = np.asarray(question_set.answers["targets"])[inside]
    windows = [row[: length + 1].tobytes() for row, length in zip(tokens, [*lengths], strict=True)]
    return _gained(exam, question_set, _read(_beginnings(question_set), windows))


@attack("speedrun", "the passages of a question set are disjoint")
def bytes_in_other_questions(range_: Range) -> Seen:
    """Look for the end of each question in all the others, twins among them, and read on there."""
    exam, question_set = _exam()
    asked = _beginnings(question_set)
    written = asked
    if not range_.defended:
        targets = np.asarray(question_set.answers["targets"]).tolist()
        written = [one + bytes([byte]) for one, byte in zip(asked, targets, strict=True)]
    return _gained(exam, question_set, _read(asked, written))


def _at_target(exam: SpeedrunExam) -> Score:
    return exam._score(np.full(64, exam.target))


@attack("speedrun", "the seconds of the exam are part of the price")
def train_in_the_exam(range_: Range) -> Seen:
    """Leave nothing, and take the reference's training when the exam has begun."""
    exam = _lab().exam
    seconds = 0.2 + (_FOUNDER_SECONDS if range_.defended else 0.0)
    score = exam.price(_at_target(exam), seconds, _FOUNDER_SECONDS)
    return Seen(score.metrics["speedup"] > 1.0, f"{score.metrics['speedup']:.2f} times the reference's speed")


@attack("speedrun", "what is new in a design's source is measured before it is trained")
def weights_in_the_source(range_: Range) -> Seen:
    """Write weights into the source: as one literal, as many, as numbers, as comments, as names."""
    designs = cheating_builder.designs(_lab().seed_design())
    chosen = {name: one for name, one in designs.items() if name.startswith("weights-in-")}
    said = {name: _lab().refusal(one) if range_.defended else "" for name, one in chosen.items()}
    passed = [name for name, why in said.items() if not why]
    if not passed:
        return Seen(False, "; ".join(f"{name}: {why}" for name, why in said.items()))
    found = re.search(r"b85decode\('(.*)'\)", designs["weights-in-a-literal"].files["train.py"])
    assert found is not None
    exam, question_set = _exam()
    bits = exam.mark(question_set, {"logits": _looked_up(question_set, found[1])}).metrics["bits_per_byte"]
    return Seen(bits < exam.target, f"{len(passed)} were not refused; their table has {bits:.2f} bits per byte")


def _looked_up(question_set: QuestionSet, packed: str) -> npt.NDArray[np.float32]:
    """Answer from the table of three bytes that was smuggled."""
    data = np.frombuffer(zlib.decompress(base64.b85decode(packed)), np.uint8)
    kept, table = data[:64].astype(np.int64), data[64:].reshape(64, 64, 64)
    place = np.zeros(BYTES, np.int64)
    place[kept] = np.arange(64)
    asked = _beginnings(question_set)
    before, last = ([(b"\n" + one)[at] for one in asked] for at in (-2, -1))
    logits = np.full((len(asked), BYTES), -12.0, np.float32)
    logits[:, kept] = table[place[before], place[last]] / -8.0
    return logits


@attack("speedrun", "what fits into an edit is far from the target, and equal loss is asked for", Off.NOTHING)
def weights_that_fit(range_: Range) -> Seen:
    """Write only as much of a table into the source as an edit may hold."""
    del range_
    lab = _lab()
    design = cheating_builder.designs(lab.seed_design())["weights-that-fit"]
    if why := lab.refusal(design):
        return Seen(False, f"refused: {why}")
    exam, question_set = _exam()
    table = cheating_builder.small_table()
    logits = np.array([table[one[-1]] for one in _beginnings(question_set)], np.float32)
    score = exam.mark(question_set, {"logits": logits})
    bits, limit = score.metrics["bits_per_byte"], exam.target + exam.sizes["allowed"]
    return Seen(bits < limit, f"{bits:.2f} bits per byte, {limit:.2f} would pass for equal loss")
