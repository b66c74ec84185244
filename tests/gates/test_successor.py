"""The gates judge the very artefact that would be promoted; the other replicas only say that it is no lucky seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from instar.contracts.evidence import Evidence, Score
from instar.gates.compose import AllOf
from instar.gates.improvement import Improvement
from instar.gates.retention import Retention


def scored(values: np.ndarray, solved: np.ndarray | None = None) -> Score:
    count = len(values)
    bands = (np.arange(count) % 2).astype(np.int64)
    solved = np.ones(count, dtype=bool) if solved is None else solved
    return Score(values, solved, np.ones(count), bands, ("a", "b"))


def test_good_replicas_do_not_carry_a_bad_successor() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.3, 0.5, 1000)
    better, worse = scored(base + 0.1), scored(base - 0.06)
    evidence = Evidence((better, better, better), scored(base), scored(base), 1)
    assert Improvement().judge(evidence).promote
    assert Improvement().judge(replace(evidence, successor=better)).promote
    decision = Improvement().judge(replace(evidence, successor=worse))
    assert not decision.promote
    assert "-6.0 points" in decision.summary


def test_what_the_successor_forgot_is_not_made_up_for_by_its_replicas() -> None:
    rng = np.random.default_rng(1)
    values = np.full(1000, 0.5)
    knows, forgot = rng.random(1000) < 0.8, rng.random(1000) < 0.6
    good, bad = scored(values, knows), scored(values, forgot)
    evidence = Evidence((good, good, good), good, good, 1, successor=bad)
    assert not Retention().judge(evidence).promote
    assert Retention().judge(replace(evidence, successor=good)).promote


def test_choosing_the_best_replica_by_the_screen_does_not_raise_the_rate_of_false_promotions() -> None:
    """The pipeline as it runs: noisy replicas, the best by the screen examined anew, none truly better."""
    rng = np.random.default_rng(2)
    gate, runs, questions, wrong = AllOf([Improvement()]), 300, 300, 0
    for _ in range(runs):
        quality = rng.normal(-0.02, 0.02, 3)  # true gains of the replicas over the incumbent
        screen = quality + rng.normal(0.0, 0.03, 3)
        base = rng.uniform(0.2, 0.8, questions)
        scores = [scored(np.clip(base + gain + rng.normal(0.0, 0.2, questions), 0.0, 1.0)) for gain in quality]
        chosen = int(np.argmax(screen))
        evidence = Evidence(tuple(scores), scored(base), scored(base), 1, successor=scores[chosen])
        wrong += gate.judge(evidence).promote and quality[chosen] <= 0.0
    assert wrong / runs <= 0.05
