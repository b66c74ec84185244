"""What an artefact of tiles may hold follows from its configuration, and is judged without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instar.contracts.errors import ArtefactError
from instar.executors.artefacts import read_arrays, write_arrays, write_json
from instar.executors.tensor_file import Tensor
from instar.labs.tiles import task
from instar.labs.tiles.shapes import PolicyConfig

LAB = task.create({"size": "3"})
CONFIG: dict[str, Any] = {"size": 3, "width": 16, "blocks": 1, "value_head": False}


def artefact(directory: Path, config: Any = CONFIG, **change: Any) -> Path:
    tensors = {name: np.zeros(shape, np.float32) for name, (_, shape) in PolicyConfig(**CONFIG).tensors.items()}
    write_json(directory / "config.json", config, sync=False)
    changed = {name: array for name, array in (tensors | change).items() if array is not None}
    write_arrays(directory / "model.safetensors", changed, sync=False)
    return directory


def test_an_honest_artefact_passes(tmp_path: Path) -> None:
    LAB.check(artefact(tmp_path))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"head.bias": None}, "'head.bias' is missing"),
        ({"stowaway": np.zeros(3, np.float32)}, "'stowaway' is not part of this configuration"),
        ({"embed.weight": np.zeros((16, 80), np.float32)}, r"F32 \[16, 80\], the configuration says F32 \[16, 81\]"),
        ({"head.weight": np.zeros((4, 16), np.float64)}, "F64"),
        ({"head.bias": np.full(4, np.inf, np.float32)}, "NaN or infinity"),
    ],
)
def test_weights_that_the_configuration_does_not_describe_are_refused(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    with pytest.raises(ArtefactError, match=why):
        LAB.check(artefact(tmp_path, **change))


@pytest.mark.parametrize(
    "config",
    [
        {**CONFIG, "size": 4},
        {**CONFIG, "width": 32},
        {**CONFIG, "width": 10**9},
        {**CONFIG, "width": 16.0},
        {**CONFIG, "blocks": True},
        {**CONFIG, "score": 1.0},
        {"size": 3},
        [3],
        None,
    ],
)
def test_a_configuration_out_of_form_is_refused(tmp_path: Path, config: Any) -> None:
    with pytest.raises(ArtefactError):
        LAB.check(artefact(tmp_path, config))


@pytest.mark.parametrize("value_head", [False, True])
@pytest.mark.parametrize(("size", "width", "blocks"), [(3, 8, 0), (4, 16, 1), (5, 24, 3)])
def test_the_shapes_are_those_that_torch_makes(
    tmp_path: Path, size: int, width: int, blocks: int, value_head: bool
) -> None:
    model = pytest.importorskip("instar.labs.tiles.model")
    config = PolicyConfig(size, width, blocks, value_head)
    policy = model.PolicyNetwork(config)
    made = {name: Tensor("F32", tuple(tensor.shape)) for name, tensor in policy.state_dict().items()}
    assert made == config.tensors
    model.save(policy, tmp_path)
    read_arrays(tmp_path / "model.safetensors", wanted=config.tensors)
    task.create({"size": str(size)}).check(tmp_path)
