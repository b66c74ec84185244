"""The exam of speedrun: losses follow from the logits alone, none looks ahead, and cheap models can't pay the price."""

from __future__ import annotations

import hashlib
import math
import re
from itertools import pairwise

import numpy as np
import pytest

from instar.contracts.errors import ArtefactError
from instar.contracts.evidence import Score
from instar.contracts.exam import Arrays, QuestionSet, Stage
from instar.exams import selftest
from instar.labs.checks import log_probabilities
from instar.labs.speedrun import questions as exams
from instar.labs.speedrun import task, text

LAB = task.create({"scale": "tiny"})
EXAM = LAB.exam


@pytest.fixture(scope="module")
def question_set() -> QuestionSet:
    return EXAM.set(5, Stage.SCREEN)


def zeros(question_set: QuestionSet) -> np.ndarray:
    return np.zeros((*question_set.questions["tokens"].shape, 256), np.float16)


def scored(bits: float) -> Score:
    return EXAM._score(np.full(8, bits))


def priced(bits: float, seconds: float) -> float:
    return EXAM.price(scored(bits), seconds, 90.0).metric


def speedup(bits: float, seconds: float) -> float:
    return EXAM.price(scored(bits), seconds, 90.0).metrics["speedup"]


# --- texts ----------------------------------------------------------------------------------------------------------


def test_the_texts_are_those_of_the_readme() -> None:
    table = (text.DATA / "README.md").read_text()
    rows = re.findall(r"^\| (sealed/)?(\w+)\.(\w+) \| ([\d,]+) \| (\w{64}) \|$", table, flags=re.MULTILINE)
    assert len(rows) == 8
    for hidden, corpus, part, size, digest in rows:
        found = text.sealed(corpus, part).tobytes() if hidden else text.visible(corpus, part)
        assert len(found) == int(size.replace(",", ""))
        assert hashlib.sha256(found).hexdigest() == digest


def test_no_line_of_a_held_out_work_is_trained_on() -> None:
    """Works are whole: long lines of the sealed parts stand nowhere in the visible ones, but for a few set phrases."""
    seen = text.visible("shakespeare", "train") + text.visible("shakespeare", "validation")
    for part in ("screen", "heldout"):
        lines = [line for line in text.sealed("shakespeare", part).tobytes().split(b"\n") if len(line) > 40]
        chosen = lines[:: len(lines) // 100]
        assert sum(line in seen for line in chosen) == 0


def test_screens_and_promotions_are_drawn_from_different_works(question_set: QuestionSet) -> None:
    asked = EXAM.set(5, Stage.PROMOTION).questions["tokens"]
    heldout, screen = (text.sealed("shakespeare", part).tobytes() for part in ("heldout", "screen"))
    assert sum(row[:32].tobytes() in heldout for row in asked) == len(asked)
    assert sum(row[:32].tobytes() in screen for row in question_set.questions["tokens"]) == len(
        question_set.questions["tokens"]
    )


# --- marks ----------------------------------------------------------------------------------------------------------


def test_knowing_nothing_costs_eight_bits(question_set: QuestionSet) -> None:
    score = EXAM.mark(question_set, {"logits": zeros(question_set)})
    assert score.metrics["bits_per_byte"] == pytest.approx(8.0, abs=1e-5)
    assert score.metric == pytest.approx(0.0, abs=1e-5)


def test_marks_are_the_cross_entropy_of_the_targets(question_set: QuestionSet) -> None:
    logits = zeros(question_set)
    for row, wanted in zip(question_set.answers["rows"], question_set.answers["targets"], strict=True):
        logits[row, np.arange(128), wanted] = math.log(255.0)  # probability one half
    answers = {"logits": same_in_twins(question_set, logits)}
    score = EXAM.mark(question_set, answers)
    single = ~np.isin(np.arange(len(score.values)), np.arange(len(question_set.answers["twins"])))
    assert 8.0 * (1.0 - score.values[single]) == pytest.approx(1.0, abs=3e-3)


def same_in_twins(question_set: QuestionSet, logits: np.ndarray) -> np.ndarray:
    for number, twin in enumerate(question_set.answers["twins"]):
        logits[twin] = logits[question_set.answers["rows"][number]]
    return logits


def test_probabilities_are_normalised_by_the_marker(question_set: QuestionSet) -> None:
    honest = EXAM.known_good(question_set)["logits"]
    found = [EXAM.mark(question_set, {"logits": honest + np.float16(shift)}).metric for shift in (0.0, 4.0, 1000.0)]
    assert found[1] == pytest.approx(found[0], abs=1e-3)
    assert found[2] <= found[0] + 0.01


@pytest.mark.parametrize(
    "bend",
    [
        lambda logits: np.full_like(logits, np.nan),
        lambda logits: np.full_like(logits, np.inf),
        lambda logits: logits[:, :-1],
        lambda logits: logits[..., :255],
        lambda logits: logits.astype(np.float32),
    ],
)
def test_what_is_no_logits_is_refused(question_set: QuestionSet, bend: object) -> None:
    with pytest.raises(ArtefactError, match="logits"):
        EXAM.mark(question_set, {"logits": bend(EXAM.known_good(question_set)["logits"])})  # type: ignore[operator]


def test_single_precision_is_enough_to_compare_twins() -> None:
    rng = np.random.default_rng(4)
    for scale in (1e-6, 1.0, 30.0, 3000.0, 30000.0):
        logits = np.clip(rng.normal(0.0, scale, (200, 256)), -65504.0, 65504.0).astype(np.float16)
        likely = np.maximum(exams._log_probabilities(logits), -20.0)
        assert np.abs(likely - np.maximum(log_probabilities(logits), -20.0)).max() < 1e-4 * exams._TOLERANCE


@pytest.mark.parametrize("top", [0.0, -30.0, -60000.0, 5.0, 60000.0])
def test_losses_are_right_wherever_the_logits_lie(top: float) -> None:
    """Looked up, or computed where they are not near 0: the same as in double precision."""
    rng = np.random.default_rng(5)
    logits = np.clip(rng.normal(0.0, 3.0, (40, 128, 256)) + top, -65504.0, 65504.0).astype(np.float16)
    if top == 0.0:
        logits -= logits.max(axis=2, keepdims=True)
    rows, targets = np.arange(40), rng.integers(0, 256, (40, 128))
    known = log_probabilities(logits)
    wanted = -np.take_along_axis(known, targets[..., None], axis=2)[..., 0].mean(axis=1) / math.log(2.0)
    assert exams._losses(logits, rows, targets) == pytest.approx(wanted, abs=1e-4)


def test_looking_ahead_is_refused(question_set: QuestionSet) -> None:
    with pytest.raises(ArtefactError, match="looking at later tokens"):
        EXAM.mark(question_set, EXAM.cheats(question_set)["the next byte read off the question"])


def test_a_small_look_ahead_is_refused_too(question_set: QuestionSet) -> None:
    """A bonus of one nat for the byte that comes next, on top of an honest answer."""
    logits = zeros(question_set)
    tokens = question_set.questions["tokens"].astype(np.int64)
    np.put_along_axis(logits[:, :-1], tokens[:, 1:, None], np.float16(1.0), axis=2)
    with pytest.raises(ArtefactError, match="looking at later tokens"):
        EXAM.mark(question_set, {"logits": logits})


def test_twins_go_on_as_text_does_and_share_their_beginning(question_set: QuestionSet) -> None:
    tokens, screen = question_set.questions["tokens"], text.sealed("shakespeare", "screen").tobytes()
    for number, (twin, cut) in enumerate(zip(question_set.answers["twins"], question_set.answers["cut"], strict=True)):
        row = tokens[question_set.answers["rows"][number]]
        assert (tokens[twin, :cut] == row[:cut]).all()
        assert tokens[twin, cut] != row[cut]
        assert tokens[twin, cut:].tobytes() in screen


def test_the_exam_holds_against_its_own_cheats() -> None:
    failed = [finding for finding in selftest.examine(LAB) if not finding.passed]
    assert not failed


# --- the price ------------------------------------------------------------------------------------------------------


def test_slow_designs_keep_their_order_below_the_range() -> None:
    """Losses far above the target, and times: the worse, the lower, and never as low as the range's end."""
    worse = [priced(EXAM.target + 0.1 * step, 20.0) for step in range(3, 26)]
    assert all(after < before for before, after in pairwise(worse))
    assert worse[-1] > 0.0
    assert priced(EXAM.target + 1.0, 90.0) < priced(EXAM.target + 1.0, 30.0)


def test_a_bad_model_gains_nothing_by_being_bad_unevenly() -> None:
    rng = np.random.default_rng(3)
    spread = EXAM._score(np.clip(rng.normal(7.0, 2.0, 4096), 0.0, 16.0))
    assert EXAM.price(spread, 5.0, 90.0).metric < 0.01


def test_half_the_time_is_one_doubling() -> None:
    step = 1.0 / (exams.MOST - exams.LEAST)
    assert priced(EXAM.target, 45.0) - priced(EXAM.target, 90.0) == pytest.approx(step)
    assert speedup(EXAM.target, 9.0) == pytest.approx(10.0)
    assert speedup(EXAM.target, 720.0) == pytest.approx(1 / 8)  # where the score is squeezed, the figure is not


def test_loss_near_the_target_is_worth_time_by_the_stated_slope() -> None:
    lost = math.log2(speedup(EXAM.target, 9.0) / speedup(EXAM.target + 0.08, 9.0))
    assert lost == pytest.approx(0.08 * EXAM.sizes["slope"])


def test_the_price_is_linear_in_the_questions_near_the_target() -> None:
    bits = np.linspace(-0.4, 0.4, 9) + EXAM.target
    score = EXAM.price(EXAM._score(bits), 9.0, 90.0)
    assert score.metric == pytest.approx(priced(EXAM.target, 9.0))
    assert np.diff(score.values) == pytest.approx(np.diff(score.values)[0])


def test_no_more_than_the_credit_is_paid_below_the_target() -> None:
    sizes = EXAM.sizes
    enough = priced(EXAM.target - sizes["credit"], 9.0)
    assert enough > priced(EXAM.target, 9.0)
    assert priced(EXAM.target - 1.0, 9.0) == pytest.approx(enough)


@pytest.mark.parametrize(("known", "seconds"), [(8.0, 0.05), (5.0, 0.2), (4.5, 0.3)])
def test_cheap_models_that_know_next_to_nothing_are_no_better_than_the_founder(known: float, seconds: float) -> None:
    """Untrained, half-trained, frequencies of bytes: on the full lab's target, against its founder's 90 s."""
    full = task.create({}).exam
    founder = full.price(full._score(np.full(4, full.target)), 90.0, 90.0).metric
    assert full.price(full._score(np.full(4, known)), seconds, 90.0).metric < founder


def test_answers_of_the_wrong_form_never_raise_anything_else(question_set: QuestionSet) -> None:
    odd: list[Arrays] = [{}, {"logits": np.zeros(0, np.float16)}, {"other": np.zeros(3)}]
    for answers in odd:
        with pytest.raises(ArtefactError):
            EXAM.mark(question_set, answers)
