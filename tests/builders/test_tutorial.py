"""A builder, a gate and an executor of one's own, each a file of at most thirty lines, do their work in the loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instar.archive import read_archive
from instar.builders import uniform
from instar.builders.panel import PanelBuilder
from instar.contracts import plugins
from instar.contracts.builder import Builder
from instar.contracts.errors import BadInput
from instar.contracts.evidence import Footprint
from instar.contracts.executor import Executor
from instar.contracts.gate import Gate
from instar.contracts.space import Space
from instar.report.credit import credits_of
from instar.testing.builder import BuilderConformance
from instar.testing.gate import draw_evidence
from tests.rig import Rig
from tests.toys import ToyLab

EXAMPLES = Path(__file__).parents[2] / "examples"
BUILDER, GATE = str(EXAMPLES / "neighbour_builder.py"), str(EXAMPLES / "size_gate.py")
EXECUTOR = str(EXAMPLES / "polite_executor.py")


class TestNeighbour(BuilderConformance):
    def create(self, lab_name: str, space: Space, rng: np.random.Generator) -> Builder:
        made: Builder = plugins.find("builders", BUILDER)(lab_name, space, rng)
        return made


@pytest.mark.parametrize("path", [BUILDER, GATE, EXECUTOR])
def test_each_is_at_most_thirty_lines(path: str) -> None:
    assert sum(bool(line.strip()) for line in Path(path).read_text().splitlines()) <= 30


def test_a_builder_runs_in_the_loop_beside_others_and_each_gets_its_credit(tmp_path: Path) -> None:
    lab, rng = ToyLab(), np.random.default_rng(0)
    own = plugins.find("builders", BUILDER)(lab.name, lab.space, rng)
    panel = PanelBuilder(lab.space, [own, uniform.create(lab.name, lab.space, rng)], np.random.default_rng(1))
    run, why = Rig(tmp_path, lab, {"generations": 2, "patience": 50}, builder=panel).play()
    assert why == "generations reached"
    with read_archive(tmp_path / "archive.db") as archive:
        found = credits_of(archive)
    assert set(found) == {"neighbour", "random"}
    assert sum(one.promoted for one in found.values()) == 2
    assert {str(made.author) for made in run.generations[1:]} <= set(found)


def test_a_gate_refuses_what_is_too_heavy_or_was_never_weighed() -> None:
    gate: Gate = plugins.find("gates", GATE)({"most_bytes": 2000})
    evidence = draw_evidence(np.random.default_rng(0))
    assert gate.judge(replace(evidence, footprint=Footprint(2000, 1.0))).promote
    assert not gate.judge(replace(evidence, footprint=Footprint(2001, 1.0))).promote
    assert not gate.judge(replace(evidence, footprint=None)).promote


def test_an_executor_takes_half_of_the_slots(tmp_path: Path) -> None:
    made: Any = plugins.find("executors", EXECUTOR)(4, tmp_path, [], unsafe_no_sandbox=True)
    executor: Executor = made
    try:
        assert executor.slots == 2
        assert executor.wait(0.0) == []
    finally:
        executor.close()


def test_a_file_without_create_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("x = 1\n")
    with pytest.raises(BadInput, match=r"mine\.py: it has no 'create'"):
        plugins.find("builders", str(path))
    path.write_text("x = 1\ny = 1 / 0\n")
    with pytest.raises(BadInput, match=r"mine\.py:2: ZeroDivisionError"):
        plugins.find("gates", str(path))
