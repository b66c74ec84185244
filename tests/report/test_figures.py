import io
from dataclasses import replace

import pytest
from matplotlib.image import imread

from instar.contracts.archive import Account
from instar.report import figures
from instar.report.history import History, read


@pytest.fixture(scope="module")
def history(finished_run):
    return read(finished_run)


def picture(png):
    assert png is not None
    found = imread(io.BytesIO(png))
    assert found[..., :3].std() > 0.01  # something is drawn
    return found


def test_every_figure_is_drawn_in_full(history):
    assert picture(figures.progress(history, unit="moves", metric="$path$ efficiency")).shape[:2] == (912, 1140)
    for draw in (figures.trials, figures.horizon, figures.lengths, figures.cost):
        assert picture(draw(history, dpi=60)).shape[1] >= 560


@pytest.mark.parametrize("generations", [-1, 0, 1])
def test_a_run_that_has_just_begun_is_drawn(make_run, generations):
    young = read(make_run(generations))
    picture(figures.progress(young, dpi=50))


def test_what_has_no_data_has_no_figure():
    assert figures.lengths(History()) is None
    assert figures.cost(History()) is None


def test_long_runs_are_drawn(history):
    many = [replace(made, number=i) for i, made in enumerate(history.generations * 10)]
    picture(figures.progress(replace(history, generations=tuple(many)), dpi=50))


def test_figures_without_values_are_left_out(history):
    bare = [
        replace(made, estimates={"metric": {"value": None}, "horizon_50": {"value": None}})
        for made in history.generations
    ]
    picture(figures.progress(replace(history, generations=tuple(bare)), dpi=50))
    picture(figures.cost(replace(history, generations=tuple(bare)), dpi=50))
    assert figures.cost(replace(history, account=Account())) is None


def test_success_by_length_is_taken_from_the_gate_against_the_incumbent(history):
    found = figures.band_success(history)
    assert sorted(found) == list(range(11))
    assert found[0]["1-4"][0] == pytest.approx(0.5)
    assert found[10]["21-31"][1] == 66
    assert list(found[3]) == ["1-4", "5-8", "9-12", "13-16", "17-20", "21-31"]
