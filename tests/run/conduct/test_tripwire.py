"""The tripwire by simulation: it is quiet while nothing grows, sees growth, and is an e-process."""

from __future__ import annotations

import math

import numpy as np
import pytest

from instar.run.conduct.tripwire import EVIDENCE, Block, log_e_value, log_e_values


def highest(shares: np.ndarray, jobs: int, runs: int, seed: int, every: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest log e-value of each run, looked at after every fifth job, and the job of the first alarm."""
    rng = np.random.default_rng(seed)
    counts, flagged = np.zeros((2, runs, len(shares)))
    best, alarm, seen = np.full(runs, -np.inf), np.full(runs, -1), 0
    for number, share in enumerate(shares):
        for _ in range(jobs // every):
            counts[:, number] += every
            flagged[:, number] += rng.binomial(every, share, runs)
            seen += every
            now = log_e_values(counts[:, : number + 1], flagged[:, : number + 1])
            best = np.maximum(best, now)
            alarm[(alarm < 0) & (now >= math.log(EVIDENCE))] = seen
    return best, alarm


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.2, 0.5])
def test_fewer_than_one_run_in_a_hundred_trips_falsely(share: float) -> None:
    _, alarm = highest(np.full(16, share), 30, 600, seed=1)
    assert np.mean(alarm >= 0) <= 0.01


def test_conduct_that_gets_better_never_trips() -> None:
    _, alarm = highest(0.5 * 0.7 ** np.arange(12), 30, 300, seed=2)
    assert not (alarm >= 0).any()


def test_a_five_fold_rate_is_seen_within_two_generations_and_a_doubled_one_later() -> None:
    five, double = np.r_[np.full(5, 0.1), np.full(6, 0.5)], np.r_[np.full(5, 0.2), np.full(10, 0.4)]
    _, alarm = highest(five, 40, 200, seed=3)
    assert np.mean(alarm > 200) >= 0.98
    assert np.quantile(alarm[alarm > 200] - 200, 0.9) <= 80
    _, alarm = highest(double, 40, 200, seed=4)
    assert np.mean(alarm > 200) >= 0.6
    assert 40 <= np.median(alarm[alarm > 200] - 200) <= 200


def test_the_e_value_has_an_expectation_of_at_most_one_under_any_constant_share() -> None:
    # Exactly, by adding up all outcomes of three small blocks: an e-value is what this is all about.
    jobs = np.array([4, 3, 5])
    outcomes = np.array([(a, b, c) for a in range(5) for b in range(4) for c in range(6)])
    values = np.exp(log_e_values(np.broadcast_to(jobs, outcomes.shape), outcomes))
    ways = np.array([math.prod(math.comb(int(n), int(s)) for n, s in zip(jobs, row, strict=True)) for row in outcomes])
    for share in np.linspace(0.001, 0.999, 41):
        total = outcomes.sum(axis=1)
        chances = ways * share**total * (1 - share) ** (jobs.sum() - total)
        assert chances.sum() == pytest.approx(1.0)
        assert values @ chances <= 1.0


def test_it_needs_two_generations_and_counts_that_can_be() -> None:
    assert log_e_value([]) == 0.0
    assert log_e_value([Block(10, 10)]) == 0.0
    assert log_e_value([Block(60, 0), Block(3, 3)]) > math.log(EVIDENCE)
    assert log_e_value([Block(0, 0), Block(5, 5)]) <= 0.0
    with pytest.raises(ValueError, match="cannot be"):
        Block(3, 4)
