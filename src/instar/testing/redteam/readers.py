"""Attacks by files: what an artefact, its JSON or its name can do to whoever reads it."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from instar.contracts.errors import ArtefactError
from instar.executors.artefacts import encode_arrays, read_arrays, read_json, take, write_arrays
from instar.executors.tensor_file import Tensor
from instar.testing.redteam.attack import Off, Range, Seen
from instar.testing.redteam.register import attack

_WANTED = {"skill": Tensor("F64", (1,))}
_HONEST = {"skill": np.array([1.0])}


class Bomb:
    """Runs code when it is unpickled: it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _artefact(range_: Range, data: bytes, naive: Callable[[Path], object]) -> Seen:
    """Let the conductor read a file of weights; with the check left out, as a trusting reader would."""
    path = range_.fresh("artefact") / "model.safetensors"
    path.write_bytes(data)
    try:
        found = read_arrays(path, wanted=_WANTED) if range_.defended else naive(path)
    except ArtefactError as error:
        return Seen(False, f"refused: {error}")
    return Seen(bool(found), "it was accepted")


def _json(range_: Range, text: str) -> Seen:
    path = range_.fresh("json") / "config.json"
    path.write_text(text)
    try:
        found = read_json(path) if range_.defended else json.loads(text)
    except ArtefactError as error:
        return Seen(False, f"refused: {error}")
    return Seen(found is not None, "it was accepted")


def _header(entries: dict[str, Any], data: bytes = bytes(8), length: int | None = None) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _trusting(path: Path) -> object:
    """Read tensors as the header says, without holding it against anything."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    body = data[8 + length :]
    entries = json.loads(data[8 : 8 + length])
    return {name: body[slice(*entry["data_offsets"])] for name, entry in entries.items()}


@attack("reader", "only safetensors and strict JSON are read")
def pickled_weights(range_: Range) -> Seen:
    """Run code in the conductor by weights that are a pickle."""
    made = range_.fresh("made") / "by-the-pickle"
    seen = _artefact(range_, pickle.dumps(Bomb(made)), lambda path: [pickle.loads(path.read_bytes())])  # noqa: S301
    return Seen(seen.through or made.exists(), seen.outcome)


@attack("reader", "the header's length is bounded before it is parsed", Off.NOTHING)
def oversized_header(range_: Range) -> Seen:
    """Exhaust the reader by a header that claims 2^60 bytes."""
    return _artefact(range_, _header({}, length=2**60), _trusting)


@attack("reader", "offsets must fill the file without gap or overlap")
def overlapping_tensors(range_: Range) -> Seen:
    """Let two tensors share their bytes, so that what is checked is not what is used."""
    entry = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}
    return _artefact(range_, _header({"skill": entry, "other": entry}), _trusting)


@attack("reader", "all of the file is accounted for")
def hidden_bytes(range_: Range) -> Seen:
    """Carry a message behind the last tensor."""
    entry = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}
    return _artefact(range_, _header({"skill": entry}, bytes(4096)), _trusting)


@attack("reader", "numbers must be finite")
def weights_of_nan(range_: Range) -> Seen:
    """Hand over weights of NaN, which compare with nothing."""
    return _artefact(range_, encode_arrays({"skill": np.array([np.nan])}), _trusting)


@attack("reader", "exactly the tensors that the configuration names")
def score_as_tensor(range_: Range) -> Seen:
    """Put one's own score among the weights."""
    return _artefact(range_, encode_arrays(_HONEST | {"score": np.array([1.0])}), _trusting)


@attack("reader", "exactly the tensors that the configuration names")
def model_of_another_size(range_: Range) -> Seen:
    """Declare a small model and hand over a large one."""
    return _artefact(range_, encode_arrays({"skill": np.zeros(100_000)}), _trusting)


@attack("reader", "only the lab's named files are taken")
def metrics_file(range_: Range) -> Seen:
    """Leave metrics.json, score.json and a signed verdict beside the weights."""
    files = {"config.json": "{}", "metrics.json": '{"metric": 1.0}', "score.json": "1.0", "verdict.json": "promote"}
    shot = range_.shoot("leave_files", {"files": files})
    names = ["config.json"] if range_.defended else sorted(files)
    target = range_.fresh("taken") / "artefact"
    take(shot.outcome.output, target, names)
    range_.sweep(shot)
    extra = sorted(path.name for path in target.iterdir() if path.name != "config.json")
    return shot.seen(bool(extra), f"taken beside the artefact: {', '.join(extra) or 'nothing'}")


@attack("reader", "duplicate keys are refused")
def duplicate_keys(range_: Range) -> Seen:
    """Say two things under one key, one for the check and one for the use."""
    return _json(range_, '{"layers": 2, "layers": 2000}')


@attack("reader", "constants that are not JSON are refused")
def json_of_nan(range_: Range) -> Seen:
    """Write NaN and infinity as JSON."""
    return _json(range_, '{"rate": NaN, "scale": Infinity}')


@attack("reader", "numbers must be finite")
def json_overflow(range_: Range) -> Seen:
    """Write a number that becomes infinite."""
    return _json(range_, '{"rate": 1e999}')


@attack("reader", "refused, whatever the depth", Off.NOTHING)
def deep_json(range_: Range) -> Seen:
    """Bring the reader down by 100,000 nested lists."""
    return _json(range_, "[" * 100_000 + "]" * 100_000)


@attack("reader", "its length is bounded before it is read")
def long_json(range_: Range) -> Seen:
    """Fill the reader's memory with a long configuration."""
    return _json(range_, json.dumps("x" * 2**21))


def honest(place: Path) -> bool:
    """Whether an honest artefact is read."""
    write_arrays(place / "model.safetensors", _HONEST, sync=False)
    return bool(read_arrays(place / "model.safetensors", wanted=_WANTED))
