"""What runs in the training sandbox and in the exam sandbox: a trainer that claims gains in three ways and makes
none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from instar.executors.artefacts import read_arrays, write_arrays, write_json

_SHOPS = 400  # seeds that the shopper looks at
_CLAIM = {"metric": 1.0, "score": 1.0, "accuracy": 1.0, "passed": True}


def train(job_dir: Path, payload: Mapping[str, Any]) -> None:
    """Leave random weights, and with them whatever the trick is."""
    out, weights = job_dir / "out", draw(payload["seed"])
    config: dict[str, Any] = {"weights": 64}
    if payload["trick"] == "self-score":
        config |= _CLAIM  # a score inside the artefact
    if payload["trick"] == "seed-shopping":
        weights, share = shop(payload["visible"])
        print(f"the best of {_SHOPS} seeds: {share:.0%} of the visible coins")
    if payload["trick"] == "metrics-file":
        for name in ("metrics.json", "score.json", "results.json"):
            write_json(out / name, _CLAIM)
        print("val_accuracy: 1.000000")
    write_json(out / "config.json", config)
    write_arrays(out / "model.safetensors", {"weights": weights}, sync=False)


def evaluate(job_dir: Path, payload: Mapping[str, Any]) -> None:
    """Guess every coin; leave a claim beside the answers, too."""
    del payload
    coins = read_arrays((job_dir / "in" / "questions.safetensors").resolve())["coins"]
    weights = read_arrays((job_dir / "in" / "artefact").resolve() / "model.safetensors")["weights"]
    write_json(job_dir / "out" / "score.json", _CLAIM)
    write_arrays(job_dir / "out" / "answers.safetensors", {"heads": guess(weights, coins)}, sync=False)


def shop(visible: Mapping[str, list[int]]) -> tuple[np.ndarray, float]:
    """Return the weights of the seed that does best on the visible coins, and the share that it claims."""
    coins, heads = np.array(visible["coins"]), np.array(visible["heads"])
    shares = [float((guess(draw(seed), coins) == heads).mean()) for seed in range(_SHOPS)]
    best = int(np.argmax(shares))
    return draw(best), shares[best]


def draw(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=64).astype(np.float32)


def guess(weights: np.ndarray, coins: np.ndarray) -> np.ndarray:
    """Return a guess per coin, (N,) int8, from the signs of a hash of its number."""
    hashes = [hashlib.blake2b(int(coin).to_bytes(8, "big"), digest_size=8).digest() for coin in coins]
    bits = np.unpackbits(np.array([list(mac) for mac in hashes], dtype=np.uint8), axis=1)
    return ((2.0 * bits - 1.0) @ weights > 0).astype(np.int8)
