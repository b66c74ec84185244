"""Conformance suite for gates: any gate, and any plugin's, must fail closed, repeat itself and give reasons.

Use it by subclassing in a test module; pytest collects the inherited checks::

    class TestMyGate(GateConformance):
        def gate(self) -> Gate:
            return MyGate()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from instar.contracts.evidence import Decision, Evidence, Footprint, Provenance, Score
from instar.contracts.gate import Gate


def draw_evidence(
    rng: np.random.Generator,
    *,
    candidate: float | Sequence[float] = 0.9,
    incumbent: float | Sequence[float] = 0.5,
    founder: float | Sequence[float] = 0.1,
    questions: int = 2000,
    bands: int = 4,
    seeds: int = 3,
    shared: float = 0.9,
    test: int = 1,
    incumbent_replicas: int = 3,
) -> Evidence:
    """Draw evidence on right-or-wrong questions, for tests and simulations.

    Args:
        rng: draws everything.
        candidate: probability of solving a question, for all bands or for each.
        incumbent: likewise.
        founder: likewise.
        questions: how many, spread evenly over the bands.
        bands: how many bands of task lengths; band b holds tasks of length b + 1.
        seeds: training seeds of the candidate.
        shared: share of questions whose difficulty is common to all models; the others go by each model's luck.
        test: how many candidates have been judged, this one included.
        incumbent_replicas: training seeds of the incumbent's design, as good as the incumbent.
    """
    band = np.arange(questions) % bands
    common = rng.random(questions)

    def evaluate(success: float | Sequence[float]) -> Score:
        own = np.where(rng.random(questions) < shared, common, rng.random(questions))
        solved = own < np.broadcast_to(np.asarray(success, dtype=np.float64), (bands,))[band]
        return make_score(solved, band, bands)

    return Evidence(
        candidate=tuple(evaluate(candidate) for _ in range(seeds)),
        incumbent=evaluate(incumbent),
        founder=evaluate(founder),
        test=test,
        incumbent_replicas=tuple(evaluate(incumbent) for _ in range(incumbent_replicas)),
        footprint=Footprint(2**20, 1.0, 10.0),
        incumbent_footprint=Footprint(2**20, 1.0, 10.0),
        provenance=Provenance(1000, 0),
        incidents=(),
    )


def make_score(solved: npt.NDArray[np.bool_], band: npt.NDArray[np.int64], bands: int) -> Score:
    """Return a right-or-wrong score from `solved` (N,) and `band` (N,)."""
    names = tuple(f"length {index + 1}" for index in range(bands))
    return Score(solved.astype(np.float64), solved, band.astype(np.float64) + 1.0, band.astype(np.int64), names)


class GateConformance:
    """What every gate must do. Subclass it, and say which gate to check."""

    def gate(self) -> Gate:
        """Return the gate to check."""
        raise NotImplementedError

    def evidence(self) -> Evidence:
        """Return evidence that the gate passes: by default a candidate far better than all before it."""
        return draw_evidence(np.random.default_rng(20261122))

    def test_passes_where_nothing_speaks_against_it(self) -> None:
        """A gate that can never pass guards nothing."""
        decision = self.gate().judge(self.evidence())
        assert decision.promote, decision.summary

    def test_gives_reasons_in_words_and_numbers(self) -> None:
        """Reasons name the gate, say something, and hold finite numbers that the ledger can keep."""
        assert self.gate().name
        _check_reasons(self.gate().judge(self.evidence()))

    def test_repeats_itself(self) -> None:
        """The same evidence gives the same decision, from the same gate and from a new one."""
        gate = self.gate()
        decisions = [gate.judge(self.evidence()), gate.judge(self.evidence()), self.gate().judge(self.evidence())]
        assert decisions[0] == decisions[1] == decisions[2]

    def test_leaves_the_evidence_alone(self) -> None:
        """Judging changes no array of the evidence."""
        before, after = self.evidence(), self.evidence()
        self.gate().judge(after)
        for old, new in zip(_scores(before), _scores(after), strict=True):
            for name in ("values", "solved", "lengths", "bands"):
                assert np.array_equal(getattr(old, name), getattr(new, name), equal_nan=name == "lengths"), name

    def test_fails_closed(self) -> None:
        """Evidence that is missing, malformed or unpaired is refused with a reason, and never raises."""
        for name, spoil in FAULTS.items():
            decision = self.gate().judge(spoil(self.evidence()))
            assert not decision.promote, f"{name}: promoted all the same"
            _check_reasons(decision)


def _check_reasons(decision: Decision) -> None:
    assert decision.reasons, "a decision needs a reason"
    for reason in decision.reasons:
        assert reason.gate, "a reason names its gate"
        assert any(character.isalpha() for character in reason.text), "a reason is in words"
        assert all(math.isfinite(number) for number in reason.numbers.values()), f"not finite: {reason.numbers}"


def _scores(evidence: Evidence) -> tuple[Score, ...]:
    return (*evidence.candidate, evidence.incumbent, evidence.founder)


def _shortened(score: Score) -> Score:
    """Return the score without its last question."""
    kept = slice(0, score.values.size - 1)
    return replace(
        score,
        values=score.values[kept],
        solved=score.solved[kept],
        lengths=score.lengths[kept],
        bands=score.bands[kept],
    )


def _with_value(score: Score, value: float) -> Score:
    """Return the score with a value that the record would have refused, written in afterwards."""
    spoilt = replace(score, values=score.values.copy())
    spoilt.values[0] = value
    return spoilt


def _first(evidence: Evidence, spoil: Callable[[Score], Score]) -> Evidence:
    return replace(evidence, candidate=(spoil(evidence.candidate[0]), *evidence.candidate[1:]))


FAULTS: dict[str, Callable[[Evidence], Evidence]] = {
    "no seeds": lambda e: replace(e, candidate=()),
    "a seed's score is missing": lambda e: replace(e, candidate=cast(Any, (*e.candidate, None))),
    "the incumbent's score is missing": lambda e: replace(e, incumbent=cast(Any, None)),
    "the founder's score is missing": lambda e: replace(e, founder=cast(Any, None)),
    "a seed answered fewer questions": lambda e: _first(e, _shortened),
    "the incumbent answered fewer questions": lambda e: replace(e, incumbent=_shortened(e.incumbent)),
    "the founder answered fewer questions": lambda e: replace(e, founder=_shortened(e.founder)),
    "other bands": lambda e: _first(e, lambda s: replace(s, bands=s.bands[::-1].copy())),
    "other names of bands": lambda e: _first(e, lambda s: replace(s, band_names=s.band_names[::-1])),
    "a band without a name": lambda e: replace(
        e,
        candidate=tuple(replace(s, band_names=s.band_names[:1]) for s in e.candidate),
        incumbent=replace(e.incumbent, band_names=e.incumbent.band_names[:1]),
        founder=replace(e.founder, band_names=e.founder.band_names[:1]),
    ),
    "other lengths": lambda e: _first(e, lambda s: replace(s, lengths=s.lengths + 1.0)),
    "a value is not a number": lambda e: _first(e, lambda s: _with_value(s, math.nan)),
    "a value is infinite": lambda e: _first(e, lambda s: _with_value(s, math.inf)),
    "a value is above 1": lambda e: _first(e, lambda s: _with_value(s, 1.5)),
    "the incumbent's value is not a number": lambda e: replace(e, incumbent=_with_value(e.incumbent, math.nan)),
    "solved is not true or false": lambda e: _first(e, lambda s: replace(s, solved=cast(Any, s.solved * 2.0))),
    "a seed replica answered fewer questions": lambda e: replace(
        e, incumbent_replicas=(*(e.incumbent_replicas or ()), _shortened(e.incumbent))
    ),
    "a seed replica's score is missing": lambda e: replace(e, incumbent_replicas=cast(Any, (None,))),
    "a safeguard is not a number": lambda e: _first(e, lambda s: replace(s, safeguards={"entropy": math.nan})),
    "an earlier candidate's metric is not a number": lambda e: replace(e, earlier=((0.5, math.nan),)),
    "no attempt has been counted": lambda e: replace(e, attempt=0),
    "no test has been counted": lambda e: replace(e, test=0),
    "the count of tests is not whole": lambda e: replace(e, test=cast(Any, 1.5)),
}
"""Ways in which evidence cannot be judged, by name."""
