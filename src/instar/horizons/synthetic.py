"""Runs of known truth: families and tasks of uneven difficulty around success curves that are exactly logistic.

A plain random effect on the logit would flatten the curve over all families, so that the truth would be no horizon at
all. The bridge distribution (Wang & Louis, Biometrika 90:765, 2003) does not: logistic conditional on the effect,
logistic on the whole, with the slope times phi. Two nested ones make families and tasks over-dispersed, and the
curve over all of them is logit P = slope * (log2(length) - log2(horizon)) as asked for.

`python -m instar.horizons.synthetic runs.csv` writes a file for the tutorial.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from instar.contracts.records import Floats
from instar.horizons.runs import Runs
from instar.stats.logistic import logistic


@dataclass(frozen=True)
class Suite:
    """What a synthetic suite looks like.

    Attributes:
        families: how many; their sizes are drawn unevenly around `tasks_per_family` (as in METR's, many have one task).
        runs: runs per task and model.
        shortest, longest: range of the lengths, uniform in log2.
        family_phi, task_phi: in (0, 1]; 1 is no over-dispersion, 0.8 an effect with a deviation of 1.4 logits.
        spread: deviation of log2 lengths within a family.
    """

    families: int = 60
    tasks_per_family: float = 3.0
    runs: int = 6
    shortest: float = 0.03
    longest: float = 2000.0
    family_phi: float = 0.85
    task_phi: float = 0.85
    spread: float = 1.5


@dataclass(frozen=True)
class Truth:
    """The models: their horizons at 50 % in the tasks' unit, their slopes in logits per doubling, release dates."""

    horizons: Sequence[float] = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
    slope: float = -0.6
    released: Sequence[str] = field(default=())


def runs_of(suite: Suite, truth: Truth, rng: np.random.Generator) -> Runs:
    """Draw a suite of tasks and the runs of every model on it.

    The difficulty of a family and of a task is the same for all models, as on a real suite.
    """
    sizes = rng.geometric(1.0 / suite.tasks_per_family, suite.families)
    family = np.repeat(np.arange(suite.families), sizes)
    low, high = np.log2(suite.shortest), np.log2(suite.longest)
    place = rng.uniform(low, high, suite.families)[family] + rng.normal(0.0, suite.spread, family.size)
    x = np.clip(place, low, high)
    hard_family = bridge(rng.random(suite.families), suite.family_phi)[family]
    hard_task = bridge(rng.random(family.size), suite.task_phi)
    scores = []
    for horizon in truth.horizons:
        wanted = truth.slope * (x - np.log2(horizon))
        logits = (wanted / suite.family_phi + hard_family) / suite.task_phi + hard_task
        scores.append((rng.random((suite.runs, x.size)) < logistic(logits)).ravel())
    count = suite.runs * x.size
    return Runs(
        tuple(f"model {number}" for number in range(len(truth.horizons))),
        tuple(f"family{f}/task{t}" for t, f in enumerate(family)),
        tuple(f"family{f}" for f in range(suite.families)),
        2.0**x, family.astype(np.int64),
        np.repeat(np.arange(len(truth.horizons)), count),
        np.tile(np.arange(x.size), suite.runs * len(truth.horizons)),
        np.concatenate(scores).astype(np.float64),
        tuple(truth.released),
    )  # fmt: skip


def bridge(quantile: Floats, phi: float) -> Floats:
    """Return quantiles of the bridge distribution for the logit; its variance is pi^2 / 3 (phi^-2 - 1)."""
    if phi == 1.0:
        return np.zeros_like(quantile)
    low = np.sin(phi * np.pi * quantile)
    return np.asarray(np.log(low / np.sin(phi * np.pi * (1.0 - quantile))) / phi, dtype=np.float64)


def write_example(path: Path, seed: int = 20261122) -> None:
    """Write runs of eight synthetic models, released every half year, whose horizon doubles every 182.5 days."""
    start = date(2023, 3, 1)
    released = [(start + timedelta(days=round(182.5 * number))).isoformat() for number in range(8)]
    truth = Truth([4.0 * 2.0**number for number in range(8)], released=released)
    runs = runs_of(Suite(runs=4), truth, np.random.default_rng(seed))
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["alias", "release_date", "task_id", "task_family", "human_minutes", "run_id", "score_binarized"])
        for number, (m, t, score) in enumerate(zip(runs.model, runs.task, runs.score, strict=True)):
            rows.writerow(
                [runs.models[m], released[m], runs.tasks[t], runs.families[runs.family[t]],
                 f"{runs.minutes[t]:.6g}", f"run{number}", int(score)]
            )  # fmt: skip


if __name__ == "__main__":
    write_example(Path(sys.argv[1] if len(sys.argv) > 1 else "runs.csv"))
