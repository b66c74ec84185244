"""What runs in the training sandbox and in the exam sandbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from instar.executors.artefacts import read_arrays, read_json, write_arrays, write_json
from instar_digits.data import training_set


def train(job_dir: Path, payload: Mapping[str, Any]) -> None:
    """Fit a softmax classifier by gradient descent on the design's own features."""
    design = payload["design"]
    images, labels = training_set()
    rng = np.random.default_rng(payload["seed"])
    rows = rng.permutation(len(images))[: max(50, int(len(images) * (payload["effort"] or 0.1)))]
    inputs = _features(payload["source"])(images[rows])
    weights = np.zeros((inputs.shape[1] + 1, 10))
    inputs = np.concatenate([inputs, np.ones((len(rows), 1))], axis=1)
    wanted = np.eye(10)[labels[rows]]
    for _ in range(design["steps"]):
        weights += design["learning_rate"] * inputs.T @ (wanted - _softmax(inputs @ weights)) / len(rows)
    write_arrays(job_dir / "out" / "model.safetensors", {"weights": weights.astype(np.float32)}, sync=False)
    write_json(job_dir / "out" / "features.json", {"source": payload["source"]})


def evaluate(job_dir: Path, payload: Mapping[str, Any]) -> None:
    """Answer with one class per image. The candidate's own source runs here, in the exam sandbox, never outside."""
    del payload
    images = read_arrays((job_dir / "in" / "questions.safetensors").resolve())["images"]
    artefact = (job_dir / "in" / "artefact").resolve()
    weights = read_arrays(artefact / "model.safetensors")["weights"]
    inputs = _features(read_json(artefact / "features.json")["source"])(images)
    scores = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1) @ weights
    answers = {"classes": scores.argmax(axis=1).astype(np.int64)}
    write_arrays(job_dir / "out" / "answers.safetensors", answers, sync=False)


def _features(source: str) -> Callable[[np.ndarray], np.ndarray]:
    namespace: dict[str, Any] = {}
    exec(compile(source, "features.py", "exec"), namespace)
    return namespace["features"]


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
