import numpy as np
import pytest
from scipy import stats

from instar.stats.intervals import (
    betting_mean,
    clopper_pearson,
    clopper_pearson_bounds,
    paired_bounds,
    paired_difference,
    wilson,
    wilson_bounds,
)


@pytest.mark.parametrize(("solved", "n"), [(0, 10), (3, 10), (10, 10), (1, 1), (999, 1000)])
def test_shares_agree_with_scipy(solved, n):
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        interval = stats.binomtest(solved, n).proportion_ci(0.95, method=method)
        estimate = ours(solved, n)
        assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
        assert estimate.value == solved / n
        assert estimate.n == n


def test_coverage_of_the_shares():
    # Exact coverage, from the binomial distribution itself.
    for bounds, least_mean, least in ((wilson_bounds, 0.94, 0.83), (clopper_pearson_bounds, 0.95, 0.95)):
        for n in (30, 200):
            k = np.arange(n + 1)
            low, high = bounds(k, n)
            p = np.linspace(0.005, 0.995, 199)
            inside = (low <= p[:, None]) & (p[:, None] <= high)
            coverage = (stats.binom.pmf(k, n, p[:, None]) * inside).sum(axis=1)
            assert coverage.mean() >= least_mean
            assert coverage.min() >= least


def test_coverage_of_the_paired_difference():
    x = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], size=(4000, 500), p=[0.03, 0.9, 0.07])
    low, high = paired_bounds(x)
    assert 0.935 <= ((low <= 0.04) & (high >= 0.04)).mean() <= 0.965


def test_paired_difference():
    estimate = paired_difference(np.array([0.5, 0.7, 0.9]), np.array([0.4, 0.7, 0.5]))
    interval = stats.ttest_1samp([0.1, 0.0, 0.4], 0.0).confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))
    assert paired_difference(np.ones(1), np.zeros(1)).low is None
    assert "no width" in paired_difference(np.ones(4), np.zeros(4)).note
    for one, other in ((np.ones(3), np.ones(4)), (np.ones(0), np.ones(0)), (np.ones((2, 2)), np.ones((2, 2)))):
        with pytest.raises(ValueError, match="paired"):
            paired_difference(one, other)
    with pytest.raises(ValueError, match="finite"):
        paired_difference(np.array([np.nan]), np.ones(1))


def test_coverage_of_the_betting_interval():
    rng = np.random.default_rng(2)
    inside = []
    for x in rng.choice([0.0, 0.05, 1.0], size=(400, 200), p=[0.5, 0.45, 0.05]):
        estimate = betting_mean(x, 0.0, 1.0)
        inside.append(estimate.low <= 0.0725 <= estimate.high)
    assert np.mean(inside) >= 0.95


def test_the_betting_interval_stays_in_the_range():
    ones, zeros = betting_mean(np.ones(100), 0.0, 1.0), betting_mean(np.zeros(100), 0.0, 1.0)
    assert ones.high == 1.0
    assert 0.9 < ones.low < 1.0
    assert zeros.low == 0.0
    assert 0.0 < zeros.high < 0.1
    assert betting_mean(np.array([0.5]), 0.0, 1.0).low < 0.05  # one observation says next to nothing
    with pytest.raises(ValueError, match="values"):
        betting_mean(np.zeros(0), 0.0, 1.0)


def test_counts_are_checked():
    for solved, n in ((-1, 3), (4, 3), (0, 0)):
        with pytest.raises(ValueError, match="share"):
            wilson(solved, n)
