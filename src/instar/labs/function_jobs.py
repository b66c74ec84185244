"""What a lab of plain functions does in its sandboxes: run the lab's file anew, and call one function of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from instar.contracts.files import run_file
from instar.executors.artefacts import read_arrays, write_arrays

MODEL, DATA = "model.safetensors", "data.safetensors"
TAKES = ("design", "data", "seed", "effort", "parent", "files")
"""What a training function may ask for, by the names of its parameters."""


def train(job_dir: Path, payload: Mapping[str, Any]) -> None:
    """Call the lab's training function with what it asks for, and keep the arrays that it returns."""
    inputs = job_dir / "in"
    offered = {name: payload[name] for name in ("design", "seed", "effort", "files")}
    offered["data"] = read_arrays((inputs / DATA).resolve()) if payload["data"] else {}
    offered["parent"] = read_arrays((inputs / "parent").resolve() / MODEL) if payload["parent"] else None
    function = _function(payload)
    made = function(**{name: offered[name] for name in inspect.signature(function).parameters})
    write_arrays(job_dir / "out" / MODEL, _arrays(made, payload["function"]), sync=False)


def evaluate(job_dir: Path, payload: Mapping[str, Any]) -> None:
    """Call the lab's answering function with the model and the questions, and keep the arrays that it returns."""
    inputs = job_dir / "in"
    questions = read_arrays((inputs / "questions.safetensors").resolve())
    model = read_arrays((inputs / "artefact").resolve() / MODEL)
    answers = _arrays(_function(payload)(model, questions), payload["function"])
    write_arrays(job_dir / "out" / "answers.safetensors", answers, sync=False)


def _function(payload: Mapping[str, Any]) -> Callable[..., Any]:
    module = run_file(payload["source"], payload["file"], "instar_lab_file")
    function: Callable[..., Any] = getattr(module, payload["function"])
    return function


def _arrays(made: object, function: str) -> dict[str, Any]:
    """Return what a function has made as arrays by their names. Raises `TypeError` for anything else."""
    if not isinstance(made, Mapping) or not made or not all(isinstance(name, str) for name in made):
        raise TypeError(f"{function}() must return arrays by their names, not {type(made).__name__}")
    arrays = {name: np.asarray(array) for name, array in made.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{function}() returned '{name}' of type {array.dtype}: numbers are wanted")
    return arrays
