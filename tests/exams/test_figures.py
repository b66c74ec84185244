"""Figures of a score: every one an object with interval, sample size and status."""

from __future__ import annotations

import json

import numpy as np
import pytest

from instar.contracts.evidence import Score
from instar.exams.figures import figures


def score(lengths: np.ndarray, half_at: float = 10.0) -> Score:
    rng = np.random.default_rng(0)
    chance = 1.0 / (1.0 + (np.nan_to_num(lengths, nan=half_at) / half_at) ** 4)
    solved = rng.random(lengths.size) < chance
    return Score(solved.astype(float), solved, lengths, np.zeros(lengths.size, np.int64), ("all",))


def test_all_figures_are_objects_of_the_contract() -> None:
    found = figures(score(np.tile(np.arange(1.0, 41.0), 20)), seed=3)
    assert set(found) == {"metric", "solved", "horizon_50", "horizon_80"}
    json.dumps(found, allow_nan=False)
    for figure in found.values():
        assert set(figure) >= {"value", "low", "high", "n", "status"}
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["n"] == 800
    assert found["horizon_50"]["value"] == pytest.approx(10.0, rel=0.2)
    assert found["horizon_80"]["value"] < found["horizon_50"]["value"]


def test_the_same_seed_gives_the_same_intervals() -> None:
    seen = score(np.tile(np.arange(1.0, 21.0), 10))
    assert figures(seen, seed=3) == figures(seen, seed=3)


def test_without_known_lengths_there_is_no_horizon() -> None:
    assert set(figures(score(np.full(50, np.nan)), seed=0)) == {"metric", "solved"}


def test_unknown_lengths_are_left_out_of_the_horizon() -> None:
    lengths = np.concatenate([np.tile(np.arange(1.0, 21.0), 10), np.full(100, np.nan), np.zeros(5)])
    found = figures(score(lengths), seed=0)
    assert found["solved"]["n"] == 305
    assert found["horizon_50"]["n"] == 200
