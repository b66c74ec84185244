"""What a marker checks in every answer: honest answers pass, and each trick is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from instar.contracts.errors import ArtefactError
from instar.labs.checks import Form, Twins, bits_per_byte, byte_count, causal, formed, log_probabilities, twins

FORMS = {"moves": Form("int8", (3, None), low=-1, high=3, most=5), "trust": Form("float32", (3,), low=0.0, high=1.0)}
GOOD: dict[str, Any] = {"moves": np.zeros((3, 4), np.int8), "trust": np.ones(3, np.float32)}


def test_answers_in_form_come_back() -> None:
    found = formed(GOOD, FORMS)
    assert found.keys() == FORMS.keys()
    assert found["moves"] is GOOD["moves"]
    assert formed({**GOOD, "moves": np.zeros((3, 0), np.int8)}, FORMS)["moves"].size == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"moves": None}, "'moves' is missing"),
        ({"score": np.ones(1)}, "'score' was not asked for"),
        ({"a\nb": np.ones(1)}, r"'a b' was not"),
        ({"moves": np.zeros((3, 4), np.int16)}, r"int8 of shape \(3, any\), not int16"),
        ({"moves": np.zeros(3, np.int8)}, "must be"),
        ({"moves": np.zeros((3, 4, 1), np.int8)}, "must be"),
        ({"moves": np.zeros((2, 4), np.int8)}, "must be"),
        ({"moves": np.zeros((3, 6), np.int8)}, "must be"),
        ({"moves": np.full((3, 4), 4, np.int8)}, "holds 4, 3 is the largest"),
        ({"moves": np.full((3, 4), -2, np.int8)}, "holds -2, -1 is the least"),
        ({"trust": np.full(3, np.nan, np.float32)}, "NaN"),
        ({"trust": np.full(3, np.inf, np.float32)}, "NaN or infinity"),
        ({"trust": np.full(3, 1.5, np.float32)}, "1.5"),
        ({"trust": np.float32(1)}, "must be"),
    ],
)
def test_answers_out_of_form_are_refused_in_one_line(change: dict[str, Any], why: str) -> None:
    answers = {name: array for name, array in (GOOD | change).items() if array is not None}
    with pytest.raises(ArtefactError, match=why) as caught:
        formed(answers, FORMS)
    assert "\n" not in str(caught.value)


# --- probabilities --------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(arrays_of.arrays("float32", (4, 7), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_probabilities_sum_to_one_whatever_is_handed_over(logits: Any) -> None:
    assert np.allclose(np.exp(log_probabilities(logits)).sum(axis=1), 1.0)


def test_shifted_logits_and_probabilities_that_sum_to_277_gain_nothing() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 8))
    assert np.allclose(log_probabilities(logits), log_probabilities(logits + 500.0))
    generous = np.log(np.full((1, 277), 1.0))  # "each of 277 classes has probability 1"
    assert np.allclose(log_probabilities(generous), -np.log(277))


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 1)), np.zeros((2, 3), int), np.full((2, 3), np.nan), np.full((2, 3), np.inf), np.float64(1)]
)
def test_what_are_no_logits_is_refused(bad: Any) -> None:
    with pytest.raises(ArtefactError):
        log_probabilities(np.asarray(bad))


def test_the_marker_counts_the_bytes() -> None:
    texts = ["abc", "é", "漢字"]
    assert byte_count(texts) == 3 + 2 + 6
    assert bits_per_byte(11 * np.log(2.0), texts) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no text"):
        bits_per_byte(1.0, [""])


# --- causality ------------------------------------------------------------------------------------------------------

VOCABULARY, LENGTH = 11, 20


class Bigram:
    """A toy language model: logits at place t from the token at t, and `leak` of the token at t + 1."""

    def __init__(self, leak: float, scale: float = 1.0, offset: float = 0.0) -> None:
        self.table = np.random.default_rng(3).normal(size=(VOCABULARY, VOCABULARY))
        self.leak, self.scale, self.offset = leak, scale, offset

    def __call__(self, tokens: Any) -> Any:
        following = np.roll(tokens, -1, axis=1)
        peek = self.leak * np.eye(VOCABULARY)[following]
        peek[:, -1] = 0.0
        return self.scale * (self.table[tokens] + peek) + self.offset


def questions(seed: int = 0, count: int = 50) -> Any:
    rng = np.random.default_rng(seed)
    return twins(rng.integers(0, VOCABULARY, (count, LENGTH)), VOCABULARY, rng)


def test_twins_share_their_beginning_and_nothing_after_it() -> None:
    pairs = questions()
    assert np.array_equal(np.sort(np.concatenate([pairs.first, pairs.second])), np.arange(100))
    one, other = pairs.tokens[pairs.first], pairs.tokens[pairs.second]
    before = np.arange(LENGTH) < pairs.cut[:, None]
    assert np.array_equal(one == other, before)
    assert pairs.tokens.min() >= 0
    assert pairs.tokens.max() < VOCABULARY
    assert (pairs.cut >= 1).all()
    assert (pairs.cut < LENGTH).all()
    for tokens, vocabulary in ((np.zeros((2, 1), int), 5), (np.zeros((2, 5), int), 1), (np.zeros((0, 5), int), 5)):
        with pytest.raises(ValueError, match="twins"):
            twins(tokens, vocabulary, np.random.default_rng(0))


@pytest.mark.parametrize("seed", range(5))
def test_a_causal_model_passes_and_a_leaking_one_fails(seed: int) -> None:
    pairs = questions(seed)
    rounding = np.random.default_rng(seed).normal(0, 1e-5, (*pairs.tokens.shape, VOCABULARY))
    causal(pairs, log_probabilities(Bigram(0.0)(pairs.tokens) + rounding))
    for leak in (0.01, 1.0, 20.0):
        with pytest.raises(ArtefactError, match=r"\d+ of 50 paired questions are answered by looking at later tokens"):
            causal(pairs, log_probabilities(Bigram(leak)(pairs.tokens)))


@pytest.mark.parametrize("width", [(), (1,), (7,)])
def test_every_place_before_the_cut_is_compared_and_none_after_it(width: tuple[int, ...]) -> None:
    pairs = questions()
    given = np.zeros((*pairs.tokens.shape, *width), np.float32)
    given[pairs.second, pairs.cut] = 9.0  # the first token that differs may be answered as one likes
    causal(pairs, given)
    given[pairs.second[[3, 8]], pairs.cut[[3, 8]] - 1] = 9.0
    given[pairs.second[8], 0] = 9.0
    with pytest.raises(ArtefactError, match="2 of 50 paired"):
        causal(pairs, given)
    nothing = np.zeros(0, np.int64)
    causal(Twins(pairs.tokens, nothing, nothing, nothing), given)


def test_a_leak_cannot_hide_among_huge_logits() -> None:
    pairs = questions()
    with pytest.raises(ArtefactError, match="later tokens"):
        causal(pairs, log_probabilities(Bigram(5.0, offset=1e6)(pairs.tokens)))


def test_answers_that_are_none_per_token_are_refused() -> None:
    pairs = questions()
    for bad in (np.zeros((100, 3)), np.zeros(100), np.full(pairs.tokens.shape, np.nan), np.zeros((3, LENGTH), "U1")):
        with pytest.raises(ArtefactError):
            causal(pairs, bad)
