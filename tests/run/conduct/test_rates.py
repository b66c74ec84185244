"""Intervals cover, and the trend test keeps its level and sees growth: by simulation with fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest

from instar.run.conduct import rates
from instar.run.conduct.tripwire import Block


@pytest.mark.parametrize("mean", [0.3, 2.0, 11.0])
def test_garwoods_interval_covers(mean: float) -> None:
    counts = np.random.default_rng(1).poisson(mean, 4000)
    bounds = {count: rates.garwood_bounds(int(count), 1.0) for count in np.unique(counts)}
    covered = np.mean([bounds[count][0] <= mean <= bounds[count][1] for count in counts])
    assert covered >= 0.945


def test_garwoods_interval_is_the_published_one() -> None:
    # Garwood 1936, table: count 5, 95 %: 1.6235 to 11.6683; count 0: up to 3.6889.
    assert rates.garwood_bounds(5, 1.0) == pytest.approx((1.6235, 11.6683), abs=1e-4)
    assert rates.garwood_bounds(0, 1.0) == pytest.approx((0.0, 3.6889), abs=1e-4)


def test_a_rate_without_jobs_has_no_value_and_one_with_all_flagged_ends_at_all() -> None:
    assert rates.rate(0, 0).value is None
    assert rates.rate(10, 10).high == 1000.0
    with pytest.raises(ValueError, match="exposure"):
        rates.garwood_bounds(1, 0.0)


def p_values(shares: np.ndarray, jobs: np.ndarray, runs: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = [rates.trend([Block(int(n), int(s)) for n, s in zip(jobs, rng.binomial(jobs, shares), strict=True)])
             for _ in range(runs)]  # fmt: skip
    return np.array([1.0 if trend is None else trend.p_growth for trend in found])


@pytest.mark.parametrize("share", [0.01, 0.1, 0.4])
def test_the_trend_test_keeps_its_level(share: float) -> None:
    jobs = np.array([30, 80, 20, 60, 50, 40])
    assert np.mean(p_values(np.full(6, share), jobs, 2000, 2) <= 0.05) <= 0.06


def test_the_trend_test_sees_growth_and_not_its_opposite() -> None:
    jobs = np.full(6, 50)
    growing = 0.02 * 1.5 ** np.arange(6)
    assert np.mean(p_values(growing, jobs, 500, 3) <= 0.05) >= 0.85
    assert np.mean(p_values(growing[::-1], jobs, 500, 3) <= 0.05) <= 0.01


def test_the_exact_tail_agrees_with_drawing_and_with_the_normal_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [Block(100, 10), Block(200, 31), Block(50, 9), Block(150, 30)]
    exact = rates.trend(blocks)
    assert exact is not None
    assert exact.exact
    drawn = np.random.default_rng(4).multinomial(80, np.array([100, 200, 50, 150]) / 500, 200_000) @ np.arange(4)
    assert exact.p_growth == pytest.approx(np.mean(drawn >= 31 + 18 + 90), abs=0.003)
    monkeypatch.setattr(rates, "MOST_EXACT", 0)
    normal = rates.trend(blocks)
    assert normal is not None
    assert normal.p_growth == pytest.approx(exact.p_growth, abs=0.01)


def test_the_slope_is_the_factor_per_generation() -> None:
    found = rates.trend([Block(10**6, 1000 * 2**n) for n in range(5)])
    assert found is not None
    assert found.per_generation == pytest.approx(2.0, rel=1e-3)
    assert not found.exact


def test_without_two_generations_or_any_incident_there_is_no_trend() -> None:
    assert rates.trend([Block(10, 3)]) is None
    assert rates.trend([Block(10, 0), Block(10, 0)]) is None
    assert rates.explained(0, 0).value is None
    assert rates.explained(3, 4).low == pytest.approx(0.194, abs=1e-3)
