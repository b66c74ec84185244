"""Less code is promoted where it is equal within noise, and what is worse by the margin hardly ever is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from instar.contracts.evidence import CodeSize, Evidence, Score
from instar.gates.noise import NoiseFloor
from instar.gates.simplification import NAME, OrSimpler, around

SPREAD, SEEDS, RUNS = 0.01, 3, 5
LESS = CodeSize(90, 100)


def score(metric: float) -> Score:
    one = np.array([metric])
    return Score(one, np.array([False]), np.array([np.nan]), np.zeros(1, np.int64), ("all",))


def evidence(rng: np.random.Generator, difference: float, code: CodeSize | None = LESS) -> Evidence:
    seeds = tuple(map(score, 0.5 + difference + SPREAD * rng.standard_normal(SEEDS)))
    return Evidence(seeds, score(0.5), score(0.5), 1, successor=seeds[0], incumbent_replicas=(), code=code)


def gate(rng: np.random.Generator) -> OrSimpler:
    founder = tuple(0.5 + SPREAD * rng.standard_normal(RUNS))
    (made,) = around([NoiseFloor(founder=founder, comparable=True)])
    assert isinstance(made, OrSimpler)
    return made


def rate(difference: float, seed: int, simplified: int = 0, attempt: int = 1, trials: int = 700) -> float:
    """Return how often designs that differ so much are passed as simplifications."""
    rng = np.random.default_rng(seed)
    passed = 0
    for _ in range(trials):
        given = replace(evidence(rng, difference, CodeSize(90, 100, simplified)), attempt=attempt)
        reasons = gate(rng).judge(given).reasons
        passed += any(reason.gate == NAME and reason.passed for reason in reasons)
    return passed / trials


def test_what_is_worse_by_the_margin_is_hardly_ever_passed_and_what_is_equal_mostly_is() -> None:
    assert rate(-3.0 * SPREAD, 1) < 0.08  # the spread in the margin is estimated too
    assert rate(-4.0 * SPREAD, 2) < 0.02
    assert rate(0.0, 3) > 0.8


def test_the_margin_shrinks_with_every_simplification_in_a_row() -> None:
    rates = [rate(0.0, 4, simplified=count, trials=400) for count in range(4)]
    assert rates == sorted(rates, reverse=True)
    assert rates[3] < 0.1
    assert rate(-1.5 * SPREAD, 5, simplified=1, trials=400) < 0.08


def test_only_less_code_counts_and_everything_missing_means_no() -> None:
    rng = np.random.default_rng(0)
    made = gate(rng)
    for code in (None, CodeSize(100, 100), CodeSize(120, 100), CodeSize(995, 1000)):
        assert not any(reason.gate == NAME for reason in made.judge(evidence(rng, 0.0, code)).reasons)
    alike = evidence(rng, 0.0)
    same = replace(alike, candidate=(alike.candidate[0],) * 3)
    assert not made.judge(same).promote, "a design that does not heed its seed"
    alone = OrSimpler(made.gates)
    assert not any(reason.gate == NAME for reason in alone.judge(alike).reasons), "nothing tells how seeds spread"


def test_a_gain_is_a_gain_and_no_simplification() -> None:
    rng = np.random.default_rng(0)
    decision = gate(rng).judge(evidence(rng, 0.2))
    assert decision.promote
    assert [reason.gate for reason in decision.reasons] == ["noise floor"]


@pytest.mark.parametrize("gates", [[], [NoiseFloor()]])
def test_other_gates_stay_as_they_are(gates: list[NoiseFloor]) -> None:
    assert [gate.name for gate in around(list(gates))] == (["improvement or simplification"] if gates else [])
