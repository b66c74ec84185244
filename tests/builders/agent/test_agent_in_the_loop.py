"""An agent in charge of a toy lab: slots stay busy while it thinks, and nothing of it outlives the conductor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from instar.archive import read_archive
from instar.builders import agent, incumbent
from instar.contracts.builder import BuilderContext
from instar.contracts.records import Proposal, Trial, TrialState
from tests.rig import Rig
from tests.sandbox.inside import LINUX
from tests.toys import TeachingToyLab

pytestmark = LINUX

PUSHES = """
import json, random, time
time.sleep(0.3)
design = json.load(open("design.json"))
design["push"] = 0.9 + random.random() / 20
json.dump(design, open("design.json", "w"))
json.dump({"p_better": 0.9, "mean": 0.5, "deviation": 0.1, "why": "push harder"}, open("forecast.json", "w"))
"""


def builder(home: Path, lab: TeachingToyLab, script: str) -> agent.AgentBuilder:
    options = {"command": [sys.executable, "-c", script], "timeout": "60s", "ahead": 2}

    def make(name: str) -> incumbent.IncumbentBuilder:
        return incumbent.create(lab.name, lab.space, np.random.default_rng(0))

    context = BuilderContext(
        options=options, directory=home / "builders" / "agent", seed_design=lab.seed_design(), make=make
    )
    return agent.create(lab.name, lab.space, np.random.default_rng(0), context)


def test_an_agent_builds_generations_while_slots_stay_busy(tmp_path: Path) -> None:
    lab = TeachingToyLab()
    thinker = builder(tmp_path, lab, PUSHES)
    try:
        run, why = Rig(tmp_path, lab, {"generations": 2}, builder=thinker).play()
    finally:
        thinker.close()
    assert why == "generations reached"
    assert run.slots.idle["agent"] > 0.0
    archive = read_archive(tmp_path / "archive.db")
    proposals = list(archive.history(Proposal))
    trials = [trial for trial in archive.history(Trial) if trial.state is TrialState.SCORED]
    archive.close()
    assert {str(proposal.author) for proposal in proposals} == {"agent:python"}
    assert {str(generation.author) for generation in run.generations[1:]} == {"agent:python"}
    assert all(proposal.spend.seconds > 0.3 for proposal in proposals)
    assert all("designer.family" in proposal.design.parameters for proposal in proposals)
    assert trials


def test_an_agent_dies_with_a_killed_conductor(tmp_path: Path) -> None:
    mark = f"import time; time.sleep(600.25); {str(tmp_path)!r}"
    code = (
        "import time; from pathlib import Path; from tests.builders.agent import test_agent_in_the_loop as here\n"
        "from tests.toys import TeachingToyLab; from instar.testing.builder import generation, make_brief\n"
        f"lab = TeachingToyLab(); made = here.builder(Path({str(tmp_path)!r}), lab, {mark!r})\n"
        "made.propose(make_brief(generation(0, lab.seed_design())))\ntime.sleep(600)"
    )
    root = Path(__file__).parents[3]
    conductor = subprocess.Popen([sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    try:
        assert _count(mark, wanted=2) == 2  # as many as it keeps ahead
    finally:
        conductor.send_signal(signal.SIGKILL)
        conductor.wait()
    assert _count(mark, wanted=0) == 0


def _count(mark: str, wanted: int) -> int:
    for _ in range(200):
        lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        found = sum(line[-1:] == [mark] and "bwrap" not in line[0] for line in lines)
        if found == wanted:
            break
        time.sleep(0.05)
    return found
