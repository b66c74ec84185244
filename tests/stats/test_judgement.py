"""Figures of judgement: known answers, and by simulation the coverage of their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from instar.stats import bootstrap, judgement
from instar.stats.judgement import Cases, Opinion, judge


def made(rng: np.random.Generator, rounds: int, each: int, skill: float, seeds: int = 3) -> tuple[Cases, Opinion]:
    """Draw designs of unit spread, seeds of a third of it, and an opinion that correlates with the truth by `skill`."""
    n = rounds * each
    truth = rng.standard_normal(n)
    said = skill * truth + math.sqrt(1 - skill**2) * rng.standard_normal(n)
    outcomes = truth[:, None] + 0.3 * rng.standard_normal((n, seeds))
    p = 0.5 + 0.5 * np.vectorize(math.erf)(skill * said / math.sqrt(2 * (1 - skill**2 + 0.09)))
    cases = Cases(np.repeat(np.arange(rounds), each), outcomes, np.zeros(n))
    return cases, Opinion(skill * said, p, np.full(n, math.sqrt(1 - skill**2 + 0.09)))


def point(cases: Cases, opinion: Opinion, figure: str) -> float:
    return float(judgement.FIGURES[figure](cases, opinion, np.ones((1, len(cases.rounds))))[0])


def test_a_perfect_judge() -> None:
    outcomes = np.array([[0.1, 0.12], [0.5, 0.52], [0.9, 0.88]])
    cases = Cases(np.zeros(3, dtype=np.int64), outcomes, np.full(3, 0.3))
    best = Opinion(outcomes.mean(axis=1), np.array([0.0, 1.0, 1.0]), np.full(3, 0.1))
    expected = {"pairwise_accuracy": 1, "kendall_tau": 1, "regret": 0, "brier": 0, "calibration_error": 0,
                "reliability": 0, "resolution": 2 / 9, "coverage": 1}  # fmt: skip
    for figure, value in expected.items():
        assert point(cases, best, figure) == pytest.approx(value, abs=1e-12), figure
    worst = Opinion(-best.scores)
    assert point(cases, worst, "pairwise_accuracy") == 0
    assert point(cases, worst, "kendall_tau") == -1
    assert point(cases, worst, "regret") > 1


def test_who_says_nothing_is_chance() -> None:
    cases, _ = made(np.random.default_rng(0), 10, 6, 0.5)
    silent = Opinion(np.zeros(60), np.full(60, 0.5))
    assert point(cases, silent, "pairwise_accuracy") == 0.5
    assert point(cases, silent, "regret") == pytest.approx(1.0)
    assert point(cases, silent, "brier") == 0.25
    assert point(cases, silent, "log_score") == pytest.approx(math.log(2))
    assert point(cases, silent, "resolution") == pytest.approx(0)
    assert math.isnan(point(cases, silent, "kendall_tau"))


def test_murphys_parts_add_up_where_bins_hold_one_probability() -> None:
    rng = np.random.default_rng(1)
    cases, _ = made(rng, 20, 5, 0.6, seeds=1)
    opinion = Opinion(np.zeros(100), rng.choice([0.05, 0.35, 0.75], 100))
    came = (cases.outcomes[:, 0] > 0).mean()
    parts = point(cases, opinion, "reliability") - point(cases, opinion, "resolution") + came * (1 - came)
    assert parts == pytest.approx(point(cases, opinion, "brier"))


def test_pairs_that_only_seeds_separate_are_ties() -> None:
    rng = np.random.default_rng(2)
    cases = Cases(np.zeros(200, dtype=np.int64), rng.standard_normal((200, 3)), np.zeros(200))
    assert (judgement.told_apart(cases).better != 0).mean() == pytest.approx(0.05, abs=0.02)


def test_one_seed_tells_no_pair_apart_and_says_so() -> None:
    cases, opinion = made(np.random.default_rng(3), 4, 5, 0.9, seeds=1)
    found = judge(cases, {"a": opinion}, np.random.default_rng(0), 50).table()["a"]
    assert found["pairwise_accuracy"].value is None
    assert "two seeds" in found["pairwise_accuracy"].note
    assert "too high" in found["regret"].note


def test_the_oracle_gains_nothing_from_luck() -> None:
    """Where all designs are equal, an oracle that believed its own seeds would seem better than chance."""
    rng, gaps = np.random.default_rng(4), []
    for _ in range(400):
        cases = Cases(np.zeros(8, dtype=np.int64), rng.standard_normal((8, 3)), np.zeros(8))
        found = judgement.choices(cases, Opinion(np.zeros(8)))
        gaps.append(float(found.oracle[0] - found.random[0]))
    assert abs(np.mean(gaps)) < 2.6 * np.std(gaps) / 20


@pytest.mark.parametrize(("rounds", "each"), [(16, 6), (2, 24)])
def test_coverage_of_the_intervals(rounds: int, each: int) -> None:
    """By rounds where there are many, by proposals within rounds where there are few. 95 % is asked for."""
    figures = ["pairwise_accuracy", "kendall_tau", "brier", "log_score"]
    figures += ["regret"] if rounds > 8 else []
    rng = np.random.default_rng(5)
    many = [made(rng, 60, each, 0.6) for _ in range(20)]
    truth = {figure: np.mean([point(*one, figure) for one in many]) for figure in figures} | {"reliability": 0.0}
    figures.append("reliability")  # of honest probabilities
    held = dict.fromkeys(figures, 0)
    for _ in range(120):
        cases, opinion = made(rng, rounds, each, 0.6)
        found = judge(cases, {"a": opinion}, rng, 200)
        for figure in figures:
            seen = found.estimate("a", figure)
            assert seen.low is not None
            assert seen.high is not None
            held[figure] += seen.low <= truth[figure] <= seen.high
    for figure, count in held.items():
        assert 0.86 <= count / 120 <= 1.0, f"{figure}: {count / 120:.2f}"


def test_paired_differences_are_tighter_and_cover() -> None:
    rng, held, narrower = np.random.default_rng(6), 0, 0
    for _ in range(100):
        cases, opinion = made(rng, 16, 6, 0.6)
        near = Opinion(opinion.scores + 0.05 * rng.standard_normal(96))
        found = judge(cases, {"a": opinion, "b": near}, rng, 200)
        gap, alone = found.difference("a", "b", "pairwise_accuracy"), found.estimate("a", "pairwise_accuracy")
        assert gap.low is not None
        assert gap.high is not None
        assert alone.low is not None
        assert alone.high is not None
        held += gap.low - 0.01 <= 0.0 <= gap.high + 0.01
        narrower += gap.high - gap.low < alone.high - alone.low
    assert held >= 90
    assert narrower >= 95


def test_slope_covers_and_asks_for_three_points() -> None:
    rng, held = np.random.default_rng(7), 0
    for _ in range(400):
        x = np.arange(7.0)
        seen = bootstrap.slope(x, 0.3 * x + rng.standard_normal(7))
        assert seen.low is not None
        assert seen.high is not None
        held += seen.low <= 0.3 <= seen.high
    assert held / 400 == pytest.approx(0.95, abs=0.03)
    assert bootstrap.slope([1, 2], [1, 2]).value is None


def test_ratios_cover_and_refuse_to_divide_by_nothing() -> None:
    rng, held = np.random.default_rng(8), 0
    for _ in range(300):
        below = 1.0 + 0.4 * rng.standard_normal(20)
        above = 0.7 * below + 0.2 * rng.standard_normal(20)
        seen = bootstrap.ratio_of_sums(above, below, rng, 300)
        assert seen.low is not None
        assert seen.high is not None
        held += seen.low <= 0.7 <= seen.high
    assert 0.88 <= held / 300 <= 0.99
    assert bootstrap.ratio_of_sums(np.ones(5), np.zeros(5), rng).value is None
    assert bootstrap.ratio_of_sums(np.ones(9), rng.standard_normal(9) + 0.1, rng).low is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cases(np.zeros(2, dtype=np.int64), np.full((2, 2), np.nan), np.zeros(2)),
        lambda: Cases(np.zeros(2, dtype=np.int64), np.ones((2, 2)), np.array([0.0, np.nan])),
        lambda: Opinion(np.zeros(2), np.array([0.5, 1.2])),
        lambda: Opinion(np.zeros(2), None, np.array([0.5, 0.0])),
        lambda: judge(Cases(np.zeros(2, dtype=np.int64), np.ones((2, 2)), np.zeros(2)), {"a": Opinion(np.zeros(3))},
                      np.random.default_rng(0)),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        make()  # type: ignore[operator]
