"""Every dial is filled from the record or explained; a stall is attributed by what the record shows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from instar.contracts.archive import Account
from instar.contracts.records import Trial, TrialState, Usage
from instar.report import closeness, history, stalls
from instar.report.closeness import Beside

NAMES = [
    "horizon_50", "doubling_seconds", "judgement_gap", "recursion_gain", "authorship", "touches_per_promotion",
    "idle_share", "work_within_horizon", "grounded_share", "retention", "incidents_per_1000_jobs",
    "doubling_cpu_seconds",
]  # fmt: skip


@pytest.fixture
def told(finished_run):
    return history.read(finished_run)


def by_name(told, others=Beside()):  # noqa: B008 (frozen)
    return {dial.key: dial for dial in closeness.dials(told, others, "moves")}


def test_every_dial_is_filled_or_explained(told, make_run):
    for run in (told, history.read(make_run(0)), history.read(make_run(1))):
        found = closeness.dials(run, Beside(), "moves")
        assert [dial.key for dial in found] == NAMES
        for dial in found:
            json.dumps(dial.to_json(), allow_nan=False)
            assert dial.caveat
            assert dial.change
            assert (dial.figure.value is None) == (dial.figure.status == "not measured")


def test_a_doubling_costs_what_was_spent_over_the_doublings(told):
    found = by_name(told)
    top = told.generations[8]  # the first that reached the longest length
    first, last = (one.estimates["horizon_50"]["value"] for one in (told.generations[0], top))
    doublings = 4.954  # log2 of 31 over 1
    assert last / first == pytest.approx(2**doublings, rel=1e-3)
    taken = found["doubling_cpu_seconds"].figure
    assert taken.value == pytest.approx(top.run_cpu_seconds / doublings, rel=1e-3)
    assert taken.high == pytest.approx(top.run_cpu_seconds / 4.493, rel=1e-3)  # MOVER: 4.954 - hypot(.263, .379)
    assert taken.low is None  # "below 1.3": the founder may have been worse, and the doublings more
    assert "only longer tasks" in found["horizon_50"].change


def test_the_judgement_gap_is_the_oracles_lead_over_judged_rounds(told, tmp_path):
    rounds = [{"generation": n, "oracle": 0.5 + gap, "incumbent": 0.5} for n, gap in enumerate([0.1, 0.3, 0.2])]
    judged = {"lab": "tiles", "gap": {"rounds": [*rounds, {"generation": 3, "oracle": 1.0, "incumbent": None}]}}
    (tmp_path / "run" / "report").mkdir(parents=True)
    (tmp_path / "run" / closeness.JUDGED).write_text(json.dumps(judged))
    closeness.recursion_file(tmp_path, "tiles").write_text(
        json.dumps({"lab": "tiles", "way": "table", "r": {"value": 1.3, "low": 1.1, "high": 1.6, "n": 20,
                                                          "status": "measured", "reading": "r > 1"}})
    )  # fmt: skip
    others = closeness.beside(tmp_path / "run", "tiles")
    found = by_name(told, others)
    gap = found["judgement_gap"]
    assert gap.figure.value == pytest.approx(0.2)
    assert gap.figure.n == 3
    assert gap.figure.low < 0.2 < gap.figure.high
    assert "generation 1" in gap.change
    assert found["recursion_gain"].figure.value == 1.3
    assert "r > 1" in found["recursion_gain"].caveat
    assert closeness.beside(tmp_path / "run", "another") == Beside()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"lab": "other"}'])
def test_what_is_damaged_counts_as_not_measured(tmp_path, content):
    (tmp_path / "report").mkdir()
    (tmp_path / closeness.JUDGED).write_text(content)
    assert closeness.beside(tmp_path, "tiles").judged is None


def test_the_page_has_the_section_and_json_the_dials(finished_run, tmp_path):
    found = closeness.read(finished_run, "moves")
    assert list(found["closeness"]) == NAMES
    assert set(found["stall"]) == {"stalled", "short_of", "why"}
    blocks = list(closeness.section(history.read(finished_run), Beside(), {}, "moves"))
    assert blocks[0].text.startswith("How close is this loop to closing")


# --- stalls ---------------------------------------------------------------------------------------------------------


def went_on(told, seconds):
    """Return the same run, so many seconds after its last promotion."""
    whole = told.generations[-1].run_seconds + seconds
    return replace(told, account=Account(settled=told.account.settled, wall_seconds=whole))


def finite(told):
    """Return the same run with a newest horizon inside the lengths tried."""
    last = told.generations[-1]
    figure = {"value": 20.0, "low": 18.0, "high": 22.0, "n": 400, "status": "measured"}
    return replace(told, generations=(*told.generations[:-1], replace(last, estimates={"horizon_50": figure})))


def with_trials(told, gains):
    newest = told.generations[-1].number
    made = [Trial(1000 + n, 1000 + n, newest, 0, 0, n, TrialState.SCORED, 0.5, gain, 0.01, Usage(1.0, 1.0), "")
            for n, gain in enumerate(gains)]  # fmt: skip
    return replace(told, trials=(*told.trials, *made))


def test_a_run_that_goes_on_as_usual_has_not_stalled(told):
    assert stalls.attribute(went_on(told, 30.0), {}).stalled is False  # a promotion every 20 s is usual
    assert stalls.attribute(went_on(told, 50.0), {}).stalled is True


def test_too_few_promotions_tell_nothing(make_run):
    assert stalls.attribute(history.read(make_run(1)), {}).stalled is None


def test_an_exhausted_lab_is_short_of_exams(told):
    assert stalls.attribute(told, {"reason": "exhausted"}).short_of == "exams"
    assert stalls.attribute(went_on(told, 500.0), {}).short_of == "exams"  # "at least 31"


def test_waiting_for_persons_is_short_of_people(told):
    waited = replace(finite(told), autonomy={**told.autonomy, "idle_share_for_persons": 0.4})
    assert stalls.attribute(went_on(waited, 500.0), {}).short_of == "people"


def test_hardly_a_proposal_is_short_of_compute(told):
    assert stalls.attribute(went_on(finite(told), 500.0), {}).short_of == "compute"


def test_proposals_that_seldom_beat_their_parent_are_short_of_ideas(told):
    poor = with_trials(finite(told), [-0.1] * 18 + [0.1] * 2)
    found = stalls.attribute(went_on(poor, 500.0), {})
    assert found.short_of == "ideas"
    assert "10%" in found.why
    mixed = with_trials(finite(told), [-0.1, 0.1] * 10)
    assert stalls.attribute(went_on(mixed, 500.0), {}).short_of == ""
    assert "can't be told" in stalls.words(stalls.attribute(went_on(mixed, 500.0), {}))
