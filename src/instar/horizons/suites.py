"""`instar horizon`: what runs on a suite of tasks say about every model, as JSON and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from instar.contracts.evidence import Estimate
from instar.contracts.records import Floats
from instar.horizons import chart
from instar.horizons.choices import Cheating
from instar.horizons.curves import Crossing, Method, Reading, doubling_draws, read
from instar.horizons.flags import Variant, flags, longest, sensitivity, spread
from instar.horizons.profile import Interval
from instar.horizons.runs import Runs
from instar.horizons.tables import ModelEntry
from instar.horizons.trend import Series, doubling, doubling_of_draws, state_of_the_art

NAMES = {0.5: "p50", 0.8: "p80"}


@dataclass(frozen=True)
class Terms:
    """What a horizon may rest on.

    Attributes:
        reliable: the longest length that the suite measures, in minutes; None is each model's longest task.
        cheating: what runs count as in which the model cheated.
    """

    reliable: float | None = None
    cheating: Cheating = Cheating.FAILURE


def measure(
    given: Runs, method: Method, rng: np.random.Generator, source: str, notes: Sequence[str] = (),
    terms: Terms | None = None,
) -> tuple[dict[str, Any], list[ModelEntry]]:  # fmt: skip
    """Fit every model; return the `--json` object, and the models as rows of a table of horizons.

    Only models with a release date and a bounded 50 % horizon within reliable lengths are in the table.
    """
    terms = terms or Terms()
    runs = given.treated(terms.cheating)
    seeds = rng.bit_generator.seed_seq.spawn(1)  # type: ignore[attr-defined]
    all_readings = read(runs, method, rng)
    number = {name: place for place, name in enumerate(runs.models)}
    limits = {r.model: terms.reliable or longest(runs.answers[number[r.model]]) for r in all_readings}
    models = [_model(runs, number[r.model], r, method, limits[r.model]) for r in all_readings]
    cheating = treatments(given, method, terms, seeds[0]) if given.cheated.any() else None
    beyond = [r.model for r in all_readings if (r.crossings[0.5].value or 0.0) > limits[r.model]]
    readings = [r for r in all_readings if r.model not in beyond]
    if beyond:
        notes = [*notes, f"beyond the longest reliable task, so in no table and no doubling time: {', '.join(beyond)}"]
    found = {
        "source": source, "weighting": method.weighting, "penalty": method.ridge, "resamples": method.resamples,
        "tasks": int(np.unique(runs.task).size), "families": int(np.unique(runs.family[runs.task]).size),
        "runs": int(runs.score.size), "models": models, "separation": _separation(all_readings, limits),
        "doubling_days": _doubling(readings, rng), "cheating": cheating, "notes": list(notes),
    }  # fmt: skip
    return found, [entry for reading in readings if (entry := _entry(reading))]


def _model(runs: Runs, number: int, reading: Reading, method: Method, reliable: float) -> dict[str, Any]:
    variants = sensitivity(runs, number, method)
    figures: dict[str, Any] = {"reliable_minutes": reliable if math.isfinite(reliable) else None}
    for share, name in NAMES.items():
        crossing = reading.crossings[share]
        figures[name] = estimate(crossing, crossing.bootstrap, reading.families, reliable).to_json()
        figures[f"{name}_profile"] = estimate(crossing, crossing.profile, reading.families, reliable).to_json()
    return {
        "model": reading.model, "release_date": reading.released or None, "runs": reading.runs,
        "tasks": reading.tasks, "families": reading.families, "average_score": reading.average,
        "intercept": reading.intercept, "slope": reading.slope, **figures,
        "flags": list(flags(runs, runs.answers[number], reading, method.weighting, reliable)),
        "sensitivity": [_variant(variant, reliable) for variant in variants],
        "sensitivity_factor_p50": spread(reading, variants, reliable),
    }  # fmt: skip


def estimate(crossing: Crossing, interval: Interval, families: int, reliable: float) -> Estimate:
    """Return a horizon with its interval; past the longest reliable length only that it is longer."""
    low, high = interval
    if crossing.value is not None and crossing.value > reliable:
        return Estimate(None, None if low is None else min(low, reliable), None, families, note=above(reliable))
    note = ""
    if crossing.value is None:
        bound = crossing.bound and min(crossing.bound, reliable)
        note = f"{crossing.side} {bound:.4g}" if bound else f"no bound: {crossing.side} is all we know"
        low, high = (None if end is None else min(end, reliable) for end in interval)
    return Estimate(crossing.value, low, high, families, note=note)


def above(reliable: float) -> str:
    """Return what is said of a horizon past the longest reliable length."""
    return f"above {chart.length(reliable)}"


def _variant(variant: Variant, reliable: float) -> dict[str, Any]:
    known = {name: variant.horizons[share] for share, name in NAMES.items()}
    beyond = [name for name, length in known.items() if length is not None and length > reliable]
    return {"choice": variant.choice, **known, **dict.fromkeys(beyond), "beyond_reliable": beyond}


def _entry(reading: Reading) -> ModelEntry | None:
    half, most = (reading.crossings[share] for share in NAMES)
    if half.value is None or not reading.released:
        return None
    return ModelEntry(reading.model, date.fromisoformat(reading.released), half.value, *half.bootstrap, most.value,
                 *(most.bootstrap if most.value else (None, None)))  # fmt: skip


# --- cheating ---------------------------------------------------------------------------------------------------------


def treatments(given: Runs, method: Method, terms: Terms, seed: np.random.SeedSequence) -> dict[str, Any]:
    """Return the 50 % horizons of the models that cheated under all three treatments, on the same draws of tasks."""
    cheated = np.bincount(given.model[given.cheated], minlength=len(given.models))
    every = np.bincount(given.model, minlength=len(given.models))
    table: dict[str, dict[str, Any]] = {
        given.models[m]: {"model": given.models[m], "cheated_runs": int(cheated[m]), "runs": int(every[m])}
        for m in np.flatnonzero(cheated)
    }  # fmt: skip
    for way in Cheating:
        runs = given.treated(way)
        readings = {r.model: r for r in read(runs, method, np.random.default_rng(seed))}
        for name, row in table.items():
            row[way.value] = _one_treatment(runs, readings.get(name), terms.reliable).to_json()
    return {"counted_as": terms.cheating.value, "models": list(table.values())}


def _one_treatment(runs: Runs, reading: Reading | None, reliable: float | None) -> Estimate:
    if reading is None:
        return Estimate(None, None, None, 0, note="no run is left")
    limit = reliable or longest(runs.answers[runs.models.index(reading.model)])
    crossing = reading.crossings[0.5]
    return estimate(crossing, crossing.bootstrap, reading.families, limit)


def _separation(readings: Sequence[Reading], limits: Mapping[str, float]) -> dict[str, Any] | None:
    """Say whether the suite tells its two best models apart: the ratio of their horizons, draw by draw.

    No ratio is given where the best is beyond reliable lengths.
    """
    known = [reading for reading in readings if reading.crossings[0.5].value is not None and reading.draws[0.5].size]
    if len(known) < 2:
        return None
    second, first = sorted(known, key=lambda reading: reading.crossings[0.5].value or 0.0)[-2:]
    with np.errstate(invalid="ignore"):
        ratio = first.draws[0.5] - second.draws[0.5]
    ratio = ratio[np.isfinite(ratio)]
    if ratio.size < 0.9 * first.draws[0.5].size:
        return {"best": first.model, "next": second.model, "ratio": None, "separated": False}
    low, high = (float(2.0**end) for end in np.quantile(ratio, [0.025, 0.975]))
    value = (first.crossings[0.5].value or 0.0) / (second.crossings[0.5].value or 1.0)
    within = (first.crossings[0.5].value or 0.0) <= limits[first.model]
    ratio_found = Estimate(value, low, high, first.families).to_json() if within else None
    return {"best": first.model, "next": second.model, "ratio": ratio_found, "separated": low > 1.0}


def _doubling(readings: Sequence[Reading], rng: np.random.Generator) -> dict[str, Any] | None:
    """Estimate the doubling time of the models that are dated; its interval holds the errors that they share.

    The wider of two at each end: the scatter around the line, and the bootstrap's joint draws.
    """
    dated = [reading for reading in readings if reading.released and reading.crossings[0.5].value]
    if len(dated) < 2:
        return None
    at = np.array([date.fromisoformat(reading.released).toordinal() for reading in dated], dtype=np.float64)
    value = np.array([reading.crossings[0.5].value or 0.0 for reading in dated])
    keep = state_of_the_art(at, value)
    if keep.sum() < 2 or not np.ptp(at[keep]):
        return None
    open_ends: Floats = np.full(int(keep.sum()), np.nan)
    names = tuple(reading.model for reading, kept in zip(dated, keep, strict=True) if kept)
    plain = doubling(Series(names, at[keep], value[keep], open_ends, open_ends), rng)
    joint = doubling_of_draws(at, doubling_draws(dated, 0.5), keep) if dated[0].draws[0.5].size else None
    if joint is None or plain.value is None:
        return plain.to_json()
    low = min(joint[0], plain.low if plain.low is not None else math.inf)
    unbounded = joint[1] is None or (plain.high is None and plain.n > 2)
    high = None if unbounded else max(joint[1] or 0.0, plain.high or 0.0)
    return Estimate(plain.value, low, high, plain.n, "estimated", plain.note).to_json()


# --- in words ---------------------------------------------------------------------------------------------------------


def words(found: Mapping[str, Any]) -> str:
    """Return the object of `measure` in words, with a small plot."""
    models = found["models"]
    head = (
        f"{found['runs']:,} runs of {len(models)} models on {found['tasks']} tasks in {found['families']} families "
        f"({found['source']}); weighting {found['weighting']}, penalty {found['penalty']:g}"
    )
    lines = [head, "", *_table(models), "", "50 % horizon, 95 % bootstrap interval:"]
    lines += chart.bars([(m["model"], m["p50"]["low"], m["p50"]["value"], m["p50"]["high"]) for m in models])
    flagged = [f"  {m['model']}: {flag}" for m in models for flag in m["flags"]]
    lines += ["", "Flags:", *flagged] if flagged else ["", "No flags."]
    lines += ["", *_cheating(found["cheating"])] if found["cheating"] else []
    lines += ["", *_sensitivity(models), "", *_verdicts(found)]
    return "\n".join([*lines, *(f"Note: {note}." for note in found["notes"])])


def _table(models: Sequence[Mapping[str, Any]]) -> list[str]:
    head = ["model", "score", "p50", "bootstrap", "profile", "p80", "bootstrap", "profile"]
    rows = [
        [m["model"], f"{m['average_score']:.3f}", *_cells(m["p50"], m["p50_profile"]),
         *_cells(m["p80"], m["p80_profile"])]
        for m in models
    ]  # fmt: skip
    return _columns([head, *rows])


def _cells(figure: Mapping[str, Any], profile: Mapping[str, Any]) -> list[str]:
    if figure["value"] is None:
        return [figure["note"], "", ""]
    return [chart.length(figure["value"]), *(interval(each) for each in (figure, profile))]


def interval(figure: Mapping[str, Any]) -> str:
    """Return "2.1 to 3.4 h" or what is open, in words."""
    low, high = figure["low"], figure["high"]
    if low is None and high is None:
        return "unbounded"
    if low is None or high is None:
        return f"above {chart.length(low)}" if high is None else f"below {chart.length(high)}"
    return f"{chart.length(low)} to {chart.length(high)}"


def _cheating(found: Mapping[str, Any]) -> list[str]:
    """Return the table of the three treatments, with how far they move each horizon."""
    ways = [way.value for way in Cheating]
    rows = [["model", "cheated", *ways, "longest / shortest"]]
    for m in found["models"]:
        known = [m[way]["value"] for way in ways]
        lengths = [m[way]["note"] if m[way]["value"] is None else
                   f"{chart.length(m[way]['value'])} ({interval(m[way])})" for way in ways]  # fmt: skip
        factor = f"x {max(known) / min(known):.2f}" if all(known) else "open"
        rows.append([m["model"], f"{m['cheated_runs']} of {m['runs']}", *lengths, factor])
    return [
        "50 % horizons if runs with cheating count as failures, are discarded, or count as successes; all figures "
        f"above take '{found['counted_as']}':", *_columns(rows),
    ]  # fmt: skip


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _sensitivity(models: Sequence[Mapping[str, Any]]) -> list[str]:
    known = [m for m in models if m["sensitivity_factor_p50"] is not None]
    if not known:
        return []
    lines = ["Other reasonable choices (50 % horizon; the last column is the longest over the shortest):"]
    for m in known:
        limit = above(m["reliable_minutes"] or math.inf)
        beyond = [v for v in m["sensitivity"] if "p50" in v["beyond_reliable"]]
        moved = ", ".join(f"{_short(v['choice'])} {limit if v in beyond else chart.length(v['p50'])}"
                          for v in m["sensitivity"])  # fmt: skip
        least = "at least " if beyond or m["p50"]["value"] is None else ""
        lines.append(f"  {m['model']}: {moved}; x {least}{m['sensitivity_factor_p50']:.2f}")
    return lines


def _short(choice: str) -> str:
    return choice.replace("without the ", "no ").replace(" of the tasks", "").replace("weighting ", "")


def _verdicts(found: Mapping[str, Any]) -> list[str]:
    lines, apart, doubled = [], found["separation"], found["doubling_days"]
    if apart is not None:
        ratio = apart["ratio"]
        shown = "" if ratio is None else f": x {ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
        said = "The suite separates" if apart["separated"] else "The suite does not separate"
        lines.append(f"{said} its two best, {apart['best']} and {apart['next']}{shown}.")
    if doubled is not None:
        lines.append(f"Doubling time of the state of the art: {days(doubled)}. See `instar trend` for more.")
    else:
        lines.append("No doubling time: it takes two models with a 'release_date' and a bounded horizon.")
    return lines


def days(figure: Mapping[str, Any]) -> str:
    """Return a doubling time in words."""
    note = f"; {figure['note']}" if figure.get("note") else ""
    if figure["value"] is None:
        return f"can't tell{note}"
    if figure["low"] is None:
        return f"{figure['value']:.1f} days ({figure['n']} models{note})"
    high = "no upper bound" if figure["high"] is None else f"{figure['high']:.1f}"
    return f"{figure['value']:.1f} days ({figure['low']:.1f} to {high}; {figure['n']} models{note})"
