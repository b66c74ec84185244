"""All of several gates: every one must pass, and whatever goes wrong is a reason not to promote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from instar.contracts.evidence import Decision, Evidence, Reason, Sizes
from instar.contracts.gate import Foreseeing, Gate
from instar.gates.pairing import problem, refuse


@dataclass
class AllOf:
    """Passes a candidate that every gate passes; every gate is asked, so that every reason is on record."""

    gates: Sequence[Gate]
    name: str = "all of"
    _foreseeing: Sequence[Foreseeing] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.gates = tuple(self.gates)  # for good: which of them foresee is looked at once
        self._foreseeing = [gate for gate in self.gates if isinstance(gate, Foreseeing)]

    def judge(self, evidence: Evidence) -> Decision:
        """Return all gates' reasons; no gates, evidence that cannot be judged, or a gate that breaks mean no."""
        if not self.gates:
            return refuse(self.name, "there is no gate to pass")
        fault = problem(evidence)
        if fault:
            return refuse(self.name, fault)
        return Decision(tuple(reason for gate in self.gates for reason in _ask(gate, evidence)))

    def foresee(self, sizes: Sizes) -> Reason | None:
        """Return the first reason that a gate would give whatever the exam shows, or None."""
        told = (gate.foresee(sizes) for gate in self._foreseeing)
        return next((reason for reason in told if reason is not None), None)


def _ask(gate: Gate, evidence: Evidence) -> tuple[Reason, ...]:
    """Return a gate's reasons, or the one failed reason why it has none."""
    try:
        reasons = gate.judge(evidence).reasons
    except (ValueError, ArithmeticError) as error:  # what arithmetic on odd numbers raises; bugs still surface
        reasons = ()
        why = f"the gate could not compute a verdict ({type(error).__name__}: {error})"
    else:
        why = "the gate gave no reason"
    return reasons or refuse(gate.name, why).reasons
