"""Reads run files into rows: CSV, JSON lines, Parquet, METR's published task results, Inspect logs.

Every row keeps where it stands, so that what is wrong with it can be named. What the columns mean is `runs.py`'s.
"""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instar.contracts.errors import BadInput, MissingPart

MOST_RUNS = 100_000
"""Of one task in METR's task results: counts are spread into runs."""
KINDS = (".csv", ".jsonl", ".parquet", ".yaml", ".yml", ".json", ".eval")


@dataclass(frozen=True)
class Row:
    """One row of a file: `where` is such as "runs.csv, row 12"; the first row below a CSV's head is row 2."""

    where: str
    cells: Mapping[str, Any]


def rows_of(path: Path) -> Iterator[Row]:
    """Yield the rows of a run file, by its suffix.

    Raises:
        BadInput: the file cannot be read, is damaged, or is of another kind.
        MissingPart: the file is Parquet and neither pyarrow nor pandas is installed.
    """
    readers = {
        ".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet, ".yaml": _task_results, ".yml": _task_results,
        ".json": _inspect, ".eval": _inspect,
    }  # fmt: skip
    if path.suffix not in readers:
        raise BadInput(f"{path}: run files end in {', '.join(KINDS)}", "Convert it, or give it its proper name.")
    try:
        yield from readers[path.suffix](path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}", "Check the path.") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: byte {error.start} is not UTF-8", "Save it as UTF-8.") from None


def _csv(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            head = next(reader, [])
            if len(set(head)) < len(head):
                twice = next(name for name in head if head.count(name) > 1)
                raise BadInput(f"{path}, row 1: column '{twice}' is there twice", "Name every column once.")
            for cells in reader:
                if not cells:
                    continue
                where = f"{path}, row {reader.line_num}"
                if len(cells) != len(head):
                    raise BadInput(f"{where}: {len(cells)} cells under {len(head)} columns", "Mend the row.")
                yield Row(where, dict(zip(head, cells, strict=True)))
        except csv.Error as error:
            raise BadInput(f"{path}, row {reader.line_num}: {error}", "Save it as plain CSV.") from None
    if not head:
        raise BadInput(f"{path}: empty", "Give a file with a row of column names.")


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                where = f"{path}, row {number}"
                yield Row(where, _object(line, where))


def _object(text: str | bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{where}: not JSON: {error}", "Mend it, or leave it out.") from None
    if not isinstance(found, dict):
        raise BadInput(f"{where}: not a JSON object", "Write one object of column -> value.")
    return found


def _parquet(path: Path) -> Iterator[Row]:
    try:
        found = _parquet_rows(path)
    except ImportError:
        raise MissingPart(f"{path}: reading Parquet needs pyarrow", "pip install pyarrow, or save it as CSV") from None
    except ValueError as error:  # pyarrow's errors of damaged files are ValueErrors
        raise BadInput(f"{path}: not Parquet: {error}", "Check the file.") from None
    for number, cells in enumerate(found, 1):
        yield Row(f"{path}, row {number}", cells)


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError:
        import pandas  # its fastparquet may be there in pyarrow's place

        return [{str(name): cell for name, cell in row.items()} for row in pandas.read_parquet(path).to_dict("records")]
    table: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return table


# --- METR's task results ----------------------------------------------------------------------------------------------


def _task_results(path: Path) -> Iterator[Row]:
    """Yield a row per task and outcome of METR's form: agents: NAME: tasks: [...].

    Every task has a task_id, human_minutes, n_successes and n_runs.

    The family is what stands before the "/" of the task's id.
    """
    import yaml

    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not YAML: {' '.join(str(error).split())}", "Check the file.") from None
    agents = found.get("agents", found.get("agent")) if isinstance(found, dict) else None
    if not isinstance(agents, dict):
        raise BadInput(f"{path}: key 'agents' is missing", "Give METR's task results: agents -> name -> tasks.")
    for name, agent in agents.items():
        tasks = agent.get("tasks") if isinstance(agent, dict) else None
        if not isinstance(tasks, list):
            raise BadInput(f"{path}: agents.{name}: key 'tasks' is missing", "List its tasks.")
        for number, task in enumerate(tasks, 1):
            yield from _task_rows(f"{path}, agents.{name}, task {number}", str(name), agent, task)


def _task_rows(where: str, name: str, agent: Mapping[str, Any], task: Any) -> Iterator[Row]:
    keys = ("task_id", "human_minutes", "n_successes", "n_runs")
    lacking = [key for key in keys if not isinstance(task, dict) or key not in task]
    if lacking:
        raise BadInput(f"{where}: key '{lacking[0]}' is missing", f"Every task has {', '.join(keys)}.")
    solved, n = task["n_successes"], task["n_runs"]
    if not (isinstance(n, int) and 0 < n <= MOST_RUNS and isinstance(solved, int | float) and 0 <= solved <= n):
        raise BadInput(
            f"{where}: n_successes {solved} of n_runs {n}", f"Give 0 <= n_successes <= n_runs, 1 run to {MOST_RUNS:,}."
        )
    cells = {
        "alias": name, "release_date": str(agent.get("release_date") or ""), "task_id": task["task_id"],
        "task_family": str(task["task_id"]).split("/")[0], "human_minutes": task["human_minutes"],
    }  # fmt: skip
    whole = isinstance(solved, int)
    for number in range(n):  # a fractional count is spread over the runs
        yield Row(where, {**cells, "run_id": str(number), "score": float(number < solved) if whole else solved / n})


# --- Inspect logs -----------------------------------------------------------------------------------------------------


def _inspect(path: Path) -> Iterator[Row]:
    """Yield a row per sample of an Inspect log (JSON, or the .eval archive of one).

    The task is the sample's id; `human_minutes`, `task_family`, `task_source` and `release_date` come from its
    metadata, where they are there. A log that did not end well is refused: its missing samples are not at random.
    """
    header, samples = _inspect_zip(path) if path.suffix == ".eval" else _inspect_json(path)
    about = header.get("eval")
    if not isinstance(about, dict) or "model" not in about:
        raise BadInput(f"{path}: not an Inspect log: 'eval.model' is missing", "Give a log of `inspect eval`.")
    if header.get("status") != "success":
        raise BadInput(
            f"{path}: the log's status is '{header.get('status')}'",
            "Finish it with `inspect eval-retry`, or leave it out.",
        )
    for number, sample in enumerate(samples, 1):
        yield Row(f"{path}, sample {number}", _sample(about, sample))


def _sample(about: Mapping[str, Any], sample: Mapping[str, Any]) -> dict[str, Any]:
    more = sample.get("metadata") if isinstance(sample.get("metadata"), dict) else {}
    wanted = ("human_minutes", "task_family", "task_source", "release_date")
    cells = {key: more[key] for key in wanted if more and more.get(key) is not None}
    task = str(sample.get("id", ""))
    cells.setdefault("task_family", task.split("/")[0] if "/" in task else task)
    scores = sample.get("scores") if isinstance(sample.get("scores"), dict) else {}
    for name, score in (scores or {}).items():
        value = score.get("value") if isinstance(score, dict) else score
        cells[f"score:{name}"] = _GRADES.get(value, value) if isinstance(value, str) else value
    return {
        "alias": about["model"], "task_id": task,
        "run_id": f"{about.get('run_id') or about.get('created') or ''}:{sample.get('epoch', 1)}", **cells,
    }  # fmt: skip


_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
"""Inspect's letters: correct, incorrect, partially correct, no answer."""


def _inspect_json(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found = _object(path.read_bytes(), str(path))
    samples = found.get("samples")
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise BadInput(f"{path}: 'samples' is missing", "Give a full Inspect log, not its header alone.")
    return found, samples


def _inspect_zip(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        with zipfile.ZipFile(path) as parts:
            names = [name for name in parts.namelist() if name.startswith("samples/") and name.endswith(".json")]
            header = _object(parts.read("header.json"), f"{path}: header.json")
            return header, [_object(parts.read(name), f"{path}: {name}") for name in sorted(names)]
    except (zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        raise BadInput(
            f"{path}: not a readable Inspect log: {error}", "Convert it: `inspect log convert --to json`."
        ) from None
