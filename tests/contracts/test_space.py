"""Ranges and spaces: what is drawn lies inside, places in the unit cube invert, and problems are named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.contracts.errors import BadInput
from instar.contracts.space import Choice, Integer, Range, Real, Space, Value

units = st.floats(0.0, 1.0)


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    log = draw(st.booleans())
    if draw(st.booleans()):
        low = draw(st.integers(1 if log else -1000, 1000))
        return Integer(low, low + draw(st.integers(1, 10_000)), log)
    low = draw(st.floats(1e-9 if log else -1e6, 1e6))
    return Real(low, low + draw(st.floats(1e-3, 1e6)) * max(1.0, abs(low)), log)


@given(ranges(), units)
def test_every_place_of_a_range_is_a_value_in_it(allowed: Range, unit: float) -> None:
    value = allowed.from_unit(unit)
    assert allowed.problem(value) is None
    assert -1e-9 <= allowed.to_unit(value) <= 1.0 + 1e-9


@given(ranges(), units)
def test_a_place_and_its_value_name_each_other(allowed: Range, unit: float) -> None:
    value = allowed.from_unit(unit)
    again = allowed.from_unit(min(1.0, max(0.0, allowed.to_unit(value))))
    assert again == pytest.approx(value, rel=1e-6, abs=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0), st.floats(0.0, 10.0))
def test_samples_and_neighbours_lie_in_the_space(seed: int, share: float, scale: float) -> None:
    rng, space = np.random.default_rng(seed), _space()
    sample = space.sample(rng)
    space.check(sample, "sample")
    neighbour = space.vary(sample, share, scale, rng)
    space.check(neighbour, "neighbour")
    encoded = space.encode([sample, neighbour])
    assert encoded.shape == (2, 1 + 1 + 3)
    assert (encoded >= -1e-9).all()
    assert (encoded <= 1.0 + 1e-9).all()


@given(st.integers(0, 2**32 - 1), st.integers(0, 9))
def test_many_samples_are_those_that_come_one_by_one(seed: int, count: int) -> None:
    space, one, other = _space(), np.random.default_rng(seed), np.random.default_rng(seed)
    together, apart = space.samples(count, one), [space.sample(other) for _ in range(count)]
    assert [list(design) for design in together] == [list(design) for design in apart]
    for mine, theirs in zip(together, apart, strict=True):
        space.check(mine, "sample")
        assert all(type(mine[name]) is type(theirs[name]) for name in mine)
        assert mine["kind"] == theirs["kind"]
        assert space.encode([mine])[0] == pytest.approx(space.encode([theirs])[0], abs=0.01)


def test_neighbours_change_what_they_should_as_often_as_they_should() -> None:
    space, rng = _space(), np.random.default_rng(0)
    start: dict[str, Value] = {"width": 4, "rate": 1e-3, "kind": "a"}
    near = space.neighbours([start] * 4_000, 0.3, 0.05, rng)
    for design in near[:50]:
        space.check(design, "neighbour")
    changed = {name: np.mean([design[name] != start[name] for design in near]) for name in start}
    axes = len(space.ranges)
    hit = 1 / axes + (1 - 1 / axes) * 0.3  # chosen for certain, or by chance
    assert changed["rate"] == pytest.approx(hit, abs=0.03)
    assert changed["kind"] == pytest.approx(hit * 2 / 3, abs=0.03)  # one redraw in three is the same option
    rates = space.encode([design for design in near if design["rate"] != start["rate"]])[:, 1]
    assert np.std(rates) == pytest.approx(0.05, rel=0.1)
    kept = space.neighbours([start] * 200, 0.0, 0.05, rng)
    assert all(sum(design[name] != start[name] for name in start) <= 1 for design in kept)
    assert space.neighbours([], 0.3, 0.1, rng) == []
    assert Space({}).neighbours([{}, {}], 0.3, 0.1, rng) == [{}, {}]


def test_a_choice_tells_its_options_apart_by_type() -> None:
    choice = Choice((True, 1.0, "1"))
    assert choice.problem(True) is None
    assert choice.problem(1.0) is None
    assert choice.problem(1) == "1 is not one of True, 1.0, '1'"
    assert [choice.from_unit(unit) for unit in (0.0, 0.5, 1.0)] == [True, 1.0, "1"]


@pytest.mark.parametrize(
    ("allowed", "value", "problem"),
    [
        (Real(0.0, 1.0), float("nan"), "nan is outside"),
        (Real(0.0, 1.0), 10**400, "is outside"),
        (Real(0.0, 1.0), True, "a number in"),
        (Real(0.0, 1.0), "0.5", "a number in"),
        (Integer(1, 3), 2.0, "a whole number in"),
        (Integer(1, 3), False, "a whole number in"),
        (Integer(1, 3), 4, "4 is outside [1, 3]"),
    ],
)
def test_a_bad_value_is_told_apart(allowed: Range, value: object, problem: str) -> None:
    found = allowed.problem(value)
    assert found is not None
    assert problem in found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 9}, "here: parameter 'width': 9 is outside [1, 8]"),
        ({"depth": 1}, "here: unknown parameter 'depth'"),
        ({"width": None}, "here: parameter 'width'"),
    ],
)
def test_a_check_names_the_place_and_the_parameter(change: dict[str, object], message: str) -> None:
    sample: dict[str, object] = dict(_space().sample(np.random.default_rng(0)))
    with pytest.raises(BadInput, match="here") as caught:
        _space().check(sample | change, "here")
    assert message in str(caught.value)
    del sample["width"]
    with pytest.raises(BadInput, match="parameter 'width' is missing"):
        _space().check(sample, "here")


def test_an_empty_space_encodes_to_no_axis() -> None:
    assert Space({}).encode([{}, {}]).shape == (2, 0)


def _space() -> Space:
    return Space({"width": Integer(1, 8, log=True), "rate": Real(1e-4, 1e-2, log=True), "kind": Choice(("a", "b", 3))})


def test_many_are_placed_as_one_is() -> None:
    space = Space({"rate": Real(1e-4, 1e-1, log=True), "width": Integer(128, 512, log=True), "share": Real(-1.0, 2.0)})
    designs = [space.sample(np.random.default_rng(seed)) for seed in range(50)]
    places = [[allowed.to_unit(design[name]) for name, allowed in space.ranges.items()] for design in designs]
    assert space.encode(designs) == pytest.approx(np.array(places), abs=1e-12)
