"""How `bench/openevolve.py` starts either engine on the task, and reads what it has on record."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openevolve_task as task

VERSION, WORKERS, HANG_SECONDS = "0.4.0", 2, 3


@dataclass(frozen=True)
class Marked:
    """One iteration on record.

    Attributes:
        score: in [0, 1]; None where it got none.
        seed: of its training.
        half: whether half of the items are in the score.
    """

    source: str
    score: float | None
    seed: int = 0
    half: bool = False


@dataclass(frozen=True)
class Engine:
    """How one engine is started, and what it has on record.

    Attributes:
        count: iterations that it has told of, since it was first started.
        records: the iterations at the end of a run.
        text: all that it logs.
        stop: how it is ended once it has enough; None where it ends by itself.
    """

    name: str
    command: list[str]
    place: Path
    variables: Mapping[str, str]
    count: Callable[[], int]
    records: Callable[[], list[Marked]]
    text: Callable[[], str]
    stop: signal.Signals | None = None

    def start(self) -> subprocess.Popen[bytes]:
        with (self.place / "console.txt").open("ab") as console:
            return subprocess.Popen(
                self.command, cwd=self.place, env=dict(os.environ) | dict(self.variables), stdin=subprocess.DEVNULL,
                stdout=console, stderr=console,
            )  # fmt: skip


Make = Callable[[str, int, str], Engine]
"""Of the model's address, the iterations wanted, and the kind of the model's hostile answer or ""."""


def install(env: Path) -> Path:
    """Return the Python of an environment that holds OpenEvolve, made if it isn't there."""
    python = env / "bin" / "python"
    asked = [str(python), "-c", "from importlib.metadata import version; print(version('openevolve'))"]
    if not python.exists() or subprocess.run(asked, capture_output=True, text=True).stdout.strip() != VERSION:
        venv.create(env, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", f"openevolve=={VERSION}"], check=True)
    return python


def openevolve(python: Path, place: Path, url: str, iterations: int, attack: str = "") -> Engine:
    """Prepare a run of OpenEvolve below `place`."""
    task.write(place)
    settings: dict[str, Any] = {
        "llm": {"api_base": url, "models": [{"name": "stand-in"}]},
        "evaluator": {"parallel_evaluations": WORKERS} | ({"timeout": HANG_SECONDS} if attack == "hang" else {}),
    } | ({"checkpoint_interval": 5} if attack else {})
    (place / "config.yaml").write_text(json.dumps(settings))
    out = place / "out"
    command = [
        str(python), "-m", "openevolve.cli", "repository/curve.py", "evaluator/evaluator.py", "--config", "config.yaml",
        "--output", str(out), "--iterations", str(iterations),
    ]  # fmt: skip

    def records() -> list[Marked]:
        newest = newest_checkpoint(out)
        programs = [json.loads(path.read_text()) for path in (newest / "programs").glob("*.json")] if newest else []
        return [
            Marked(one["code"], one["metrics"].get("combined_score")) for one in programs if one["iteration_found"] > 0
        ]

    told = Tail(place / "console.txt", rb"Iteration \d+: Program ")
    return Engine(
        "OpenEvolve", command, place, {"OPENAI_API_KEY": task.SECRET}, told.count, records,
        lambda: (place / "console.txt").read_text(errors="replace"),
    )  # fmt: skip


def newest_checkpoint(out: Path) -> Path | None:
    found = sorted((out / "checkpoints").glob("checkpoint_*"), key=lambda path: int(path.name.rpartition("_")[2]))
    return found[-1] if found else None


class Tail:
    """Counts a pattern's matches in a file that grows, reading each line once."""

    def __init__(self, path: Path, pattern: bytes) -> None:
        self._path, self._pattern, self._at, self._found = path, re.compile(pattern), 0, 0

    def count(self) -> int:
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._at += len(text)
        self._found += len(self._pattern.findall(text))
        return self._found


def instar(place: Path, url: str, attack: str = "", *, wall: bool = True) -> Engine:
    """Wrap the repository as a lab and prepare a run of Instar below `place`."""
    task.write(place)
    limit = HANG_SECONDS if attack == "hang" else 60
    here = [sys.executable, "-m", "instar"]
    made = [
        *here, "lab", "new", "curve", "--from", "repository", "--editable", "curve.py", "--run", "python train.py",
        "--metric", "error:min", "--evaluate", "python evaluate.py", "--set", "range=0:2", "--set", f"wall={limit}s",
    ]  # fmt: skip
    subprocess.run(made, cwd=place, check=True, capture_output=True)
    (place / "instar.toml").write_text(
        f'trial_limit = "{limit}s"\n\n[builders.llm]\nmodel = "stand-in"\nbase_url = "{url}"\n'
        f'api_key_env = "OPENAI_API_KEY"\n'
    )
    home = place / "home"
    command = [
        *here, "run", "curve", "--builder", "llm:stand-in", "--workers", str(WORKERS), "--budget", "4h", "--home",
        str(home), *([] if wall else ["--unsafe-no-sandbox"]), "--json",
    ]  # fmt: skip

    def rows(query: str) -> list[Any]:
        if not (home / "archive.db").exists():
            return []
        with closing(sqlite3.connect(f"file:{home / 'archive.db'}?mode=ro", uri=True)) as archive:
            try:
                return archive.execute(query).fetchall()
            except sqlite3.OperationalError:  # it is just being made
                return []

    def count() -> int:
        found = rows(
            "SELECT count(*) FROM trials JOIN proposals ON proposals.number = trials.proposal "
            "WHERE trials.replica = 0 AND trials.state = 'scored' AND proposals.why NOT LIKE 'in place of%'"
        )
        return int(found[0][0]) if found else 0

    def records() -> list[Marked]:
        found = rows(
            "SELECT designs.files, trials.metric, trials.seed FROM trials "
            "JOIN proposals ON proposals.number = trials.proposal JOIN designs ON designs.digest = proposals.design "
            "WHERE trials.replica = 0 AND trials.state NOT IN ('running', 'cancelled', 'duplicate')"
        )
        return [Marked(json.loads(files)["curve.py"], metric, int(seed), half=True) for files, metric, seed in found]

    def text() -> str:
        logs = [path.read_text(errors="replace") for path in (home / "logs").glob("*.txt")]
        return "\n".join([*logs, *(why for (why,) in rows("SELECT why FROM trials"))])

    return Engine(
        "Instar" if wall else "Instar, no sandbox", command, place, {"OPENAI_API_KEY": task.SECRET}, count, records,
        text, signal.SIGINT,
    )  # fmt: skip
