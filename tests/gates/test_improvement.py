import math
from dataclasses import replace

import numpy as np
import pytest

from instar.contracts.errors import BadInput
from instar.contracts.evidence import Evidence, Score
from instar.gates.improvement import Improvement, create, holm
from instar.gates.pairing import random_order
from instar.stats.evalues import log_e_process, spent_alpha
from instar.testing.gate import GateConformance, draw_evidence


def scored(values):
    unknown, band = np.full(values.size, np.nan), np.zeros(values.size, dtype=np.int64)
    return Score(values, values > 0.5, unknown, band, ("all",))


class TestConformance(GateConformance):
    def gate(self):
        return Improvement()


def test_text_says_gain_interval_e_value_and_seeds():
    rng = np.random.default_rng(1)
    reason = Improvement().judge(draw_evidence(rng, candidate=0.60, incumbent=0.5, test=7)).reasons[0]
    assert reason.passed
    assert reason.text.startswith("better by ")
    assert "points (95 % " in reason.text
    assert "against 1/alpha 1612, 3 of 3 seeds" in reason.text
    assert reason.numbers["gain_low"] < reason.numbers["gain"] < reason.numbers["gain_high"]
    assert reason.numbers["gain"] == pytest.approx(np.mean([reason.numbers[f"gain_seed_{i}"] for i in (1, 2, 3)]))


def test_equal_and_worse_candidates_are_refused_with_words():
    rng = np.random.default_rng(2)
    same = draw_evidence(rng, candidate=0.5, seeds=1)
    clone = replace(same, candidate=(same.incumbent,) * 3)
    assert Improvement().judge(clone).reasons[0].text.startswith("not better: +0.0 points")
    worse = Improvement().judge(draw_evidence(rng, candidate=0.3)).reasons[0]
    assert not worse.passed
    assert worse.text.startswith("not better: -")
    slight = Improvement().judge(draw_evidence(rng, candidate=0.51)).reasons[0]
    assert slight.text.startswith("not shown to be better: better by ")


def test_too_few_seeds_are_refused():
    evidence = draw_evidence(np.random.default_rng(3), seeds=2)
    assert "2 training seeds were examined, 3 are needed" in Improvement().judge(evidence).summary
    assert Improvement(seeds=2).judge(evidence).promote


def test_one_lucky_seed_does_not_carry_the_others():
    incumbent = np.full(1000, 0.5)
    seeds = tuple(scored(np.full(1000, value)) for value in (1.0, 0.49, 0.49))
    reason = Improvement().judge(Evidence(seeds, scored(incumbent), scored(incumbent), 1)).reasons[0]
    assert reason.numbers["log_e_value"] > -math.log(reason.numbers["alpha"])
    assert not reason.passed
    assert "1 of 3 seeds" in reason.text


def test_later_candidates_need_stronger_evidence():
    evidence = draw_evidence(np.random.default_rng(4), candidate=0.56, incumbent=0.5)
    assert Improvement().judge(evidence).promote
    assert not Improvement().judge(replace(evidence, test=10**9)).promote


def test_small_gains_with_many_ties_are_found():
    rng = np.random.default_rng(5)
    found = []
    for _ in range(40):  # 6 % of the questions gain a quarter, 2 % lose as much: a gain of 1 point, deviation 0.07
        base = np.full(1500, 0.5)
        seeds = tuple(scored(base + rng.choice([-0.25, 0.0, 0.25], 1500, p=[0.02, 0.92, 0.06])) for _ in range(3))
        found.append(Improvement().judge(Evidence(seeds, scored(base), scored(base), 5)).promote)
    assert np.mean(found) >= 0.9


def test_twenty_generations_promote_nothing_false_in_19_of_20_runs():
    # 1,000 runs of 20 candidates on 300 right-or-wrong questions; the incumbent and three seeds are equally good.
    rng = np.random.default_rng(6)
    values = np.arange(-3, 4) / 3.0  # the mean of three seeds less the incumbent's 0 or 1
    false = np.zeros(1000, dtype=bool)
    for k, p in enumerate(rng.choice([0.05, 0.5, 0.95], size=20), start=1):
        seeds = np.array([math.comb(3, solving) * p**solving * (1 - p) ** (3 - solving) for solving in range(4)])
        chance = np.concatenate([p * seeds, np.zeros(3)]) + np.concatenate([np.zeros(3), (1 - p) * seeds])
        path = log_e_process(rng.choice(values, size=(1000, 300), p=chance), 0.0, -1.0, 1.0)
        false |= (path >= -math.log(spent_alpha(0.05, k))).any(axis=1)
    assert false.mean() <= 0.05


def test_the_order_of_the_questions_is_mixed():
    # Better by 10 points on the first half of the question set and worse by nearly as much on the second.
    sign = np.where(np.arange(1000) < 500, 0.1, -0.099)
    incumbent, candidate = scored(np.full(1000, 0.5)), scored(0.5 + sign)
    evidence = Evidence((candidate,) * 3, incumbent, incumbent, 1)
    assert not Improvement().judge(evidence).promote
    assert log_e_process(sign, 0.0, -1.0, 1.0).max() > -math.log(spent_alpha(0.05, 1))
    order = random_order(evidence)
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert 400 < order[:500].mean() < 600


def test_options_are_checked():
    assert create({}) == Improvement()
    assert create({"alpha": 0.01, "seeds": 5}) == Improvement(alpha=0.01, seeds=5)
    bad = ({"alpha": 0}, {"alpha": 1}, {"alpha": -0.1}, {"alpha": math.nan}, {"seeds": 0}, {"level": 0.1})
    for options in (*bad, {"seeds": 2.5}, {"seeds": True}, {"alpha": "0.05"}, {"alpha": True}):
        with pytest.raises(BadInput, match="improvement gate"):
            create(options)


def several(rng, gains, questions=600):
    """Evidence on three goal metrics with these true gains; the lab's first metric, 'speed' and 'care'."""
    base = rng.uniform(0.3, 0.6, questions)

    def evaluate(gained):
        rows = [np.clip(base + gain + rng.normal(0.0, 0.1, questions), 0.0, 1.0) for gain in gained]
        return replace(scored(rows[0]), also={"speed": rows[1], "care": rows[2]})

    incumbent = evaluate((0.0, 0.0, 0.0))
    return Evidence(tuple(evaluate(gains) for _ in range(3)), incumbent, incumbent, 1)


ALL = Improvement(also=("speed", "care"))
ANY = Improvement(also=("speed", "care"), every=False)


class TestConformanceWithSeveralMetrics(GateConformance):
    def gate(self):
        return ANY

    def evidence(self):
        evidence = draw_evidence(np.random.default_rng(20))

        def having(score):
            return replace(score, also={"speed": score.values, "care": score.values})

        seeds = tuple(having(score) for score in evidence.candidate)
        return replace(evidence, candidate=seeds, incumbent=having(evidence.incumbent))


@pytest.mark.parametrize(
    ("gains", "all_pass", "any_passes"),
    [((0.1, 0.1, 0.1), True, True), ((0.1, 0.1, 0.0), False, True), ((0.0, 0.0, 0.1), False, True),
     ((0.0, 0.0, 0.0), False, False)],
)  # fmt: skip
def test_all_goal_metrics_must_improve_or_any(gains, all_pass, any_passes):
    evidence = several(np.random.default_rng(21), gains)
    assert ALL.judge(evidence).promote == all_pass
    assert ANY.judge(evidence).promote == any_passes
    assert len(ALL.judge(evidence).reasons) == 3
    if any_passes and not all_pass:
        assert "by Holm's procedure" in ANY.judge(evidence).summary


def test_any_of_several_is_wrong_no_more_often_than_one_alone():
    # At alpha 0.5 the first candidate may spend 0.30: without Holm, three independent metrics would pass far more.
    rng, gate = np.random.default_rng(22), Improvement(0.5, 1, ("speed", "care"), every=False)
    wrong = [gate.judge(several(rng, (0.0, 0.0, 0.0), questions=150)).promote for _ in range(300)]
    allowed = spent_alpha(0.5, 1)
    assert np.mean(wrong) <= allowed + 3 * np.sqrt(allowed * (1 - allowed) / 300)


def test_holm_steps_down_and_stops():
    levels = holm({"a": 3.0, "b": 9.0, "c": 1.0}, 0.05)
    assert levels == pytest.approx({"b": 0.05 / 3, "a": 0.05 / 2, "c": 0.0})  # e^3 = 20 is below 2 / 0.05
    assert holm({"a": 3.7, "b": 9.0, "c": 1.0}, 0.05)["c"] == pytest.approx(0.05)


def test_a_goal_metric_that_was_not_marked_means_no():
    evidence = several(np.random.default_rng(23), (0.1, 0.1, 0.1))
    lacking = replace(evidence, incumbent=replace(evidence.incumbent, also={"speed": evidence.incumbent.values}))
    assert "the goal metric 'care' was not marked" in ALL.judge(lacking).summary
    outside = replace(evidence.incumbent, also={"speed": evidence.incumbent.values + 1.0})
    assert not ALL.judge(replace(evidence, incumbent=outside)).promote


def test_more_options_are_checked():
    assert create({"also": ["speed"], "every": False}) == Improvement(also=("speed",), every=False)
    for options in ({"also": "speed"}, {"also": [1]}, {"every": 1}):
        with pytest.raises(BadInput, match="improvement gate"):
            create(options)
