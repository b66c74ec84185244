"""A claim is checked by training both again; what is missing, lost or no more than noise does not verify."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from instar.archive import open_archive
from instar.cli import main
from instar.contracts.errors import BadInput
from instar.contracts.records import Author, Generation
from instar.labs.speedrun import task
from instar.studies import claim
from instar.testing.redteam import cheating_builder

torch = pytest.importorskip("torch")
IDENTITY = {"lab": "speedrun", "options": {"corpus": "shakespeare", "scale": "tiny"}, "unsafe_no_sandbox": True}


def generation(number: int, **changed: object) -> Generation:
    seed = task.create({"scale": "tiny"}).seed_design()
    made = replace(seed, parameters=dict(seed.parameters) | changed)
    return Generation(number, number - 1 if number else None, Author("test"), made, "", {}, {}, 0.0, 0.0, 0.0, -1)


def home(place: Path, *generations: Generation, identity: dict[str, object] = IDENTITY) -> Path:
    place.mkdir()
    archive = open_archive(place / "archive.db", identity)
    archive.record(list(generations))
    archive.close()
    return place


def inline(*seeds: int, **given: object) -> claim.ClaimPlan:
    return claim.ClaimPlan(seeds, executor="inline", **given)  # type: ignore[arg-type]


def test_a_script_that_gets_nowhere_does_not_verify(tmp_path: Path) -> None:
    """It leaves the weights as they were drawn: cheap, and of no use."""
    idle = "import json, torch\nfrom pathlib import Path\nfrom model import Model\n"
    idle += "from safetensors.torch import save_file\n"
    idle += "design = json.loads(Path('job.json').read_text())['design']\nmodel = Model(design)\n"
    idle += "model.reset(torch.Generator().manual_seed(1))\n"
    idle += "save_file({n: w.detach().contiguous() for n, w in model.named_parameters()}, 'model.safetensors')\n"
    idle += "Path('config.json').write_text(json.dumps({'model': design}))\n"
    made = generation(1)
    made = replace(made, design=replace(made.design, files=dict(made.design.files) | {"train.py": idle}))
    found = claim.verified(home(tmp_path / "run", generation(0), made), inline(11, 12))
    assert not found["verifies"]
    assert any("held-out loss" in problem for problem in found["problems"])
    assert found["cpu_ratio"]["value"] > 1.0
    assert found["speedup"]["value"] < 1.0
    assert [row["seed"] for row in found["seeds"]] == [11, 12]
    assert {*(found.keys() - {"seeds"}), *(f"seeds[].{key}" for key in found["seeds"][0])} == documented()


def documented() -> set[str]:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "json.md").read_text()
    section = page.split("## `instar verify-claim`")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)`", section, flags=re.MULTILINE))


def test_a_script_that_crashes_does_not_verify(tmp_path: Path) -> None:
    made = generation(1)
    made = replace(made, design=replace(made.design, files=dict(made.design.files) | {"train.py": "1 / 0\n"}))
    found = claim.verified(home(tmp_path / "run", generation(0), made), inline(11, 12))
    assert not found["verifies"]
    assert found["speedup"]["value"] is None
    assert "ZeroDivisionError" in " ".join(found["problems"])
    assert "does not verify" in claim.words(found)


def test_the_command_says_no_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = generation(1)
    made = replace(made, design=replace(made.design, files=dict(made.design.files) | {"train.py": "1 / 0\n"}))
    run = str(home(tmp_path / "run", generation(0), made))
    assert main.command(["verify-claim", "--home", run, "--seeds", "11,12", "--executor", "inline", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verifies"] is False
    assert main.command(["verify-claim", "--home", run, "--seeds", "11,x", "--json"]) == 2
    assert "seeds '11,x'" in capsys.readouterr().err


def test_what_cannot_be_claimed_is_one_error(tmp_path: Path) -> None:
    lone = home(tmp_path / "run", generation(0))
    with pytest.raises(BadInput, match="nothing was promoted"):
        claim.verified(lone, inline(1, 2))
    with pytest.raises(BadInput, match="no generation 3"):
        claim.verified(lone, inline(1, 2, generation=3))
    for seeds in ((1,), (1, 1)):
        with pytest.raises(BadInput, match="two different training seeds"):
            inline(*seeds)
    tiles = home(tmp_path / "tiles", generation(0), generation(1), identity={"lab": "tiles", "options": {"size": "3"}})
    with pytest.raises(BadInput, match="no price"):
        claim.verified(tiles, inline(1, 2))


def test_the_interval_of_the_geometric_mean_covers() -> None:
    """95 % of intervals over three log-normal ratios hold the truth."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        found = claim.geometric(list(np.exp(math.log(8.0) + 0.2 * rng.standard_normal(3))))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 8.0 <= found.high
    assert 0.935 < held / 2000 < 0.965


def test_one_ratio_has_no_interval_and_none_no_value() -> None:
    assert claim.geometric([3.0]).low is None
    assert claim.geometric([]).value is None


def test_a_forged_winner_is_refused_untrained(tmp_path: Path) -> None:
    """Its source carries its weights: the design in the archive is looked at before anything is run."""
    forged = cheating_builder.designs(task.create({}).seed_design())["weights-in-a-literal"]
    made = replace(generation(1), design=replace(generation(1).design, files=forged.files))
    found = claim.verified(home(tmp_path / "run", generation(0), made), inline(11, 12))
    assert not found["verifies"]
    assert found["seeds"] == []
    assert "its design is refused: train.py: a literal of" in claim.words(found)


def test_a_winner_that_trains_in_the_exam_does_not_verify(tmp_path: Path) -> None:
    late = cheating_builder.designs(task.create({}).seed_design())["trains-in-the-exam"]
    made = replace(generation(1), design=replace(generation(1).design, files=late.files))
    found = claim.verified(home(tmp_path / "run", generation(0), made), inline(11, 12))
    assert not found["verifies"]
    assert found["speedup"]["value"] < 2.0
