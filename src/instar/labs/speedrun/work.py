"""What runs in the training sandbox and in the exam sandbox: the design's own `train.py` and `model.py`, and no more.

Preloaded once by the fork server, with torch and the visible texts. Nothing in here can score itself: the time is
metered by the executor, and the loss is measured in the conductor.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import runpy
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch  # noqa: F401 - for the scripts, which would pay for its import
import torch
import torch._dynamo  # torch.optim's classes import it on first use: 1.4 to 1.9 CPU s of every job's metered time
import torch.optim
from torch import Tensor

from instar.executors.artefacts import read_arrays, read_json, write_arrays, write_json
from instar.labs.speedrun.text import visible

for _corpus in ("shakespeare", "python"):
    for _part in ("train", "validation"):
        visible(_corpus, _part)

_ROWS = 64  # beginnings of one length answered at once


def train(job_dir: Path, payload: Mapping[str, Any]) -> None:
    """Run the design's `train.py` where its model, its job and the visible texts lie; leave what the lab wants.

    Raises:
        ValueError: the script left no configuration; what else it raises passes through.
    """
    torch.set_num_threads(payload["threads"])
    place = job_dir / "out"
    for name, text in payload["files"].items():
        (place / name).write_text(text)
    for part in ("train", "validation"):
        (place / f"{part}.bin").write_bytes(visible(payload["corpus"], part))
    job = payload["job"]
    (place / "job.json").write_text(json.dumps(job | {"limit": time.process_time() + job["limit"]}))
    _run(place / "train.py")
    for part in ("train", "validation"):
        (place / f"{part}.bin").unlink(missing_ok=True)  # all that is left is searched by the conductor
    source = payload["files"]["model.py"].encode()
    (place / "model.py").write_bytes(source)
    if not (place / "config.json").is_file() or not (place / "model.safetensors").is_file():
        raise ValueError("train.py left no model.safetensors and config.json")
    config = read_json(place / "config.json")
    if not isinstance(config, dict):
        raise ValueError("train.py left a config.json that is no object")
    write_json(place / "config.json", config | {"model_py": hashlib.sha256(source).hexdigest()}, sync=False)
    write_json(place / "cost.json", {}, sync=False)  # the conductor fills in what the executor has metered


def _run(script: Path) -> None:
    """Run a script as one's own program: in its directory, which its imports come from as well."""
    before, paths, known = os.getcwd(), list(sys.path), sys.modules.pop("model", None)
    os.chdir(script.parent)
    sys.path.insert(0, str(script.parent))
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        runpy.run_path(script.name, run_name="__main__")
    finally:  # without a sandbox the next job runs in this very process
        os.chdir(before)
        sys.path[:], sys.dont_write_bytecode = paths, written
        sys.modules.pop("model", None)
        if known is not None:
            sys.modules["model"] = known


def evaluate(job_dir: Path, payload: Mapping[str, Any]) -> None:
    """Answer with the logits of the byte after each beginning, (N, 256) in single precision."""
    del payload
    torch.set_num_threads(1)
    questions = read_arrays((job_dir / "in" / "questions.safetensors").resolve())
    tokens, lengths = torch.from_numpy(questions["tokens"].astype(np.int64)), questions["lengths"]
    model = _loaded((job_dir / "in" / "artefact").resolve())
    logits = np.empty((len(tokens), 256), np.float32)
    bounds = np.flatnonzero(np.diff(lengths, prepend=0, append=0)).tolist()  # rows of one length stand together
    with torch.inference_mode():
        for first, end in pairwise(bounds):
            for start in range(first, end, _ROWS):
                rows = slice(start, min(start + _ROWS, end))
                found: Tensor = model(tokens[rows, : int(lengths[first])])[:, -1]
                logits[rows] = found.float().numpy()
    write_arrays(job_dir / "out" / "answers.safetensors", {"logits": logits}, sync=False)


def _loaded(artefact: Path) -> Any:
    """Import the artefact's own `model.py` and let it load its weights."""
    made = importlib.util.spec_from_file_location("model", artefact / "model.py")
    if made is None or made.loader is None:
        raise ValueError("model.py cannot be imported")
    module = importlib.util.module_from_spec(made)
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        made.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module.load(str(artefact))
