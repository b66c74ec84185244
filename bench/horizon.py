"""Speed, coverage and error rates of the curve: `python bench/horizon.py` (about 10 CPU minutes), or `... speed elbow`.

Every share is printed with its 95 % Monte Carlo interval (Clopper-Pearson). Seeds are fixed. Data are synthetic, of
known truth: families and tasks are over-dispersed, the curve over all of them is exactly logistic
(`instar.horizons.synthetic`).
"""

from __future__ import annotations

import math
import sys
import time

import numpy as np

from instar.contracts.records import Floats
from instar.horizons import elbow
from instar.horizons.curves import SHARES, Method, read
from instar.horizons.runs import Runs, draw_tasks
from instar.horizons.shapes import compare
from instar.horizons.synthetic import Suite, Truth, runs_of
from instar.horizons.trend import Series, doubling, state_of_the_art
from instar.stats.intervals import clopper_pearson

SEED = 20261123
SETS = 300


def show(what: str, hits: list[bool] | Floats) -> None:
    """Print a simulated share with its Monte Carlo interval."""
    found = np.asarray(hits, dtype=bool)
    estimate = clopper_pearson(int(found.sum()), found.size)
    low, high = 100 * (estimate.low or 0.0), 100 * (estimate.high or 0.0)
    print(f"  {what:<70} {100 * found.mean():6.2f} %  ({low:.1f} to {high:.1f})", flush=True)


def speed() -> None:
    """Time 1,000 bootstraps of 30 models with 10,000 runs each, and scikit-learn on a part of the same fits."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(SEED)
    horizons = [float(h) for h in np.geomspace(0.5, 1000.0, 30)]
    runs = runs_of(Suite(families=79, tasks_per_family=2.9, runs=44), Truth(horizons), rng)
    tasks = len(runs.tasks)
    each = runs.score.size // 30
    print(f"\nSpeed: 30 models, {tasks} tasks in 79 families, {each:,} runs a model ({runs.score.size:,} in all)")
    wall, cpu = time.perf_counter(), time.process_time()
    readings = read(runs, Method(resamples=1000), rng)
    ours, ours_cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"  ours, 1,000 bootstraps with both intervals: {ours:.1f} s wall, {ours_cpu:.1f} s CPU")
    for name, by_run, part in (("run by run, as published", True, 40), ("on counts by task", False, 400)):
        seconds, apart = _scikit(LogisticRegression, runs, rng, by_run, part)
        whole = seconds / part * 30_000
        print(f"  scikit-learn {name}: {part} fits in {seconds:.1f} s CPU -> {whole:,.0f} s for 30,000; "
              f"x {whole / ours_cpu:.0f} (largest difference of log2 p50: {apart:.1e})")  # fmt: skip
    print(f"  the first model's horizon: {readings[0].crossings[0.5].value:.4f}")


def _scikit(kind: type, runs: Runs, rng: np.random.Generator, by_run: bool, fits: int) -> tuple[float, float]:
    """Time `fits` bootstrap fits, spread over the models; return CPU seconds and the largest difference to ours."""
    from instar.stats.logistic import crossings, fit

    counts = draw_tasks(runs, fits, rng)
    seconds, apart = 0.0, 0.0
    for number in range(fits):
        answers = runs.answers[number % len(runs.models)]
        weights = answers.weights()
        drawn = counts[number, answers.task].astype(np.float64)
        mean = answers.drawn(drawn[None], rng)[0]
        heavy = drawn * weights
        solved, failed = heavy * mean, heavy * (1.0 - mean)
        if by_run:  # one row for each run that was drawn
            n = (drawn * answers.n).astype(int)
            hits = np.round(mean * n).astype(int)
            x = np.repeat(answers.x, n)
            y = np.concatenate([np.r_[np.ones(h), np.zeros(k - h)] for h, k in zip(hits, n, strict=True)])
            w = np.repeat(weights / answers.n, n)
        else:
            x, y = np.tile(answers.x, 2), np.repeat([1.0, 0.0], answers.x.size)
            w = np.concatenate([solved, failed])
            x, y, w = x[w > 0], y[w > 0], w[w > 0]
        begin = time.process_time()  # a busy machine must not count
        model = kind(C=1e5).fit(x[:, None], y, sample_weight=w)
        seconds += time.process_time() - begin
        there = -model.intercept_[0] / model.coef_[0, 0]
        centre = float(weights @ answers.x)
        intercept, slope = fit(answers.x - centre, solved[None], failed[None], 1e-5)
        apart = max(apart, abs(there - centre - float(crossings(intercept, slope, 0.5)[0])))
    return seconds, apart


SUITES = {
    "79 families, 3 tasks each, as METR's; moderate effects": Suite(families=79),
    "40 families": Suite(families=40),
    "20 families": Suite(families=20),
    "20 families of 10 tasks": Suite(families=20, tasks_per_family=10),
    "10 families": Suite(families=10),
    "40 families, no effects of family or task": Suite(families=40, family_phi=1.0, task_phi=1.0),
    "40 families, strong effects of the family": Suite(families=40, family_phi=0.6, task_phi=0.95),
    "12 families of 10 tasks, strong effects": Suite(families=12, tasks_per_family=10, family_phi=0.6, task_phi=0.95),
}


def coverage() -> None:
    """Print how often the intervals of a horizon hold the truth, and how wide they are."""
    horizon = 30.0
    for name, suite in SUITES.items():
        print(f"\nCoverage of 95 % intervals, {SETS} data sets: {name}")
        inside: dict[tuple[str, float], list[bool]] = {}
        width: dict[tuple[str, float], list[float]] = {}
        for number in range(SETS):
            rng = np.random.default_rng([SEED, number])
            (reading,) = read(runs_of(suite, Truth([horizon]), rng), Method(resamples=500), rng)
            for share in SHARES:
                truth = 2.0 ** (math.log2(horizon) - math.log(share / (1 - share)) / 0.6)
                for kind in ("bootstrap", "profile"):
                    low, high = getattr(reading.crossings[share], kind)
                    inside.setdefault((kind, share), []).append((low or 0.0) <= truth <= (high or math.inf))
                    width.setdefault((kind, share), []).append(math.log2((high or math.inf) / (low or 1e-300)))
        for (kind, share), hits in inside.items():
            show(f"{share:.0%} horizon, {kind}, median width {np.median(width[kind, share]):.2f} doublings", hits)


def trend() -> None:
    """Print the coverage of the doubling time's interval, on straight trends with errors and scatter."""
    print("\nCoverage of the doubling time's 95 % interval, 14 models, 2,000 trends")
    for error, scatter, shared in ((0.0, 0.3, 0.0), (0.35, 0.3, 0.0), (0.35, 0.0, 0.0), (0.35, 0.2, 0.25)):
        hits, rng = [], np.random.default_rng(SEED)
        for _ in range(2000):
            at = np.sort(rng.uniform(0, 1200, 14))
            own = rng.normal(0, math.sqrt(max(error**2 - shared**2, 0.0)), 14) + shared * rng.normal()
            value = np.exp(at * math.log(2) / 200.0 + own + rng.normal(0, scatter, 14))
            factor = math.exp(1.96 * error)
            low, high = (value / factor, value * factor) if error else (np.full(14, np.nan),) * 2
            found = doubling(Series(("m",) * 14, at, value, low, high), rng, draws=500)
            hits.append((found.low or 0.0) <= 200.0 <= (found.high or math.inf))
        show(f"horizons' errors {error}, of which shared {shared}; scatter {scatter} (in ln)", hits)


def bends() -> None:
    """Print false alarms of the elbow on straight trends, and its power for a halving of the doubling time."""
    rng = np.random.default_rng(SEED)
    n, sets = 14, 4000
    print(f"\nElbow, {n} models over 1,200 days, doubling in 200 days; {sets:,} trends each")
    at = np.sort(rng.uniform(0, 1200, n))
    limit = float(np.quantile(elbow.null(at, elbow.SIMULATIONS), 1 - elbow.LEVEL))

    def alarms(y: Floats) -> Floats:
        gains = (y @ elbow.hinges(at, elbow.candidates(at)).T) ** 2
        design = np.linalg.qr(np.stack([np.ones(n), at - at.mean()], axis=1))[0]
        return np.asarray(gains.max(axis=1) / ((y**2).sum(axis=1) - ((y @ design) ** 2).sum(axis=1)) > limit)

    straight = at * math.log(2) / 200.0
    show("false alarms, normal scatter", alarms(straight + rng.normal(0, 0.4, (sets, n))))
    show("false alarms, Student's t with 3 degrees of freedom", alarms(straight + 0.3 * rng.standard_t(3, (sets, n))))
    walk = np.cumsum(rng.normal(0, 0.2, (sets, n)), axis=1)
    show("false alarms, scatter that wanders (a random walk): not held", alarms(straight + walk))
    bent = (at + np.maximum(0.0, at - 600.0)) * math.log(2) / 200.0
    for scatter in (0.1, 0.2, 0.3, 0.4, 0.5):
        hits = alarms(bent + rng.normal(0, scatter, (sets, n)))
        show(f"power: 200 -> 100 days in the middle, scatter {scatter} (in ln)", hits)
    _records(rng)


def _records(rng: np.random.Generator) -> None:
    """Print false alarms where the models are chosen as state of the art out of 40 on a straight trend."""
    plain, chosen, doubled = [], [], []
    for _ in range(400):
        at = np.sort(rng.uniform(0, 1200, 40))
        value = np.exp(at * math.log(2) / 200.0 + rng.normal(0, 0.5, 40))
        best = state_of_the_art(at, value)
        if best.sum() >= elbow.LEAST:
            kept, none = int(best.sum()), np.full(int(best.sum()), np.nan)
            series = Series(("m",) * kept, at[best], value[best], none, none)
            pool = Series(("m",) * 40, at, value, np.full(40, np.nan), np.full(40, np.nan))
            found = elbow.elbow(series, pool, simulations=999)
            chosen.append(bool(found.found))
            plain.append((found.p_plain or 0.0) <= elbow.LEVEL)
            every = doubling(series, rng, draws=500)
            doubled.append((every.low or 0.0) <= 200.0 <= (every.high or math.inf))
    show("false alarms, state of the art among 40 noisy models, choice not simulated", plain)
    show("false alarms, state of the art among 40 noisy models, as shipped", chosen)
    show("coverage of the doubling time's interval for such a state of the art", doubled)


def shapes() -> None:
    """Print what straight and bent trends of 14 models are called."""
    print("\nShapes, 14 models over six doublings, scatter 0.4 (in ln), 400 trends each")
    t = np.linspace(0.0, 6.0, 14)
    truths = {
        "exponential": t * math.log(2),
        "super-exponential": (0.3 * t + 0.15 * t**2) * math.log(2),
        "S-curve": -np.logaddexp(0.0, -2.0 * (t - 3.0)),
        "linear": np.log(0.5 + 4.0 * t),
    }
    for name, y in truths.items():
        rng = np.random.default_rng(SEED)
        none = np.full(14, np.nan)
        noisy = (np.exp(y + rng.normal(0, 0.4, 14)) for _ in range(400))
        found = [compare(Series(("m",) * 14, t, value, none, none)) for value in noisy]
        for how in ("by_prediction", "by_fit"):
            called = [getattr(each, how) for each in found]
            show(f"{name}, {how}: called so", [one == name for one in called])
            show(f"{name}, {how}: called another", [one not in (name, "can't tell") for one in called])


PARTS = {"speed": speed, "coverage": coverage, "trend": trend, "elbow": bends, "shapes": shapes}

if __name__ == "__main__":
    for wanted in sys.argv[1:] or PARTS:
        PARTS[wanted]()
