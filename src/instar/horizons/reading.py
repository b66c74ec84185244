"""Makes `Runs` of rows, and refuses what cannot be a run: every refusal names the row and the column.

Columns, as in METR's runs file: `alias` (or `model`), `task_id`, `human_minutes`, a score in 0..1 (`score_binarized`,
`score_cont` or `score`); `task_family` (default: what stands before the "/" of the task's id), and if wanted
`run_id`, `release_date` and `task_source`. Other columns are not read. Rows of `human` baselines are left out.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from instar.contracts.errors import BadInput
from instar.horizons.rows import Row, rows_of
from instar.horizons.runs import Runs

SCORES = ("score_binarized", "score_cont", "score")
LENGTHS = ("human_minutes", "human_seconds", "human_hours", "length")
MODELS = ("alias", "model")
HUMAN = "human"


@dataclass
class _Table:
    """What has been read so far; indices by name."""

    models: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    families: dict[str, int] = field(default_factory=dict)
    minutes: list[float] = field(default_factory=list)
    family: list[int] = field(default_factory=list)
    source: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)  # task or model -> where it was first met
    runs: dict[tuple[str, str, str], str] = field(default_factory=dict)
    columns: tuple[list[int], list[int], list[float]] = field(default_factory=lambda: ([], [], []))
    left_out: int = 0


def read_runs(paths: Sequence[Path], score: str | None = None, lengths: Path | None = None) -> tuple[Runs, list[str]]:
    """Read run files.

    Args:
        paths: one or more, see `rows.KINDS`.
        score: the column (or Inspect's scorer) to use; by default the first of `SCORES` that is there.
        lengths: a CSV of `task_id`, `human_minutes` and maybe `task_family`, for runs that don't say their lengths.

    Returns:
        The runs, and what a reader should know of them in words.

    Raises:
        BadInput: see the module.
    """
    known = _lengths(lengths) if lengths else {}
    table = _Table()
    for path in paths:
        names: dict[str, str] | None = None
        for row in rows_of(path):
            cells = _with_lengths(row.cells, known)
            names = names or _columns(Row(row.where, cells), path, score)
            _take(table, Row(row.where, cells), names)
    if not table.columns[0]:
        raise BadInput(f"{', '.join(map(str, paths))}: there is no run in it", "Give a row per run.")
    return _runs(table), _notes(table)


def write_runs(runs: Runs, path: Path) -> None:
    """Write runs as CSV in the columns that `read_runs` reads."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["alias", "release_date", "task_id", "task_family", "human_minutes", "run_id", "score"])
        for number, (m, t, score) in enumerate(zip(runs.model, runs.task, runs.score, strict=True)):
            released = runs.released[m] if runs.released else ""
            family = runs.families[runs.family[t]]
            rows.writerow(
                [runs.models[m], released, runs.tasks[t], family, repr(float(runs.minutes[t])), number, f"{score:g}"]
            )


# --- one row ----------------------------------------------------------------------------------------------------------


def _columns(row: Row, path: Path, score: str | None) -> dict[str, str]:
    """Return which column plays which part: model, task, length, score."""
    there = row.cells.keys()
    lengths = [name for name in LENGTHS if name in there]
    if len(lengths) > 1:
        raise BadInput(
            f"{path}: two columns hold lengths, '{lengths[0]}' and '{lengths[1]}'", "Keep one: units must not be mixed."
        )
    if lengths and lengths[0] not in ("human_minutes", "length"):
        raise BadInput(f"{path}: column '{lengths[0]}'", "Convert lengths to minutes, in a column 'human_minutes'.")
    named = {"model": MODELS, "length": LENGTHS[:1] + LENGTHS[-1:], "score": _scores(row, score, path)}
    found = {"task": "task_id"}
    if "task_id" not in there:
        raise BadInput(f"{path}: column 'task_id' is missing", _has(there))
    for part, names in named.items():
        chosen = next((name for name in names if name in there), None)
        if chosen is None:
            hint = " Or give --lengths FILE." if part == "length" else ""
            raise BadInput(f"{path}: column '{names[0]}' is missing", _has(there) + hint)
        found[part] = chosen
    return found


def _scores(row: Row, score: str | None, path: Path) -> tuple[str, ...]:
    scorers = [name for name in row.cells if name.startswith("score:")]
    if score is not None:
        return (score, f"score:{score}") if f"score:{score}" not in row.cells else (f"score:{score}",)
    if len(scorers) > 1:
        names = ", ".join(name.removeprefix("score:") for name in scorers)
        raise BadInput(f"{path}: several scorers: {names}", "Say which: --score NAME.")
    return (*SCORES, *scorers)


def _has(there: Iterable[str]) -> str:
    return f"It has: {', '.join(map(str, there)) or 'nothing'}."


def _take(table: _Table, row: Row, names: Mapping[str, str]) -> None:
    """Add one run.

    Raises:
        BadInput: something is wrong with the row.
    """
    model = _text(row, names["model"])
    if model == HUMAN:
        table.left_out += 1
        return
    task = _text(row, names["task"])
    minutes = _number(row, names["length"])
    if minutes <= 0:
        raise BadInput(f"{row.where}: column '{names['length']}': {minutes:g} is not above 0", "Give minutes.")
    score = _number(row, names["score"])
    if not 0.0 <= score <= 1.0:
        raise BadInput(f"{row.where}: column '{names['score']}': {score:g} is outside 0..1", "Scores are shares.")
    _not_twice(table, row, model, task)
    number = _task(table, row, task, minutes, names["length"])
    table.columns[0].append(_model(table, row, model))
    table.columns[1].append(number)
    table.columns[2].append(score)


def _not_twice(table: _Table, row: Row, model: str, task: str) -> None:
    run = row.cells.get("run_id")
    if run in (None, ""):
        return
    key = model, task, str(run)
    if key in table.runs:
        raise BadInput(
            f"{row.where}: column 'run_id': run '{run}' of {model} on {task} is already at {table.runs[key]}",
            "Leave one of them out.",
        )
    table.runs[key] = row.where


def _task(table: _Table, row: Row, task: str, minutes: float, column: str) -> int:
    family = str(row.cells.get("task_family") or task.split("/")[0])
    unit = str(row.cells.get("unit") or "minutes")
    if unit not in ("minutes", "min"):
        raise BadInput(f"{row.where}: column 'unit': '{unit}'", "Convert all lengths to minutes.")
    if task not in table.tasks:
        table.told[f"task {task}"] = row.where
        table.minutes.append(minutes)
        table.family.append(table.families.setdefault(family, len(table.families)))
        table.source.append(str(row.cells.get("task_source") or ""))
        return table.tasks.setdefault(task, len(table.tasks))
    number = table.tasks[task]
    first = table.told[f"task {task}"]
    if not math.isclose(table.minutes[number], minutes, rel_tol=1e-4):
        times = max(table.minutes[number], minutes) / min(table.minutes[number], minutes)
        mixed = " (mixed units?)" if any(math.isclose(times, unit, rel_tol=0.01) for unit in (60, 3600)) else ""
        raise BadInput(
            f"{row.where}: column '{column}': {task} takes {minutes:g} here and {table.minutes[number]:g} at {first}"
            + mixed, "Give a task one length.",
        )  # fmt: skip
    if table.families.get(family) != table.family[number]:
        raise BadInput(
            f"{row.where}: column 'task_family': {task} is of '{family}' here and of another family at {first}",
            "Give a task one family.",
        )
    return number


def _model(table: _Table, row: Row, model: str) -> int:
    released = _released(row)
    if model not in table.models:
        table.told[f"model {model}"] = row.where
        table.released.append(released)
        return table.models.setdefault(model, len(table.models))
    number = table.models[model]
    if released != table.released[number]:
        raise BadInput(
            f"{row.where}: column 'release_date': {model} has '{released}' here and '{table.released[number]}' at "
            f"{table.told[f'model {model}']}", "Give a model one date.",
        )  # fmt: skip
    return number


def _released(row: Row) -> str:
    value = row.cells.get("release_date")
    return "" if value in (None, "") else iso_date(value, row.where, "release_date").isoformat()


def iso_date(value: Any, where: str, column: str) -> date:
    """Read a date such as 2025-04-16, with or without a time behind it."""
    if isinstance(value, date):  # a datetime is one too
        return date(value.year, value.month, value.day)
    try:
        return date.fromisoformat(str(value).strip()[:10])
    except ValueError:
        raise BadInput(f"{where}: column '{column}': '{value}' is no date", "Write it as 2025-04-16.") from None


def _text(row: Row, column: str) -> str:
    value = row.cells.get(column)
    if value is None or not str(value).strip():
        raise BadInput(f"{row.where}: column '{column}' is empty", "Fill it, or leave the row out.")
    return str(value).strip()


def _number(row: Row, column: str) -> float:
    return number_in(row.cells.get(column), row.where, column)


def number_in(value: Any, where: str, column: str) -> float:
    """Read a finite number; text with a unit, such as 2h, is none.

    Raises:
        BadInput: it is not.
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        shown = "empty" if value in (None, "") else f"'{value}' is no number"
        hint = "Give numbers without units; lengths are in minutes." if value else "Fill it, or leave the row out."
        raise BadInput(f"{where}: column '{column}': {shown}", hint) from None
    if not math.isfinite(found):
        raise BadInput(f"{where}: column '{column}': {found} is not finite", "Give a number.")
    return found


# --- the whole --------------------------------------------------------------------------------------------------------


def _lengths(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in rows_of(path):
        task = _text(row, "task_id")
        if task in found:
            raise BadInput(f"{row.where}: column 'task_id': '{task}' is there twice", "Give a task one length.")
        found[task] = {key: row.cells[key] for key in ("human_minutes", "task_family") if row.cells.get(key)}
    return found


def _with_lengths(cells: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    return {**cells, **known.get(str(cells.get("task_id")), {})} if known else cells


def _runs(table: _Table) -> Runs:
    model, task, score = table.columns
    return Runs(
        tuple(table.models), tuple(table.tasks), tuple(table.families), np.asarray(table.minutes, dtype=np.float64),
        np.asarray(table.family, dtype=np.int64), np.asarray(model, dtype=np.int64),
        np.asarray(task, dtype=np.int64), np.asarray(score, dtype=np.float64),
        tuple(table.released) if any(table.released) else (), tuple(table.source) if any(table.source) else (),
    )  # fmt: skip


def _notes(table: _Table) -> list[str]:
    notes = [f"{table.left_out} rows of human baselines are left out"] if table.left_out else []
    undated = [name for name, number in table.models.items() if not table.released[number]]
    if undated and len(undated) < len(table.models):
        notes.append(f"no release date: {', '.join(undated)}")
    if len(table.families) == len(table.tasks) > 1:
        notes.append("every task is a family of its own: if tasks are related, say so in 'task_family'")
    return notes
