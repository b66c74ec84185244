"""Evaluation runs as arrays: which model tried which task with what score; their weights and their bootstrap.

Tasks come in families, and every task is tried in several runs. The resampling is METR's: families with replacement,
then tasks within every drawn family, then runs within every drawn task; what is drawn twice counts twice, with the
weight that it had. Families and tasks are drawn once for all models, so that models can be compared draw by draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from instar.contracts.records import Floats
from instar.horizons.choices import Cheating

Ints = npt.NDArray[np.int64]
WEIGHTINGS = ("invsqrt", "equal", "family")
"""1/sqrt(tasks in the family) as METR publishes; every task alike; every family alike."""


@dataclass(frozen=True)
class Runs:
    """T tasks in F families, tried by M models in N runs.

    Attributes:
        models, tasks, families: names.
        minutes: (T,) length of each task; the unit is the reader's.
        family: (T,) index of each task's family.
        model, task: (N,) indices.
        score: (N,) in [0, 1].
        released: ISO date of each model, or "" where it isn't known; empty where none is.
        source: (T,) where each task comes from, or empty.
        cheated: (N,) whether the model cheated in each run; empty where nothing says so.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    families: tuple[str, ...]
    minutes: Floats
    family: Ints
    model: Ints
    task: Ints
    score: Floats
    released: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    cheated: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def __post_init__(self) -> None:
        if not self.model.shape == self.task.shape == self.score.shape or self.score.ndim != 1:
            raise ValueError("model, task and score need one shape (N,)")
        if not self.minutes.shape == self.family.shape == (len(self.tasks),):
            raise ValueError("minutes and family need one entry per task")
        if not (np.isfinite(self.minutes) & (self.minutes > 0)).all():
            raise ValueError("task lengths must be finite and above 0")
        if self.cheated.size and self.cheated.shape != self.score.shape:
            raise ValueError("cheated needs one entry per run, or none")
        if not ((self.score >= 0) & (self.score <= 1)).all():
            raise ValueError("scores must be in [0, 1]")

    @cached_property
    def answers(self) -> tuple[Answers, ...]:
        """Every model's runs by task, in the order of `models`."""
        order = np.argsort(self.model, kind="stable")
        ends = np.searchsorted(self.model[order], np.arange(len(self.models) + 1))
        return tuple(self._answers(order[first:last]) for first, last in pairwise(ends))

    def only(self, keep: npt.NDArray[np.bool_]) -> Runs:
        """Return the runs on the tasks (T,) that are kept; the tasks' numbering stays."""
        return self._kept(keep[self.task])

    def treated(self, cheating: Cheating) -> Runs:
        """Return the runs with those in which the model cheated as failures, discarded, or as successes."""
        if not self.cheated.any():
            return self
        if cheating is Cheating.DISCARDED:
            return self._kept(~self.cheated)
        value = 1.0 if cheating is Cheating.SUCCESS else 0.0
        return replace(self, score=np.where(self.cheated, value, self.score))

    def _kept(self, kept: npt.NDArray[np.bool_]) -> Runs:
        cheated = self.cheated[kept] if self.cheated.size else self.cheated
        return replace(self, model=self.model[kept], task=self.task[kept], score=self.score[kept], cheated=cheated)

    def _answers(self, rows: Ints) -> Answers:
        task, score = self.task[rows], self.score[rows]
        tried, place = np.unique(task, return_inverse=True)
        n = np.bincount(place, minlength=tried.size).astype(np.float64)
        total = np.bincount(place, weights=score, minlength=tried.size)
        names, family = np.unique(self.family[tried], return_inverse=True)
        binary = bool(np.isin(score, (0.0, 1.0)).all())
        values = () if binary else tuple(_values(place, score, tried.size))
        return Answers(
            tried, np.log2(self.minutes[tried]), family.astype(np.int64), names.astype(np.int64), n, total / n, values
        )


@dataclass(frozen=True)
class Answers:
    """One model's runs by task.

    Attributes:
        task: (G,) the tasks tried, as numbered in `Runs`.
        x: (G,) log2 of their lengths.
        family: (G,) index into `families` (K,), the families met.
        n: (G,) runs of each task.
        mean: (G,) mean score.
        values: for fractional scores, pairs of (G,) arrays: the j-th distinct score of a task and its runs.
    """

    task: Ints
    x: Floats
    family: Ints
    families: Ints
    n: Floats
    mean: Floats
    values: tuple[tuple[Floats, Floats], ...] = ()

    def weights(self, weighting: str = "invsqrt") -> Floats:
        """Return the tasks' weights (G,), which sum to 1.

        Raises:
            ValueError: the weighting is not one of `WEIGHTINGS`.
        """
        size = np.bincount(self.family)[self.family]
        by_name = {"invsqrt": size**-0.5, "equal": np.ones(size.size), "family": 1.0 / size}
        if weighting not in by_name:
            raise ValueError(f"unknown weighting '{weighting}'; there are {', '.join(WEIGHTINGS)}")
        return np.asarray(by_name[weighting] / by_name[weighting].sum(), dtype=np.float64)

    def drawn(self, counts: Floats, rng: np.random.Generator) -> Floats:
        """Resample runs within tasks: return the mean score (B, G) of tasks that were drawn `counts` (B, G) times."""
        asked = (counts * self.n).astype(np.int64)
        if not self.values:
            total = rng.binomial(asked, self.mean).astype(np.float64)
        else:
            total, rest, left = np.zeros(counts.shape), asked, self.n.copy()
            for score, n in self.values:  # a multinomial, one binomial at a time
                hits = rng.binomial(rest, np.clip(n / np.maximum(left, 1.0), 0.0, 1.0))
                total, rest, left = total + score * hits, rest - hits, left - n
        return np.asarray(total / np.maximum(asked, 1), dtype=np.float64)


def draw_tasks(runs: Runs, resamples: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Return how often each task is drawn, (B, T): families with replacement, then tasks within each drawn family."""
    used = np.unique(runs.task)
    families, place = np.unique(runs.family[used], return_inverse=True)
    times = rng.multinomial(families.size, np.full(families.size, 1.0 / families.size), size=resamples)
    counts = np.zeros((resamples, len(runs.tasks)), dtype=np.int32)
    for number in range(families.size):
        tasks = used[place == number]
        counts[:, tasks] = rng.multinomial(times[:, number] * tasks.size, np.full(tasks.size, 1.0 / tasks.size))
    return counts


def _values(place: Ints, score: Floats, tasks: int) -> Iterator[tuple[Floats, Floats]]:
    """Yield the first, second, ... distinct score of every task (G,) with its number of runs (G,)."""
    pairs, count = np.unique(np.stack([place.astype(np.float64), score]), axis=1, return_counts=True)
    owner = pairs[0].astype(np.int64)
    rank = np.arange(owner.size) - np.searchsorted(owner, owner)
    for number in range(int(rank.max()) + 1):
        of = rank == number
        value, n = np.zeros(tasks), np.zeros(tasks)
        value[owner[of]], n[owner[of]] = pairs[1][of], count[of]
        yield value, n
