"""What a reader must know before using a horizon: flags, and how far reasonable choices move it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from instar.contracts.records import Floats
from instar.horizons.curves import OLD_RIDGE, SHARES, Method, Reading, horizon_of, point
from instar.horizons.runs import WEIGHTINGS, Answers, Runs

FEW_BEYOND = 5
"""Fewer tasks than this beyond the horizon and the suite cannot tell it from a longer one."""
ONE_FAMILY = 1.25
"""A family whose absence moves the horizon by more than this factor may decide it."""
_BINS = 6


@dataclass(frozen=True)
class Variant:
    """The same model under another choice: what was changed, and the horizons (share -> length or None)."""

    choice: str
    horizons: Mapping[float, float | None]


def flags(
    runs: Runs, answers: Answers, reading: Reading, weighting: str = "invsqrt", reliable: float | None = None
) -> tuple[str, ...]:
    """Return what makes a model's 50 % horizon doubtful, in words, worst first; empty where nothing does.

    Args:
        runs: of all models.
        answers: the model's.
        reading: its curve.
        weighting: of the tasks.
        reliable: the longest length that the suite measures; by default that of the model's longest task.
    """
    said = [
        _unbounded(reading), _extrapolated(answers, reading, reliable or longest(answers)),
        _saturated(answers, reading), _one_family(runs, answers, reading), _not_monotone(answers, weighting),
    ]  # fmt: skip
    return tuple(flag for flag in said if flag)


def _unbounded(reading: Reading) -> str:
    if reading.slope is None:
        return "unbounded: every run succeeds" if reading.average > 0.5 else "unbounded: every run fails"
    if reading.crossings[0.5].value is None:
        return "unbounded: success does not fall to 50 % near the lengths tried"
    return ""


def longest(answers: Answers) -> float:
    """Return the length of the longest task that a model tried."""
    return float(2.0 ** answers.x.max())


def _extrapolated(answers: Answers, reading: Reading, reliable: float) -> str:
    at = reading.crossings[0.5].value
    shortest = float(2.0 ** answers.x.min())
    if at is not None and at > reliable:
        return f"extrapolated: beyond the longest reliable task, {reliable:.4g}"
    if at is not None and at < shortest:
        return f"extrapolated: below the shortest task, {shortest:.4g}"
    return ""


def _saturated(answers: Answers, reading: Reading) -> str:
    at = reading.crossings[0.5].value
    if at is None and reading.average < 0.5:
        return ""
    beyond = 0 if at is None else int((answers.x > math.log2(at)).sum())
    if beyond >= FEW_BEYOND:
        return ""
    return f"saturated: {beyond} of {answers.x.size} tasks are longer than the horizon; longer tasks are needed"


def _one_family(runs: Runs, answers: Answers, reading: Reading) -> str:
    """Flag a family that moves the horizon by more than `ONE_FAMILY` and carries over half of the jackknife's sum."""
    left = reading.left_out.get(0.5, np.zeros(0))
    at = reading.crossings[0.5].value
    if at is None or left.size < 2:
        return "one family only: nothing is known about others" if answers.families.size == 1 else ""
    moved = left - math.log2(at)
    worst = int(np.argmax(np.abs(moved)))
    name = runs.families[answers.families[worst]]
    if not math.isfinite(moved[worst]):
        return f"one family decides: without '{name}' there is no horizon"
    factor = 2.0 ** abs(float(moved[worst]))
    if factor <= ONE_FAMILY or moved[worst] ** 2 <= 0.5 * float((moved**2).sum()):
        return ""
    return f"one family decides: without '{name}' the horizon is {2.0 ** float(moved[worst]):.2f} times as long"


def _not_monotone(answers: Answers, weighting: str) -> str:
    """Flag a bin of tasks that goes better than a bin of shorter ones by more than 2.5 standard errors over tasks."""
    weights = answers.weights(weighting)
    order = np.argsort(answers.x, kind="stable")
    bins = [part for part in np.array_split(order, _BINS) if part.size >= 3]
    mean = [float(np.average(answers.mean[part], weights=weights[part])) for part in bins]
    error = [_error(answers.mean[part], weights[part]) for part in bins]
    worst, where = 0.0, (0, 0)
    for later in range(len(bins)):
        for earlier in range(later):
            gain = (mean[later] - mean[earlier]) / math.hypot(error[later], error[earlier], 1e-9)
            if gain > worst:
                worst, where = gain, (earlier, later)
    if worst <= 2.5:
        return ""
    spans = [f"{2.0 ** answers.x[bins[i]].min():.3g}-{2.0 ** answers.x[bins[i]].max():.3g}" for i in where]
    return (
        f"not monotone: tasks of {spans[1]} go better ({mean[where[1]]:.0%}) than those of {spans[0]} "
        f"({mean[where[0]]:.0%})"
    )


def _error(values: Floats, weights: Floats) -> float:
    share = weights / weights.sum()
    around = values - share @ values
    # One task at least is counted as half wrong, so that a bin of all successes has an error too.
    return math.sqrt(float((share**2) @ around**2) + (0.5 * float(share.max())) ** 2)


def sensitivity(runs: Runs, number: int, method: Method) -> tuple[Variant, ...]:
    """Return a model's horizons under other reasonable choices: weighting, penalty and task set."""
    answers = runs.answers[number]
    found = [
        _variant(f"weighting {name}", answers, name, method.ridge) for name in WEIGHTINGS if name != method.weighting
    ]
    other = OLD_RIDGE if method.ridge < OLD_RIDGE else 1e-5
    found.append(_variant(f"penalty {other:g}", answers, method.weighting, other))
    for choice, subset in _subsets(runs, answers):
        kept = subset.answers[number]
        if kept.task.size:
            found.append(_variant(choice, kept, method.weighting, method.ridge))
    return tuple(found)


def _variant(choice: str, answers: Answers, weighting: str, ridge: float) -> Variant:
    curve = point(answers, weighting, ridge)
    return Variant(choice, {share: horizon_of(curve, share) for share in SHARES})


def _subsets(runs: Runs, answers: Answers) -> Sequence[tuple[str, Runs]]:
    x = np.log2(runs.minutes)
    low, high = np.quantile(answers.x, [0.25, 0.75])
    found = [
        ("without the shortest quarter of the tasks", runs.only(x > low)),
        ("without the longest quarter of the tasks", runs.only(x < high)),
    ]
    if runs.source:
        sources = np.asarray(runs.source)
        named = sorted({runs.source[task] for task in answers.task})
        found += [(f"without source '{name}'", runs.only(sources != name)) for name in named if len(named) > 1]
    return found


def spread(reading: Reading, variants: Sequence[Variant], reliable: float) -> float | None:
    """Return the largest over the smallest 50 % horizon among the published choice and the variants, or None.

    A horizon beyond `reliable` counts as that length: the factor is then at least what is returned.
    """
    base = reading.crossings[0.5].value
    found = [variant.horizons[0.5] for variant in variants] + [base]
    known = [min(length, reliable) for length in found if length is not None]
    return max(known) / min(known) if base is not None and len(known) > 1 else None
