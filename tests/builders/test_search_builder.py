"""Optuna as a builder: it finds what is good, learns from everyone, and stays out of the conductor's way."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from instar.builders import evidence, incumbent, sampling, search
from instar.builders.lessons import Lesson, targets
from instar.builders.sampler_process import SamplerProcess
from instar.builders.sampling import DesignRow, Request
from instar.builders.search import SearchBuilder
from instar.builders.uniform import UniformBuilder
from instar.contracts.builder import Builder, BuilderContext
from instar.contracts.errors import BadInput, MissingPart
from instar.contracts.records import Author, Design, Floats, Observation, Trial, TrialState
from instar.contracts.space import Choice, Integer, Real, Space
from instar.testing.builder import World, drained, first_design, generation, make_brief, play

SEEDS = range(12)


def made(sampler: str, seed: int = 0) -> tuple[SearchBuilder, World]:
    world = World(seed)
    return SearchBuilder("world", world.space, np.random.default_rng(seed), sampler), world


def late_quality(make: type[SearchBuilder] | type[UniformBuilder], *more: str) -> Floats:
    """Return the mean true quality of the last eight proposals in each world, (W,)."""
    found = []
    for seed in SEEDS:
        world = World(seed)
        builder: Builder = make("world", world.space, np.random.default_rng(100 + seed), *more)
        found.append(play(builder, world, np.random.default_rng(200 + seed)).qualities(world)[-8:].mean())
    return np.array(found)


@pytest.fixture(scope="module")
def by_chance() -> Floats:
    return late_quality(UniformBuilder)


@pytest.mark.parametrize("sampler", ["tpe", "cma"])
def test_it_proposes_better_designs_than_chance(sampler: str, by_chance: Floats) -> None:
    saved = late_quality(SearchBuilder, sampler) - by_chance
    assert saved.mean() - 2.2 * saved.std(ddof=1) / np.sqrt(len(saved)) > 0.1


def test_it_begins_where_it_starts_from_and_says_why() -> None:
    builder, _ = made("tpe")
    brief = make_brief(generation(0, first_design(builder)), count=2)
    first, second = builder.propose(brief)
    assert first.design.parameters == brief.incumbent.design.parameters
    assert first.why.startswith("where it starts from: the same recipe")
    assert second.why.startswith("TPE: ")
    assert "from 0 trials" in second.why
    assert builder.propose(replace(brief, count=1, pending=[first.design]))[0].design != first.design


def test_it_learns_from_what_others_proposed() -> None:
    """Trials of a good corner and a bad one, by another author: TPE goes to the good corner."""
    builder, world = made("tpe")
    founder = generation(0, first_design(builder))
    template, rng = builder.propose(make_brief(founder))[0], np.random.default_rng(1)
    for number in range(1, 41):
        good = number % 4 == 0
        axis = rng.uniform(0.8, 1.0) if good else rng.uniform(0.0, 0.7)
        drawn = {**world.space.sample(rng), "dropout": 0.5 * axis}
        proposal = replace(template, number=number, author=Author("random"), design=Design("world", drawn))
        seen = world.observe(proposal, number, 1, 0.3, rng)
        trial = replace(seen.trial, state=type(seen.trial.state).SCORED, gain=0.2 if good else -0.1, noise=0.01)
        builder.observe(replace(seen, trial=trial))
    chosen = drained(builder, make_brief(founder, count=12))[1:]
    assert np.mean([float(one.design.parameters["dropout"]) > 0.4 for one in chosen]) > 0.7


def test_a_restart_gives_tpe_the_same_evidence() -> None:
    builder, world = made("tpe")
    brief, rng, seen = make_brief(generation(0, first_design(builder))), np.random.default_rng(1), []
    for number in range(1, 21):
        seen.append(world.observe(builder.propose(replace(brief, first=number))[0], number, 1, 0.3, rng))
        builder.observe(seen[-1])
    again, _ = made("tpe")
    for observation in seen:
        again.observe(observation)
    again._rng, builder._rng = np.random.default_rng(9), np.random.default_rng(9)
    assert again.propose(brief) == builder.propose(brief)


def test_cma_moves_its_distribution_and_a_later_life_begins_where_the_best_were() -> None:
    builder, world = made("cma", seed=3)
    founder = generation(0, first_design(builder))
    before = builder.advice(make_brief(founder))
    assert before.source == "nothing yet"
    play(builder, world, np.random.default_rng(0), generations=6, trials=8)
    advice = builder.advice(make_brief(founder))
    assert advice.source == "its own distribution"
    assert max(advice.deviation) < 0.3
    assert np.allclose(np.sqrt(np.diag(advice.covariance)), advice.deviation)
    assert "one deviation spans" in advice.text
    later = SearchBuilder("world", world.space, np.random.default_rng(5), "cma")
    later._memory = builder._memory  # what `observe` would give back, without the sampler's notes
    near = [
        world.space.encode([one.design.parameters])[0][:4] for one in drained(later, make_brief(founder, count=13))[1:]
    ]
    rows = evidence.worths(builder._memory.lessons, 1)
    best = world.space.encode([parameters for parameters, worth in sorted(rows, key=lambda row: -row[1])[:5]])[:, :4]
    assert np.abs(np.mean(near, axis=0) - best.mean(axis=0)).max() < 0.2


# --- evidence -------------------------------------------------------------------------------------------------------


def lesson(number: int, x: float, rung: int, gain: float | None, headroom: float = 0.5, parent: int = 0) -> Lesson:
    return Lesson(number, {"x": x}, parent, rung, headroom, gain, 0.0)


def test_a_design_counts_with_its_top_rung_averaged_over_seeds() -> None:
    lessons = [lesson(1, 0.1, 0, 0.3), lesson(2, 0.1, 1, 0.1), lesson(3, 0.1, 1, 0.2), lesson(4, 0.2, 1, 0.05)]
    assert evidence.worths(lessons, 1) == [({"x": 0.1}, pytest.approx(0.3)), ({"x": 0.2}, pytest.approx(0.1))]


def test_generations_compare_by_share_of_headroom() -> None:
    early, late = lesson(1, 0.1, 1, 0.2, headroom=0.8), lesson(2, 0.2, 1, 0.02, headroom=0.08, parent=5)
    (_, first), (_, second) = evidence.worths([early, late], 1)
    assert first == pytest.approx(second)


def test_a_failed_design_counts_as_the_worst_on_any_rung() -> None:
    lessons = [lesson(1, 0.1, 1, 0.2), lesson(2, 0.2, 0, None), lesson(3, 0.3, 1, -0.4)]
    found = {parameters["x"]: worth for parameters, worth in evidence.worths(lessons, 1)}
    assert found[0.2] == found[0.3] == min(targets(lessons)[0])


def test_lower_rungs_are_translated_without_bias_from_choosing_who_climbs() -> None:
    """The top is 0.05 + 1.5 x the lower rung's figure plus noise; only the best third climbs."""
    rng, lessons, truth = np.random.default_rng(0), [], {}
    low = rng.normal(0.0, 0.1, 240)
    for index, figure in enumerate(low):
        squeezed = figure if figure > 0 else -np.log1p(-figure)
        top = 0.05 + 1.5 * squeezed
        lessons.append(lesson(2 * index, float(index), 0, 0.5 * float(figure)))
        if figure > np.quantile(low, 2 / 3):
            lessons.append(lesson(2 * index + 1, float(index), 1, 0.5 * float(top + rng.normal(0.0, 0.03))))
        else:
            truth[float(index)] = top
    found = {float(parameters["x"]): worth for parameters, worth in evidence.worths(lessons, 1)}
    errors = np.array([found[index] - expected for index, expected in truth.items()])
    assert abs(errors.mean()) < 0.03


# --- the samplers' process ------------------------------------------------------------------------------------------

SMALL = Space({"x": Real(0.0, 1.0), "n": Integer(1, 8, log=True), "kind": Choice(("a", "b", True))})


def rows(count: int) -> list[DesignRow]:
    rng = np.random.default_rng(0)
    return [DesignRow(one := SMALL.sample(rng), -abs(float(one["x"]) - 0.3)) for _ in range(count)]


def test_a_request_survives_its_way_to_the_process() -> None:
    request = Request("cma", SMALL, [*rows(3), DesignRow(rows(1)[0].parameters, None, {"a": 1})], rows(2), 2, 7)
    assert sampling.from_json(sampling.to_json(request)) == request


def test_same_request_same_answer_and_nothing_twice() -> None:
    for sampler in ("tpe", "cma"):
        request = Request(
            sampler, Space({"n": Integer(1, 8)}), [DesignRow({"n": 3}, 0.1), DesignRow({"n": 4}, None)], (), 5, 7
        )
        found = sampling.suggest(request)
        assert found == sampling.suggest(request)
        assert len({row.parameters["n"] for row in found} | {4}) == 6


def test_a_small_space_that_is_used_up_still_gets_an_answer() -> None:
    only = Space({"kind": Choice(("a",))})
    request = Request("tpe", only, [DesignRow({"kind": "a"}, None)], (), 1, 0)
    assert sampling.suggest(request)[0].parameters == {"kind": "a"}


def test_importing_builders_and_searching_brings_no_torch_and_no_chatter() -> None:
    code = (
        "import sys; import instar.builders, instar.builders.search; assert 'optuna' not in sys.modules\n"
        "from instar.builders.search import SearchBuilder; from instar.testing.builder import *\n"
        "w = World(0)\n"
        "for s in ('tpe', 'cma', 'gp'):\n"
        "    b = SearchBuilder('world', w.space, np.random.default_rng(0), s)\n"
        "    b.propose(make_brief(generation(0, first_design(b)), count=12))\n"
        "assert 'optuna' in sys.modules and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_gaussian_process_thinks_elsewhere_and_finds_the_optimum() -> None:
    pytest.importorskip("torch")
    space = Space({"x": Real(0.0, 1.0)})
    builder = SearchBuilder("world", space, np.random.default_rng(0), "gp")
    try:
        points = [DesignRow({"x": x}, -((x - 0.3) ** 2)) for x in np.linspace(0.0, 1.0, 12)]
        thinker = builder._thinker
        assert thinker is not None
        thinker.ask(Request("gp", space, points, (), 1, 3))
        assert builder.waits_for == "search:gp"
        wait_for(lambda: thinker.answered)
        assert builder.waits_for is None
        (found,) = thinker.take()
        assert abs(float(found.parameters["x"]) - 0.3) < 0.1
    finally:
        builder.close()
        builder.close()


def test_while_it_thinks_nothing_comes_and_then_a_design_that_is_new() -> None:
    """The way through the process, with a quick sampler behind it."""
    builder, world = made("gp")
    builder._sampler = "tpe"
    try:
        founder, rng = generation(0, first_design(builder)), np.random.default_rng(0)
        template = builder.propose(make_brief(founder))[0]
        for number in range(1, 15):
            design = Design("world", dict(world.space.sample(rng)))
            builder.observe(world.observe(replace(template, number=number, design=design), number, 1, 0.3, rng))
        brief = make_brief(founder, pending=[founder.design])
        assert builder.propose(brief) == []
        assert builder.waits_for == "search:gp"
        (first,) = drained(builder, brief)
        assert builder.waits_for is None
        assert (str(first.author), first.why[:6]) == ("search:gp", "TPE: w")
        many = drained(builder, replace(brief, count=3, first=4))
        assert len({one.design.digest for one in many} - {founder.design.digest}) == 3
        assert [one.number for one in many] == [4, 5, 6]
        builder._thinker.ask(builder._request(builder._rows(brief), 1))  # type: ignore[union-attr]
        wait_for(lambda: builder.waits_for is None)
        answer = DesignRow(many[0].design.parameters, None)
        builder._thinker.take = lambda: [answer]  # type: ignore[method-assign, union-attr]
        assert builder.propose(replace(brief, pending=[founder.design, many[0].design])) == []  # begun meanwhile
        assert builder.waits_for == "search:gp"
    finally:
        builder.close()


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_process_that_dies_is_one_clear_error_and_the_next_question_starts_another() -> None:
    thinker = SamplerProcess("search:gp")
    try:
        thinker.ask(Request("gp", SMALL, [], (), 1, 0))
        assert thinker._child is not None
        first = thinker._child.pid
        thinker._child.kill()
        thinker._child.wait()
        thinker._heard = b""
        with pytest.raises(MissingPart, match="process of builder 'search:gp' ended"):
            thinker.take()
        thinker.ask(Request("tpe", SMALL, rows(3), (), 2, 0))
        assert thinker._child.pid != first
        wait_for(lambda: thinker.answered)
        assert len(thinker.take()) == 2
    finally:
        thinker.close()


def test_an_unknown_sampler_and_a_missing_package_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in (("best",), ("tpe", "gp")):
        with pytest.raises(BadInput, match="no sampler"):
            search.create("world", SMALL, np.random.default_rng(0), BuilderContext(arguments=given))
    with pytest.raises(BadInput, match="unknown key"):
        search.create("world", SMALL, np.random.default_rng(0), BuilderContext(options={"seed": 1}))
    monkeypatch.setattr(search, "find_spec", lambda name: None if name == "torch" else object())
    search.create("world", SMALL, np.random.default_rng(0), BuilderContext(arguments=("cma",)))
    with pytest.raises(MissingPart, match="needs the package 'torch'"):
        search.create("world", SMALL, np.random.default_rng(0), BuilderContext(arguments=("gp",)))


def test_a_design_that_was_refused_as_tried_is_not_proposed_again() -> None:
    space = Space({"k": Integer(1, 1000)})
    for make in (search.create, incumbent.create):
        builder = make("world", space, np.random.default_rng(0))
        own = {name: allowed.from_unit(0.0) for name, allowed in builder.space.ranges.items()}
        same = Design("world", {"k": 2, **own}, {"a.py": "x = 1\n"})
        brief = make_brief(generation(0, same))
        (proposal,) = builder.propose(brief)
        assert proposal.design.parameters["k"] == 2
        refused = Trial(1, proposal.number, 0, 0, 0, 0, state=TrialState.DUPLICATE)
        builder.observe(Observation(proposal, refused, 0.5))
        (following,) = builder.propose(brief)
        assert following.design.parameters["k"] != 2
