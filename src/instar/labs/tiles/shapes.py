"""The shape of a policy: what `config.json` may say, and the tensors that follow from it. No torch in here.

The conductor holds an artefact's header against this before it loads a tensor; `model.PolicyNetwork` has the same
shapes, and a test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from instar.executors.tensor_file import Tensor
from instar.labs.tiles import rules


@dataclass(frozen=True)
class PolicyConfig:
    """The shape of a policy: board size, width, residual blocks, and whether it also rates the board."""

    size: int = 3
    width: int = 256
    blocks: int = 1
    value_head: bool = False

    def __post_init__(self) -> None:
        whole = all(type(n) is int for n in (self.size, self.width, self.blocks))
        if not whole or type(self.value_head) is not bool:
            raise ValueError("size, width and blocks are whole numbers, value_head is true or false")
        if self.size not in rules.SIZES or not 8 <= self.width <= 4096 or not 0 <= self.blocks <= 16:
            raise ValueError(f"size is 3, 4 or 5, width 8..4096, blocks 0..16; got {self}")

    @property
    def cells(self) -> int:
        return self.size * self.size

    @property
    def outputs(self) -> int:
        """Four moves, and one more number when boards are rated."""
        return rules.MOVES + int(self.value_head)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors of a policy of this shape, by name."""
        shapes: dict[str, tuple[int, ...]] = {
            "embed.weight": (self.width, self.cells**2), "embed.bias": (self.width,),
            "head.weight": (self.outputs, self.width), "head.bias": (self.outputs,),
        }  # fmt: skip
        for block in range(self.blocks):
            for layer in ("first", "second"):
                shapes[f"blocks.{block}.{layer}.weight"] = (self.width, self.width)
                shapes[f"blocks.{block}.{layer}.bias"] = (self.width,)
            shapes[f"blocks.{block}.norm.weight"] = shapes[f"blocks.{block}.norm.bias"] = (self.width,)
        return {name: Tensor("F32", shape) for name, shape in shapes.items()}


def parse_config(read: Any) -> PolicyConfig:
    """Return the configuration that a strict JSON value stands for. Raises ValueError."""
    names = {field.name for field in fields(PolicyConfig)}
    if not isinstance(read, dict) or read.keys() != names:
        raise ValueError(f"expected an object with exactly the keys {sorted(names)}")
    return PolicyConfig(**read)


def read_config(text: str) -> PolicyConfig:
    """Return the configuration in the text of a `config.json`. Raises ValueError."""
    return parse_config(json.loads(text))
