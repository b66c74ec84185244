"""`instar verify`: each thing that may differ is found, and said."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from instar.contracts import plugins
from instar.session import verifying
from tests.rig import Rig
from tests.toy_command import with_toy
from tests.toys import TeachingToyLab


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "entry_points", with_toy(plugins.entry_points))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a promotion and data, at rest."""
    home = tmp_path_factory.mktemp("verifying") / "run"
    rig = Rig(home, TeachingToyLab(), {"generations": 1})
    rig.play()
    return home


def lines(home: Path) -> list[str]:
    return (home / "ledger" / "chain.jsonl").read_text().splitlines()


def drop_the_last(home: Path) -> None:
    (home / "ledger" / "chain.jsonl").write_text("\n".join(lines(home)[:-1]) + "\n")


def change_an_entry(home: Path) -> None:
    path = home / "ledger" / "chain.jsonl"
    path.write_text(path.read_text().replace('"kind":"proposal"', '"kind":"Proposal"', 1))


def change_a_trial(home: Path) -> None:
    with closing(sqlite3.connect(home / "archive.db")) as connection:
        connection.execute("UPDATE trials SET metric = 0.99 WHERE number = 1")
        connection.commit()


def lose_a_verdict(home: Path) -> None:
    with closing(sqlite3.connect(home / "archive.db")) as connection:
        connection.execute("DELETE FROM verdicts")
        connection.commit()


def change_weights(home: Path) -> None:
    path = home / "generations" / "0001" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")


def lose_data(home: Path) -> None:
    next((home / "experience").iterdir()).unlink()


def test_a_run_that_nobody_touched_holds(played: Path) -> None:
    found = verifying.verified(played)
    assert (found["holds"], found["problems"]) == (True, [])
    assert found["entries"] == len(lines(played))
    assert found["facts"] > 5
    assert "agree" in verifying.words(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_an_entry, "previous is"),
        (change_a_trial, "differ on trial:1"),
        (lose_a_verdict, "verdict:1, is not in the archive"),
        (change_weights, "0001 was changed"),
        (lose_data, "No such file"),
    ],
)
def test_what_was_changed_is_found(played: Path, tmp_path: Path, change: Callable[[Path], None], said: str) -> None:
    home = shutil.copytree(played, tmp_path / "run")
    change(home)
    found = verifying.verified(home)
    assert not found["holds"]
    assert any(said in problem for problem in found["problems"]), found["problems"]
    assert "does not hold" in verifying.words(found)


def test_what_the_ledger_lacks_is_pending_only_while_the_run_is_open(played: Path, tmp_path: Path) -> None:
    home = shutil.copytree(played, tmp_path / "run")
    (home / "report").mkdir(exist_ok=True)
    result = home / "report" / "result.json"
    result.unlink(missing_ok=True)
    while not lines(home)[-1].startswith('{"index":') or '"key":"promotion:1"' not in lines(home)[-1]:
        drop_the_last(home)
    drop_the_last(home)
    open_ended = verifying.verified(home)
    assert (open_ended["holds"], open_ended["pending"]) == (True, 1)
    kept = {"status": "done", "reason": "", "limits": {}, "settings": {}}
    result.write_text(json.dumps(kept))
    ended = verifying.verified(home)
    assert (ended["problems"], ended["pending"]) == (["the archive's promotion:1 is not in the ledger"], 0)
