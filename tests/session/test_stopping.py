"""`instar stop` on a run in another process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from instar.archive import lock
from instar.cli import main
from instar.contracts import plugins
from instar.session import stopping
from tests.rig import REPOSITORY
from tests.toy_command import with_toy

TIMEOUT_SECONDS = 120.0


def test_a_run_ends_as_by_ctrl_c_and_its_record_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "run"
    command = [sys.executable, "-m", "tests.toy_command", "run", "toy", "--home", str(home), "--budget", "1h"]
    command += ["--executor", "inline", "--workers", "1", "--unsafe-no-sandbox", "--json"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:  # a trial has ended: the loop is under way
            if line.startswith("trial"):
                break
        assert main.command(["stop", "--home", str(home), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {
            "run_directory": str(home), "asked": True, "process": process.pid,
        }  # fmt: skip
        printed, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130
    assert json.loads(printed)["status"] == "interrupted"
    assert stopping.stop(home)["asked"] is False
    monkeypatch.setattr(plugins, "entry_points", with_toy(plugins.entry_points))
    assert main.command(["verify", "--home", str(home)]) == 0


def test_no_other_process_is_signalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the holder changes while it is looked at, nothing is sent; a holder without a number is told of."""
    archive = tmp_path / "archive.db"
    archive.touch()
    holders = iter([1, None])
    monkeypatch.setattr(lock, "holder", lambda _: next(holders))
    monkeypatch.setattr("signal.pidfd_send_signal", lambda *_: pytest.fail("a signal was sent"))
    stopping.stop(tmp_path)
    monkeypatch.setattr(lock, "holder", lambda _: 0)
    with pytest.raises(stopping.BadInput, match="not in reach"):
        stopping.stop(tmp_path)
