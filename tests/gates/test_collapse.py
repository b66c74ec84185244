from dataclasses import replace

import numpy as np
import pytest

from instar.contracts.errors import BadInput
from instar.contracts.evidence import Provenance
from instar.contracts.lab import Safeguard
from instar.gates.collapse import Collapse, create
from instar.testing.gate import GateConformance, draw_evidence
from tests.gates import ngrams

TYPES = Safeguard("types", 5.0, "both")
FIT = Safeguard("fit", 0.05, "both")


def guarded(rng, types=(100.0, 100.0, 100.0), fit=(0.5, 0.5, 0.5), questions=400):
    """Evidence with safeguards of the candidate, the incumbent and the founder."""
    evidence = draw_evidence(rng, questions=questions)

    def having(score, who):
        noise = np.clip(rng.normal(fit[who], 0.1, questions), 0.0, 1.0)
        return replace(score, safeguards={"types": types[who], "fit": noise})

    return replace(
        evidence,
        candidate=tuple(having(score, 0) for score in evidence.candidate),
        incumbent=having(evidence.incumbent, 1),
        founder=having(evidence.founder, 2),
    )


class TestConformance(GateConformance):
    def gate(self):
        return Collapse(safeguards=(TYPES, FIT))

    def evidence(self):
        return guarded(np.random.default_rng(1))


def test_replacing_data_by_own_samples_is_stopped_and_accumulating_beside_real_data_passes():
    """A 5-gram character model on a made language: figures by `python -m tests.gates.ngrams`."""
    replaced, accumulated = ngrams.live(False, 3), ngrams.live(True, 3)
    assert not any(passed for _, passed, _ in replaced[2:])  # stopped at the second generation at the latest
    assert all(passed for _, passed, _ in accumulated)
    bits = [-np.log2(line[-1][0].values).mean() for line in (replaced, accumulated)]
    assert bits[0] > bits[1] + 0.5  # it has really collapsed
    assert "held-out fit" in replaced[-1][2]
    assert "tail coverage" in replaced[-1][2]


@pytest.mark.parametrize(("share", "passes"), [(0.0, True), (0.5, True), (0.51, False), (1.0, False)])
def test_ungrounded_data_are_bounded(share, passes):
    evidence = replace(draw_evidence(np.random.default_rng(2)), provenance=Provenance(100, round(100 * share)))
    decision = Collapse().judge(evidence)
    assert decision.promote == passes
    assert f"{share:.1%} of 100 pieces of training data were made and judged by models alone" in decision.summary
    assert Collapse(ungrounded=1.0).judge(evidence).promote
    assert "a baseline" in Collapse(ungrounded=1.0).judge(evidence).summary


def test_without_data_there_is_nothing_to_bound_and_unknown_data_are_refused():
    evidence = draw_evidence(np.random.default_rng(3))
    assert Collapse().judge(replace(evidence, provenance=Provenance(0, 0))).promote
    for provenance in (None, Provenance(10, 11), Provenance(10, -1)):
        assert not Collapse().judge(replace(evidence, provenance=provenance)).promote


@pytest.mark.parametrize("against", ["incumbent", "founder"])
def test_a_figure_of_all_answers_is_compared_with_its_reference_alone(against):
    gate = Collapse(safeguards=(Safeguard("types", 5.0, against),))
    low = {"incumbent": (94.0, 100.0, 10.0), "founder": (94.0, 10.0, 100.0)}[against]
    assert not gate.judge(guarded(np.random.default_rng(4), types=low)).promote
    assert gate.judge(guarded(np.random.default_rng(4), types=(95.0, *low[1:]))).promote


def test_where_lower_is_better_a_rise_is_the_loss():
    gate = Collapse(safeguards=(Safeguard("types", 5.0, "both", higher_is_better=False),))
    assert gate.judge(guarded(np.random.default_rng(5), types=(50.0, 100.0, 100.0))).promote
    assert not gate.judge(guarded(np.random.default_rng(5), types=(106.0, 100.0, 100.0))).promote


def test_a_figure_per_question_is_tested():
    rng = np.random.default_rng(6)
    gate = Collapse(safeguards=(FIT,))
    assert np.mean([gate.judge(guarded(rng)).promote for _ in range(50)]) >= 0.95
    lost = [gate.judge(guarded(rng, fit=(0.45, 0.5, 0.3))).promote for _ in range(200)]
    assert np.mean(lost) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_a_missing_figure_means_no():
    evidence = guarded(np.random.default_rng(7))
    gate = Collapse(safeguards=(TYPES, FIT))
    without = replace(evidence.incumbent, safeguards={"types": 1.0})
    assert "fit: missing" in gate.judge(replace(evidence, incumbent=without)).summary
    single = replace(evidence.incumbent, safeguards={"types": 1.0, "fit": 0.5})
    assert "fit: missing" in gate.judge(replace(evidence, incumbent=single)).summary


def test_a_safeguard_that_could_not_be_shown_is_said_before_the_run():
    outline = guarded(np.random.default_rng(8), questions=40).incumbent
    assert "40 questions cannot show" in (Collapse(safeguards=(FIT,)).impossible(outline) or "")
    assert Collapse(safeguards=(FIT,)).impossible(guarded(np.random.default_rng(8)).incumbent) is None
    for margin in (0.0, 1.0):
        gate = Collapse(safeguards=(replace(FIT, margin=margin),))
        assert "cannot be tested" in (gate.impossible(outline) or "")
        assert not gate.judge(guarded(np.random.default_rng(8))).promote


def test_options_are_checked():
    assert create({}) == Collapse()
    assert create({"ungrounded": 0.2, "safeguards": [TYPES]}) == Collapse(0.2, (TYPES,))
    odd = (replace(TYPES, margin=-1.0), replace(TYPES, margin=float("nan")), replace(TYPES, against="parent"), "types")
    for options in (*({"safeguards": [safeguard]} for safeguard in odd), {"ungrounded": 0}, {"ungrounded": 1.5},
                    {"alpha": 1}, {"share": 0.5}, {"safeguards": "types"}):  # fmt: skip
        with pytest.raises(BadInput, match=r"collapse gate|safeguard"):
            create(options)
