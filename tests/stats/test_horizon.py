import json
import math
import time

import numpy as np
import pytest

from instar.stats.horizon import curve, horizon


def answers(rng, crossing, slope=1.2, n=1000):
    size = rng.integers(2, 32, n).astype(float)
    return size, rng.random(n) < 1 / (1 + np.exp(slope * (np.log2(size) - math.log2(crossing))))


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_coverage_of_the_bootstrap_interval(share):
    draws = rng(1)
    true = 2 ** (math.log2(10) - math.log(share / (1 - share)) / 1.2)
    inside, above = [], []
    for _ in range(300):
        estimate = horizon(*answers(draws, 10.0, n=400), share, rng=draws)
        inside.append(estimate.low <= true <= estimate.high)
        above.append(estimate.value > true)
    print(f"coverage at {share:.0%}: {np.mean(inside):.3f}")
    assert 0.90 <= np.mean(inside) <= 0.99
    assert 0.4 <= np.mean(above) <= 0.6


def test_the_fit_is_the_maximum_likelihood_fit():
    from sklearn.linear_model import LogisticRegression

    size, solved = answers(rng(2), 10.0)
    model = LogisticRegression(C=100.0, tol=1e-10, max_iter=1000).fit(np.log2(size)[:, None], solved)  # C = 1 / RIDGE
    fitted = curve(size, solved)
    assert fitted.slope == pytest.approx(model.coef_[0, 0], rel=1e-4)
    assert fitted.success([4.0, 20.0]) == pytest.approx(model.predict_proba(np.log2([[4.0], [20.0]]))[:, 1], rel=1e-4)


def test_everything_solved():
    estimate = horizon([2, 4, 31] * 50, [True] * 150, rng=rng())
    assert (estimate.value, estimate.low, estimate.high) == (31.0, 31.0, None)
    assert estimate.note == "at least 31: every length tried is solved"
    assert curve([2, 4], [1, 1]) is None


def test_nothing_solved():
    estimate = horizon([2, 4, 31] * 50, [False] * 150, rng=rng())
    assert (estimate.value, estimate.low, estimate.high) == (2.0, None, 2.0)
    assert estimate.note == "below 2: no length tried is solved"


def test_a_crossing_far_beyond_the_tasks_is_not_claimed():
    estimate = horizon(*answers(rng(3), 500.0), rng=rng())
    assert (estimate.value, estimate.low, estimate.high) == (31.0, 31.0, None)
    assert estimate.note.startswith("at least 31")


def test_a_crossing_a_little_beyond_the_tasks_is_flagged():
    estimate = horizon(*answers(rng(4), 33.0, n=300), rng=rng())
    assert estimate.value > 31
    assert estimate.low < 31
    assert estimate.note == "extrapolated: beyond the longest length tried, 31"


def test_a_crossing_below_the_tasks_is_flagged():
    estimate = horizon(*answers(rng(5), 1.0), rng=rng())
    assert 0.3 < estimate.value < 2
    assert estimate.note == "extrapolated: below the shortest length tried, 2"


def test_success_that_does_not_fall_has_no_crossing():
    size = np.tile([2.0, 4.0, 8.0], 100)
    assert horizon(size, size > 2, rng=rng()).note == "at least 8: success falls to 50% nowhere"
    assert horizon(size, size > 4, rng=rng()).note == "below 2: success reaches 50% nowhere"


def test_one_length_only():
    mostly = horizon([8.0] * 100, [True] * 80 + [False] * 20, rng=rng())
    assert (mostly.value, mostly.low, mostly.high) == (8.0, 8.0, None)
    assert horizon([8.0], [True], rng=rng()).value == 8.0


def test_perfectly_separated_answers():
    size = np.repeat(np.arange(1.0, 33.0), 30)
    estimate = horizon(size, size <= 16, rng=rng())
    assert 16 <= estimate.low <= estimate.value <= estimate.high <= 17


@pytest.mark.parametrize("seed", range(20))
def test_tiny_samples_give_an_estimate_that_prints(seed):
    draws = rng(seed)
    n = int(draws.integers(1, 12))
    estimate = horizon(draws.integers(1, 9, n), draws.random(n) < draws.random(), rng=draws)
    json.dumps(estimate.to_json(), allow_nan=False)
    assert estimate.low is None or estimate.low <= estimate.value
    assert estimate.high is None or estimate.high >= estimate.value


def test_unknown_lengths_are_left_out_and_counted():
    estimate = horizon([2.0, math.nan, 4.0], [True, False, True], rng=rng())
    assert estimate.n == 2
    assert estimate.note.endswith("; questions of unknown length left out: 1")


def test_the_same_generator_gives_the_same_estimate():
    size, solved = answers(rng(6), 9.0)
    assert horizon(size, solved, rng=rng(7)) == horizon(size, solved, rng=rng(7))


def test_many_distinct_lengths_are_grouped_without_harm():
    draws = rng(8)
    size = np.exp(draws.uniform(0, 6, 4000))
    solved = draws.random(4000) < 1 / (1 + np.exp(1.2 * (np.log2(size) - 4)))
    start = time.perf_counter()
    estimate = horizon(size, solved, rng=draws)
    assert time.perf_counter() - start < 0.5  # 6 ms on an idle core
    assert estimate.low < 16 < estimate.high


def test_what_cannot_be_fitted_is_refused():
    bad = (([1, 2], [1]), ([0.0], [1]), ([-1.0], [1]), ([math.nan], [1]), ([math.inf], [1]), ([2.0], [0.5]), ([], []))
    for lengths, solved in bad:
        with pytest.raises(ValueError, match=r"length|solved"):
            horizon(lengths, solved, rng=rng())
    for share in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="share"):
            horizon([2.0], [1], share, rng=rng())
