"""The builder of docs/tutorials/bring-your-own-builder.md comes in as a plugin, keeps the contract, and gets credit."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instar.archive import read_archive
from instar.builders import uniform
from instar.builders.panel import PanelBuilder
from instar.contracts import plugins
from instar.contracts.builder import Builder
from instar.contracts.space import Space
from instar.report.credit import credits_of
from instar.testing.builder import BuilderConformance
from tests.rig import Rig
from tests.toys import ToyLab

EXAMPLE = Path(__file__).parents[2] / "examples" / "instar-neighbour"


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put the package where Python finds it, with the entry points that its own pyproject.toml names."""
    place = tmp_path_factory.mktemp("installed")
    declared = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in names.items()) for group, names in declared.items()]
    information = place / "instar_neighbour-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: instar-neighbour\nVersion: 0.1.0\n")
    (information / "entry_points.txt").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE / "src")
        patch.syspath_prepend(place)
        plugins.entry_points.cache_clear()
        yield
    plugins.entry_points.cache_clear()


def find(name: str) -> Any:
    return plugins.find("builders", name)


class TestNeighbour(BuilderConformance):
    def create(self, lab_name: str, space: Space, rng: np.random.Generator) -> Builder:
        return find("neighbour")(lab_name, space, rng)


def test_it_is_about_thirty_lines() -> None:
    code = (EXAMPLE / "src" / "instar_neighbour" / "builder.py").read_text().splitlines()
    assert sum(bool(line.strip()) for line in code) <= 35


def test_it_runs_in_the_loop_beside_others_and_each_gets_its_credit(tmp_path: Path) -> None:
    lab, rng = ToyLab(), np.random.default_rng(0)
    members = [find("neighbour")(lab.name, lab.space, rng), uniform.create(lab.name, lab.space, rng)]
    panel = PanelBuilder(lab.space, members, np.random.default_rng(1))
    run, why = Rig(tmp_path, lab, {"generations": 2, "patience": 50}, builder=panel).play()
    assert why == "generations reached"
    with read_archive(tmp_path / "archive.db") as archive:
        found = credits_of(archive)
    assert set(found) == {"neighbour", "random"}
    assert sum(one.promoted for one in found.values()) == 2
    assert sum(one.gain.value or 0.0 for one in found.values()) > 0
    assert {str(made.author) for made in run.generations[1:]} <= set(found)
