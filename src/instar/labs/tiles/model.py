"""The policy network of the lab `tiles`: a residual MLP over one-hot boards, and its fast reading path.

`PolicyNetwork` is trained; `Inference` is a frozen copy that answers batches of uint8 boards as fast as one thread
can. An artefact is `model.safetensors` and `config.json`: nothing in it executes on load.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own name for it)

from instar.labs.tiles.rules import Boards
from instar.labs.tiles.shapes import PolicyConfig, read_config

WEIGHTS, CONFIG = "model.safetensors", "config.json"
ROWS = 1024
"""Boards that pass the network together: their activations stay in the core's own cache."""


def native_bfloat16() -> bool:
    """Say whether this CPU multiplies bfloat16 itself; elsewhere it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


class ResidualBlock(nn.Module):
    """A residual block of two layers behind a norm: h + W2 relu(W1 LN(h)); it begins as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        """Map (B, width) to (B, width)."""
        update: Tensor = self.second(F.relu(self.first(self.norm(h))))
        return h + update


class PolicyNetwork(nn.Module):
    """Scores the four moves of a board, and with `value_head` estimates the moves left to the goal."""

    def __init__(self, config: PolicyConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.cells**2, config.width)
        self.blocks = nn.ModuleList(ResidualBlock(config.width) for _ in range(config.blocks))
        self.head = nn.Linear(config.width, config.outputs)
        self.reset(generator)

    @torch.no_grad()
    def reset(self, generator: torch.Generator | None) -> None:
        """Draw fresh weights: fan-in of what is really active (one tile per cell), head and updates at zero."""
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith(("bias", "second.weight")) or name.startswith("head"):
                parameter.zero_()
            else:
                inputs = self.config.cells if name.startswith("embed") else self.config.width
                nn.init.normal_(parameter, std=(2.0 / inputs) ** 0.5, generator=generator)

    @property
    def untrained(self) -> bool:
        """Whether the head is still at zero, as `reset` leaves it: every move is as likely as any other."""
        return not bool(self.head.weight.any())

    def forward(self, onehot: Tensor) -> Tensor:
        """Map one-hot boards (B, cells * cells), cell by cell, to (B, outputs)."""
        h = F.relu(self.embed(onehot))
        for block in self.blocks:
            h = block(h)
        logits: Tensor = self.head(F.relu(h))
        return logits


class Inference:
    """A frozen copy of a policy for search and exams: boards in, scores out, no gradients.

    The first layer adds up one row of weights per cell, a third of the cost of multiplying one-hot vectors.
    In bfloat16 the rest takes half of the time of float32 on CPUs that multiply it natively.
    """

    def __init__(self, policy: PolicyNetwork, bfloat16: bool = True) -> None:
        self.config = policy.config
        kind = torch.bfloat16 if bfloat16 else torch.float32

        def frozen(tensor: Tensor) -> Tensor:
            return tensor.detach().to(kind, copy=True).contiguous()

        self._table = frozen(policy.embed.weight.t())
        self._bias = frozen(policy.embed.bias)
        self._blocks = [
            (
                (frozen(b.norm.weight), frozen(b.norm.bias)),
                (frozen(b.first.weight), frozen(b.first.bias)),
                (frozen(b.second.weight), frozen(b.second.bias)),
            )
            for b in policy.blocks
            if isinstance(b, ResidualBlock)
        ]
        # The head stays in float32: scores of nearly equal moves must not be rounded together.
        self._head = policy.head.weight.detach().clone(), policy.head.bias.detach().clone()
        self._offsets = torch.arange(self.config.cells, dtype=torch.int32) * self.config.cells

    @torch.inference_mode()
    def __call__(self, boards: Boards) -> npt.NDArray[np.float32]:
        """Return the scores (N, outputs) of boards (N, cells): logits of the moves, then the value."""
        out = np.empty((len(boards), self.config.outputs), dtype=np.float32)
        # One copy as int32 for the whole batch; read-only or strided boards are welcome.
        cells = torch.from_numpy(boards.astype(np.int32)).add_(self._offsets)
        for start in range(0, len(boards), ROWS):
            out[start : start + ROWS] = self._scores(cells[start : start + ROWS]).float().numpy()
        return out

    def _scores(self, cells: Tensor) -> Tensor:
        h = F.embedding_bag(cells, self._table, mode="sum").add_(self._bias).relu_()
        for norm, first, second in self._blocks:
            inner = F.linear(F.layer_norm(h, h.shape[-1:], *norm), *first).relu_()
            h = F.linear(inner, *second).add_(h)
        return F.linear(h.relu().float(), *self._head)


def save(policy: PolicyNetwork, directory: Path) -> None:
    """Write `model.safetensors` (float32) and `config.json` into an existing directory."""
    tensors = {name: p.detach().float().contiguous() for name, p in policy.state_dict().items()}
    (directory / WEIGHTS).write_bytes(save_tensors(tensors))
    (directory / CONFIG).write_text(json.dumps(asdict(policy.config), indent=2) + "\n")


def load(directory: Path) -> PolicyNetwork:
    """Read what `save` wrote, believing nothing.

    Raises:
        ValueError: a key, name, shape, type or size is not as the configuration says, or a weight is not
            finite; the message names the file.
    """
    try:
        config = read_config((directory / CONFIG).read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{directory / CONFIG}: {error}") from error
    policy = PolicyNetwork(config)
    expected = policy.state_dict()
    path = directory / WEIGHTS
    size = sum(tensor.numel() * 4 for tensor in expected.values())
    if not size <= path.stat().st_size <= size + 1_024 + 256 * len(expected):
        raise ValueError(f"{path}: {path.stat().st_size} bytes, but this configuration has {size} and a header")
    try:
        tensors = load_tensors(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error
    if tensors.keys() != expected.keys():
        raise ValueError(f"{path}: tensors {sorted(tensors)}, expected {sorted(expected)}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or tensor.dtype != torch.float32:
            raise ValueError(f"{path}: {name} is {tensor.dtype} {tuple(tensor.shape)}")
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{path}: {name} holds a number that is not finite")
    policy.load_state_dict(tensors)
    return policy
