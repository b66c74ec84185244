import math
from dataclasses import replace

import numpy as np
import pytest

from instar.contracts.errors import BadInput
from instar.contracts.evidence import Evidence
from instar.gates.retention import Retention, create, questions_needed
from instar.stats.evalues import log_e_process
from instar.testing.gate import GateConformance, draw_evidence, make_score


def passes(x, margin):
    """Whether each row (R, N) of differences is shown to be within the margin, looking after every question."""
    return (log_e_process(x, -margin, -1.0, 1.0) >= math.log(20)).any(axis=-1)


class TestAgainstTheIncumbent(GateConformance):
    def gate(self):
        return Retention()


class TestAgainstTheFounder(GateConformance):
    def gate(self):
        return Retention(against="founder")


def test_a_candidate_that_loses_ten_points_in_one_band_is_refused():
    rng = np.random.default_rng(1)
    had, kept = (0.9, 0.8, 0.7, 0.6), (0.95, 0.85, 0.6, 0.7)
    decisions = [
        Retention().judge(draw_evidence(rng, candidate=kept, incumbent=had, questions=4000)) for _ in range(200)
    ]
    assert np.mean([decision.promote for decision in decisions]) <= 0.05
    assert all("band length 3" in decision.summary for decision in decisions)


def test_an_unchanged_candidate_passes_given_enough_questions():
    rng = np.random.default_rng(2)
    equal = (0.9, 0.8, 0.7, 0.6)
    n = 4 * questions_needed(0.05, 0.05, discordant=0.1, power=0.975)  # four bands, nine runs in ten
    passed = [
        Retention().judge(draw_evidence(rng, candidate=equal, incumbent=equal, questions=n)).promote for _ in range(150)
    ]
    assert np.mean(passed) >= 0.9


def test_a_loss_of_exactly_the_margin_passes_in_one_of_twenty_at_most():
    rng = np.random.default_rng(3)
    for discordant in (0.05, 0.1, 0.4):
        chance = [(discordant + 0.05) / 2, 1 - discordant, (discordant - 0.05) / 2]
        x = rng.choice([-1.0, 0.0, 1.0], size=(2000, 500), p=chance)
        assert passes(x, 0.05).mean() <= 0.05


def test_the_gate_itself_holds_its_margin():
    rng = np.random.default_rng(9)
    lost = [draw_evidence(rng, candidate=0.65, incumbent=0.7, questions=800, bands=1) for _ in range(200)]
    assert 0.0 < np.mean([Retention(alpha=0.2).judge(evidence).promote for evidence in lost]) <= 0.2


def test_the_reference_is_the_one_that_was_asked_for():
    evidence = draw_evidence(np.random.default_rng(10), candidate=0.6, incumbent=0.6, founder=0.8, questions=4000)
    assert Retention().judge(evidence).promote
    decision = Retention(against="founder").judge(evidence)
    assert not decision.promote
    assert decision.summary.startswith("retention against the founder: band length 1: not shown to be within 5 points")


def test_the_founder_anchor_stops_the_creep():
    # Ten proposals, each 2 points worse than the model that it would replace; the founder solves 80 %.
    unanchored, anchored = (creep(np.random.default_rng(4), anchored) for anchored in (False, True))
    print(f"lost after ten proposals: {unanchored:.1f} points, with the anchor {anchored:.1f}")
    assert anchored < 5  # within the margin
    assert anchored < unanchored / 1.5


def creep(rng, anchored, questions=700, runs=150, founder=0.8, margin=0.05):
    """Return the mean loss in points; for 9 questions in 10 the difficulty is common to all models."""

    def evaluate(rate):
        own = np.where(rng.random((runs, questions)) < 0.9, common, rng.random((runs, questions)))
        return (own < np.reshape(rate, (-1, 1))).astype(float)

    now = np.full(runs, founder)
    for _ in range(10):
        common = rng.random((runs, questions))
        proposed, *references = evaluate(now - 0.02), evaluate(now), *([evaluate(founder)] if anchored else [])
        passed = np.all([passes(proposed - reference, margin) for reference in references], axis=0)
        now = np.where(passed, now - 0.02, now)
    return float(100 * (founder - now).mean())


def test_what_was_never_known_cannot_be_forgotten():
    evidence = draw_evidence(np.random.default_rng(5), candidate=0.5, incumbent=(0.5, 0.5, 0.5, 0.0), questions=400)
    reason = Retention().judge(evidence).reasons[3]
    assert reason.passed
    assert reason.text == "band length 4: the incumbent solves 0.0% of 100, less than 5 points: nothing to forget"


def test_a_band_with_too_few_questions_fails_and_says_so():
    rng = np.random.default_rng(6)
    few = draw_evidence(rng, candidate=1.0, incumbent=1.0, questions=160)
    reason = Retention().judge(few).reasons[0]
    assert not reason.passed
    assert "on 40 questions" in reason.text
    assert "too few questions for any candidate to pass: an unchanged candidate needs about 87" in reason.text
    middling = draw_evidence(rng, candidate=0.8, incumbent=0.8, questions=160, shared=1.0)
    assert "; too few questions: an unchanged candidate needs about 87" in Retention().judge(middling).reasons[0].text


def test_a_band_without_questions_fails():
    band = np.zeros(200, dtype=np.int64)
    score = make_score(np.ones(200, dtype=bool), band, 2)
    decision = Retention().judge(Evidence((score,), score, score, 1))
    assert [reason.passed for reason in decision.reasons] == [True, False]
    assert decision.summary == "retention against the incumbent: band length 2: no questions, so nothing is shown"


def test_an_exam_without_bands_is_refused():
    evidence = draw_evidence(np.random.default_rng(7))
    scores = [replace(score, band_names=()) for score in (*evidence.candidate, evidence.incumbent, evidence.founder)]
    assert not Retention().judge(Evidence(tuple(scores[:3]), scores[3], scores[4], 1)).promote


def test_an_unchanged_candidate_with_the_needed_questions_passes():
    n = questions_needed(0.05, 0.05, discordant=0.0)
    score = make_score(np.ones(n, dtype=bool), np.zeros(n, dtype=np.int64), 1)
    assert Retention().judge(Evidence((score,), score, score, 1)).promote


@pytest.mark.parametrize(("margin", "gain"), [(0.03, 0.0), (0.05, 0.0), (0.03, 0.02)])
def test_questions_needed_keeps_its_promise(margin, gain):
    rng = np.random.default_rng(8)
    n = questions_needed(margin, 0.05, gain=gain)
    x = rng.choice([-1.0, 0.0, 1.0], size=(600, n), p=[(0.1 - gain) / 2, 0.9, (0.1 + gain) / 2])
    assert 0.88 <= passes(x, margin).mean() <= 0.97


def test_questions_needed_refuses_what_cannot_be():
    for settings in ({"margin": 0.0}, {"alpha": 1.0}, {"power": 0.0}, {"gain": -0.05}, {"gain": 0.2}):
        with pytest.raises(ValueError, match="must be"):
            questions_needed(**settings)
    with pytest.raises(ValueError, match="no number of questions"):
        questions_needed(0.0001, discordant=1.0)


def test_options_are_checked():
    assert create({}) == Retention()
    assert create({"margin": 0.03, "against": "founder"}) == Retention(0.03, "founder")
    bad = ({"margin": 0}, {"margin": 1}, {"alpha": 0}, {"alpha": 1.5}, {"against": "parent"}, {"band": 1})
    for options in (*bad, {"margin": "3 points"}, {"margin": True}, {"margin": math.nan}, {"against": 3}):
        with pytest.raises(BadInput, match="retention gate"):
            create(options)
