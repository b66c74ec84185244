import numpy as np
import pytest

from instar.contracts.evidence import Decision, Reason
from instar.contracts.gate import Gate
from instar.gates.collapse import Collapse
from instar.gates.compose import AllOf
from instar.gates.conduct import Conduct
from instar.gates.improvement import Improvement
from instar.gates.noise import NoiseFloor
from instar.gates.resources import Resources
from instar.gates.retention import Retention
from instar.testing.gate import GateConformance, draw_evidence


class Fixed:
    """A gate that answers, or raises, what it was told."""

    name = "fixed"

    def __init__(self, answer):
        self.answer = answer

    def judge(self, evidence):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


PASS = Decision((Reason("fixed", True, "fine"),))
FAIL = Decision((Reason("fixed", False, "not fine"),))


class TestConformance(GateConformance):
    def gate(self) -> Gate:
        gates = [Improvement(), NoiseFloor(), Retention(), Retention(against="founder"), Collapse()]
        return AllOf([*gates, Resources(), Conduct()])


def test_every_gate_must_pass_and_every_reason_is_kept():
    evidence = draw_evidence(np.random.default_rng(1))
    assert AllOf([Fixed(PASS), Fixed(PASS)]).judge(evidence).promote
    decision = AllOf([Fixed(PASS), Fixed(FAIL), Fixed(PASS)]).judge(evidence)
    assert not decision.promote
    assert [reason.passed for reason in decision.reasons] == [True, False, True]


def test_no_gates_mean_no_promotion():
    decision = AllOf([]).judge(draw_evidence(np.random.default_rng(1)))
    assert decision.summary == "all of: no promotion: there is no gate to pass"


@pytest.mark.parametrize("error", [ValueError("odd"), ZeroDivisionError("by zero"), OverflowError("big")])
def test_a_gate_that_breaks_means_no_promotion(error):
    decision = AllOf([Fixed(PASS), Fixed(error)]).judge(draw_evidence(np.random.default_rng(1)))
    assert not decision.promote
    assert f"fixed: no promotion: the gate could not compute a verdict ({type(error).__name__}" in decision.summary


def test_a_bug_in_a_gate_is_not_hidden():
    with pytest.raises(AttributeError):
        AllOf([Fixed(AttributeError("bug"))]).judge(draw_evidence(np.random.default_rng(1)))


def test_a_gate_without_reasons_means_no_promotion():
    decision = AllOf([Fixed(PASS), Fixed(Decision(()))]).judge(draw_evidence(np.random.default_rng(1)))
    assert decision.summary == "fixed: no promotion: the gate gave no reason"
