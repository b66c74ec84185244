"""Fits of task suites: METR's method to the digit where the answer is known, intervals by simulation, flags."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from instar.horizons.curves import OLD_RIDGE, PUBLISHED_RIDGE, Method, doubling_draws, point, read
from instar.horizons.flags import flags, sensitivity, spread
from instar.horizons.runs import Runs, draw_tasks
from instar.horizons.synthetic import Suite, Truth, bridge, runs_of

PLAIN = Method(resamples=0)


def rng(seed=0):
    return np.random.default_rng(seed)


def one_model(minutes, mean, families=None, n=1000):
    minutes, mean = np.asarray(minutes, dtype=float), np.asarray(mean, dtype=float)
    names = tuple(f"task{i}" for i in range(minutes.size))
    known, family = np.unique(np.asarray(families or names), return_inverse=True)
    task = np.repeat(np.arange(minutes.size), n)
    score = (np.tile(np.arange(n), minutes.size) < np.round(mean * n)[task]).astype(float)
    return Runs(("model",), names, tuple(map(str, known)), minutes, family, np.zeros_like(task), task, score)


def test_a_known_curve_comes_back():
    minutes = 2.0 ** np.linspace(-4, 12, 60)
    runs = one_model(minutes, 1 / (1 + np.exp(0.52 * np.log2(minutes) - 4.378)), n=10_000)
    (reading,) = read(runs, PLAIN, rng())
    assert reading.slope == pytest.approx(-0.52, abs=1e-3)
    assert reading.intercept == pytest.approx(4.378, abs=5e-3)
    assert reading.crossings[0.5].value == pytest.approx(2 ** (4.378 / 0.52), rel=1e-3)
    assert reading.crossings[0.8].value == pytest.approx(2 ** ((4.378 - math.log(4)) / 0.52), rel=1e-3)


def test_the_old_penalty_was_a_strong_prior():
    # Weights sum to 1, so 0.1 flattens the slope visibly: METR's figures of before 2026-03-03.
    minutes = 2.0 ** np.linspace(-4, 10, 60)
    runs = one_model(minutes, 1 / (1 + np.exp(0.52 * np.log2(minutes) - 4.378)))
    new, old = (point(runs.answers[0], "invsqrt", ridge) for ridge in (PUBLISHED_RIDGE, OLD_RIDGE))
    assert new[1] == pytest.approx(-0.52, abs=0.002)
    weights, mean, x = runs.answers[0].weights(), runs.answers[0].mean, np.log2(minutes)
    model = LogisticRegression(C=1 / OLD_RIDGE, tol=1e-12, max_iter=10_000)
    model.fit(np.r_[x, x][:, None], np.r_[np.ones(60), np.zeros(60)], np.r_[weights * mean, weights * (1 - mean)])
    assert old == pytest.approx((model.intercept_[0], model.coef_[0, 0]), abs=1e-4)
    assert -0.51 < old[1] < -0.40
    assert abs(math.log2(-old[0] / old[1] / (-new[0] / new[1]))) > 0.005


def test_weights_are_one_over_the_root_of_the_familys_tasks():
    runs = one_model([1, 2, 4, 8, 16], [1, 1, 0, 0, 0], ["a", "a", "a", "a", "b"])
    assert runs.answers[0].weights().tolist() == pytest.approx([1 / 6] * 4 + [1 / 3])
    assert runs.answers[0].weights("family").tolist() == pytest.approx([1 / 8] * 4 + [1 / 2])
    with pytest.raises(ValueError, match="unknown weighting"):
        runs.answers[0].weights("best")


def test_fractional_scores_are_weighted_successes_and_failures():
    runs = one_model([1, 2, 4, 8], [1, 0.75, 0.25, 0])
    halves = Runs(
        ("m",), runs.tasks, runs.families, runs.minutes, runs.family,
        np.zeros(4, dtype=int), np.arange(4), np.array([1, 0.75, 0.25, 0]),
    )  # fmt: skip
    assert point(halves.answers[0], "invsqrt", 0.01) == pytest.approx(point(runs.answers[0], "invsqrt", 0.01))


def test_the_bootstrap_draws_families_then_tasks_then_runs():
    runs = runs_of(Suite(families=12, runs=5), Truth([30.0]), rng(1))
    counts = draw_tasks(runs, 4000, rng(2))
    size = np.bincount(runs.family)[runs.family]
    assert counts.mean(axis=0) == pytest.approx(np.ones(size.size), abs=0.12)
    by_family = np.stack([counts[:, runs.family == k].sum(axis=1) for k in range(12)], axis=1)
    assert (by_family % np.bincount(runs.family) == 0).all()  # whole families' worth of tasks
    answers = runs.answers[0]
    drawn = answers.drawn(np.full((4000, answers.task.size), 2.0), rng(3))
    assert drawn.mean(axis=0) == pytest.approx(answers.mean, abs=0.03)
    assert drawn.var(axis=0) == pytest.approx(answers.mean * (1 - answers.mean) / 10, abs=0.005)


def test_runs_of_fractional_scores_are_drawn_as_they_are():
    base = one_model([1.0, 2.0], [0.5, 0.5], n=6)
    score = np.array([0.1, 0.1, 0.4, 0.9, 0.9, 0.9, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0])
    runs = Runs(("m",), base.tasks, base.families, base.minutes, base.family,
                np.zeros(12, dtype=int), np.repeat([0, 1], 6), score)  # fmt: skip
    drawn = runs.answers[0].drawn(np.ones((20_000, 2)), rng())
    for task in (0, 1):
        seen = score[6 * task : 6 * task + 6]
        assert drawn[:, task].mean() == pytest.approx(seen.mean(), abs=0.004)
        assert drawn[:, task].var() == pytest.approx(seen.var() / 6, rel=0.05)


def test_the_bridge_keeps_the_curve_logistic():
    effect = bridge((np.arange(200_000) + 0.5) / 200_000, 0.7)
    assert effect.var() == pytest.approx(np.pi**2 / 3 * (0.7**-2 - 1), rel=0.01)
    for wanted in (-2.0, 0.5):
        assert (1 / (1 + np.exp(-wanted / 0.7 - effect))).mean() == pytest.approx(1 / (1 + np.exp(-wanted)), abs=1e-3)


@pytest.mark.parametrize("phi", [0.75, 0.9])
def test_coverage_of_both_intervals_on_families_of_known_truth(phi):
    inside = {"bootstrap": [], "profile": []}
    for seed in range(60):
        draws = rng(seed)
        runs = runs_of(Suite(families=40, family_phi=phi, task_phi=phi), Truth([30.0]), draws)
        (reading,) = read(runs, Method(resamples=150), draws)
        for kind, hits in inside.items():
            low, high = getattr(reading.crossings[0.5], kind)
            hits.append((low or 0) <= 30.0 <= (high or np.inf))
    print(phi, {kind: float(np.mean(hits)) for kind, hits in inside.items()})
    assert 0.90 <= np.mean(inside["bootstrap"]) <= 1.0  # it counts the runs' scatter twice where tasks are alike
    assert 0.90 <= np.mean(inside["profile"]) <= 0.99


def test_models_on_one_suite_share_their_draws():
    runs = runs_of(Suite(families=20, family_phi=0.6, task_phi=1.0), Truth([30.0, 33.0]), rng(5))
    draws = doubling_draws(read(runs, Method(resamples=400), rng(6)), 0.5)
    assert draws.shape == (400, 2)
    assert np.corrcoef(draws.T)[0, 1] > 0.5


def test_all_successes_give_a_one_sided_bound():
    families = [f"f{i // 2}" for i in range(20)]
    minutes = 2.0 ** np.arange(20)
    (reading,) = read(one_model(minutes, np.ones(20), families, n=3), Method(resamples=10), rng())
    found = reading.crossings
    assert (reading.slope, found[0.5].value, found[0.5].side) == (None, None, "at least")
    assert found[0.5].bound == 2.0**11  # five families, 0.05 ** (1 / 5) = 0.55 > 0.5, have a task this long
    assert found[0.8].bound is None  # 14 families would be needed
    assert np.isposinf(reading.draws[0.5]).all()
    (none,) = read(one_model(minutes, np.zeros(20), families, n=3), Method(resamples=10), rng())
    assert (none.crossings[0.5].side, none.crossings[0.5].bound) == ("at most", 2.0**8)
    assert none.crossings[0.8].bound == 2.0**2
    runs = one_model(minutes, np.ones(20), families, n=3)
    assert flags(runs, runs.answers[0], reading)[0] == "unbounded: every run succeeds"


def flags_of(runs):
    (reading,) = read(runs, PLAIN, rng())
    return flags(runs, runs.answers[0], reading)


def test_a_plain_suite_has_no_flags():
    minutes = 2.0 ** np.linspace(-4, 12, 60)
    assert flags_of(one_model(minutes, 1 / (1 + np.exp(0.6 * np.log2(minutes) - 3)))) == ()


def test_a_horizon_beyond_the_tasks_is_extrapolated_and_saturates_them():
    minutes = 2.0 ** np.linspace(-4, 4, 60)
    said = flags_of(one_model(minutes, 1 / (1 + np.exp(0.6 * np.log2(minutes) - 3))))
    assert said[0] == "extrapolated: beyond the longest reliable task, 16"
    assert said[1].startswith("saturated: 0 of 60 tasks are longer")
    below = flags_of(one_model(minutes, 1 / (1 + np.exp(0.6 * np.log2(minutes) + 4))))
    assert below[0] == "extrapolated: below the shortest task, 0.0625"


def test_success_that_rises_again_is_not_monotone():
    minutes = 2.0 ** np.linspace(0, 12, 60)
    mean = np.where(minutes < 2**4, 0.9, np.where(minutes < 2**8, 0.1, 0.6))
    assert any(flag.startswith("not monotone: tasks of") for flag in flags_of(one_model(minutes, mean)))


def test_one_family_that_decides_is_named():
    minutes = np.r_[2.0 ** np.linspace(0, 5, 30), 2.0 ** np.linspace(9, 12, 12)]
    mean = np.r_[np.linspace(0.95, 0.7, 30), np.full(12, 0.02)]
    families = [f"f{i}" for i in range(30)] + ["long"] * 12
    assert any("without 'long'" in flag for flag in flags_of(one_model(minutes, mean, families)))
    assert "one family only: nothing is known about others" in flags_of(one_model(minutes, mean, ["a"] * 42))


def test_sensitivity_names_the_choice_and_its_factor():
    runs = runs_of(Suite(families=40), Truth([60.0]), rng(7))
    (reading,) = read(runs, PLAIN, rng())
    variants = sensitivity(runs, 0, PLAIN)
    assert [variant.choice for variant in variants] == [
        "weighting equal", "weighting family", "penalty 0.1",
        "without the shortest quarter of the tasks", "without the longest quarter of the tasks",
    ]  # fmt: skip
    lengths = [variant.horizons[0.5] for variant in variants] + [reading.crossings[0.5].value]
    assert spread(reading, variants, np.inf) == pytest.approx(max(lengths) / min(lengths))
    assert 1.0 < spread(reading, variants, np.inf) < 4.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"minutes": np.array([1.0, -2.0])}, "above 0"),
        ({"score": np.array([0.5, 1.5])}, r"in \[0, 1\]"),
        ({"score": np.array([0.5])}, "one shape"),
        ({"minutes": np.array([1.0])}, "one entry per task"),
    ],
)
def test_runs_refuse_what_cannot_be(change, said):
    good = {
        "models": ("m",), "tasks": ("a", "b"), "families": ("f",), "minutes": np.array([1.0, 2.0]),
        "family": np.array([0, 0]), "model": np.array([0, 0]), "task": np.array([0, 1]), "score": np.array([0.0, 1.0]),
    }  # fmt: skip
    with pytest.raises(ValueError, match=said):
        Runs(**(good | change))
