"""Reads and writes what passes between rooms: safetensors and strict JSON, nothing that executes on load.

Everything read here may have been written by an adversary: sizes are bounded before anything is parsed, links and
special files are refused, and tensors are checked to be finite.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from instar.errors import ArtefactError

Array = npt.NDArray[Any]


def encode_arrays(arrays: Mapping[str, Array]) -> bytes:
    """Encode arrays as safetensors; the same arrays give the same bytes."""
    return save({name: np.asarray(array, order="C") for name, array in sorted(arrays.items())})


def write_arrays(path: Path, arrays: Mapping[str, Array], *, sync: bool = True) -> None:
    """Write arrays as safetensors by rename."""
    write_bytes(path, encode_arrays(arrays), sync=sync)


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Replace `path` by `data` so that a reader (or a crash) sees the old file or the new one, never half.

    With `sync` false a power cut may leave the file empty: for what can be made again. Raises OSError, with the old
    file as it was and nothing half-written beside it.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    if sync:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable: without it a power cut may take back a rename."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: object, *, sync: bool = True) -> None:
    """Write strict, indented JSON by rename."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode(), sync=sync)


def read_bytes(path: Path, limit: int) -> bytes:
    """Read an untrusted regular file of at most `limit` bytes; links are not followed.

    Raises:
        ArtefactError: missing, a link, a FIFO or device, or too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ArtefactError(f"{path.name}: cannot be read ({error.strerror})") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):  # before `fdopen`, which does not take a directory
        os.close(descriptor)
        raise ArtefactError(f"{path.name}: not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if found.st_size > limit:
            raise ArtefactError(f"{path.name}: {found.st_size} bytes, {limit} are allowed")
        return file.read(limit)


def read_arrays(path: Path, limit: int = 2**30) -> dict[str, Array]:
    """Read an untrusted safetensors file into arrays; floating-point ones must be finite.

    Raises:
        ArtefactError: not a regular file, too large, malformed, or with NaN or infinity.
    """
    data = read_bytes(path, limit)
    try:
        arrays = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path.name}: not a valid safetensors file ({error})") from None
    for name, array in arrays.items():
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise ArtefactError(f"{path.name}: tensor '{name}' holds NaN or infinity")
    return arrays


def read_json(path: Path, limit: int = 2**20) -> Any:
    """Read untrusted strict JSON: duplicate keys, NaN and infinity are refused.

    Raises:
        ArtefactError: anything that is not such a file.
    """
    try:
        data = read_bytes(path, limit)
        return json.loads(data, object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path.name}: not strict JSON ({error})") from None


def digest_files(directory: Path, names: Sequence[str]) -> str:
    """Return the SHA-256 over names and contents of the named files of a directory."""
    total = hashlib.sha256()
    for name in sorted(names):
        content = hashlib.sha256((directory / name).read_bytes()).hexdigest()
        total.update(f"{name}\0{content}\n".encode())
    return total.hexdigest()


def take(source: Path, target: Path, names: Sequence[str], *, limit: int = 2**30, sync: bool = False) -> None:
    """Copy the named files of an untrusted directory to `target`, replacing it. Raises `ArtefactError`."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name in names:
        write_bytes(part / name, read_bytes(source / name, limit), sync=sync)
    shutil.rmtree(target, ignore_errors=True)
    part.replace(target)
    if sync:
        sync_directory(target.parent)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large")
    return number


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
