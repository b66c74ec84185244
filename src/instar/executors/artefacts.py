"""Reads and writes what passes between jobs: safetensors and strict JSON, nothing that executes on load.

Everything read here may have been written by an adversary: sizes are bounded before anything is parsed, links and
special files are refused, a safetensors header is held against the format's own rules before any tensor is made, and
tensors are checked to be finite.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from instar.contracts.errors import ArtefactError
from instar.contracts.text import printable
from instar.sandbox.output import open_regular

Array = npt.NDArray[Any]

_HEADER_BYTES = 2**20
_MAX_AXES = 32  # more than that numpy 1 could not hold
_WIDTHS = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive, such as pickled weights",
    b"\x1f\x8b": "a gzip file",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"\x93NUM": "a NumPy file",
}


class Tensor(NamedTuple):
    """What a safetensors header says of one tensor, or what a configuration wants: "F32", (256, 81)."""

    kind: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """The tensor's size."""
        return _WIDTHS[self.kind] * math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.kind} {list(self.shape)}"


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


def write_json(path: Path, value: object, *, sync: bool = True, indent: int | None = 2) -> None:
    """Write strict JSON by rename, indented for people unless told otherwise."""
    text = json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode(), sync=sync)


def read_bytes(path: Path, limit: int) -> bytes:
    """Read an untrusted regular file of at most `limit` bytes; links are not followed.

    Raises:
        ArtefactError: missing, a link, a FIFO or device, or too large.
    """
    try:
        try:
            descriptor = open_regular(path.parent, path.name)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            # The directory's own name may be a link (an input of a job without a sandbox); the file may not.
            descriptor = open_regular(os.path.realpath(path.parent), path.name)
    except OSError as error:
        raise ArtefactError(f"{path.name}: cannot be read ({error.strerror})") from None
    return _whole(descriptor, path.name, limit)


def _whole(descriptor: int, name: str, limit: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise ArtefactError(f"{name}: {size} bytes, {limit} are allowed")
        return file.read(min(limit, size))  # reading `limit` would set that much memory aside


def read_arrays(path: Path, limit: int = 2**30, wanted: Mapping[str, Tensor] | None = None) -> dict[str, Array]:
    """Read an untrusted safetensors file into arrays; floating-point ones must be finite.

    Args:
        path: the file.
        limit: its largest size in bytes.
        wanted: the tensors that it must hold, exactly these; None lets any pass.

    Raises:
        ArtefactError: not a regular file, too large, malformed, with NaN or infinity, or not the tensors wanted. All
            but the numbers themselves is judged by the header, before any tensor is made.
    """
    data = read_bytes(path, limit)
    try:
        header = read_header(data)
        if wanted is not None:
            _compare(header, wanted)
        arrays = load(data)
        _check_numbers(arrays, header)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtefactError(f"{path.name}: not a valid safetensors file ({error})") from None
    return arrays


def read_header(data: bytes) -> dict[str, Tensor]:
    """Return what the header of a safetensors file says, in the order of the data.

    The format (github.com/huggingface/safetensors, README): 8 bytes with the header's length, little endian; strict
    JSON; the tensors, whose offsets fill the rest without a gap and without an overlap.

    Raises:
        ValueError: the header breaks these rules, or names a type that numpy does not have.
    """
    if len(data) < 8:
        raise ValueError(f"{len(data)} bytes")
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(_HEADER_BYTES, len(data) - 8):
        raise ValueError(_other_format(data) or f"a header of {length} bytes, {_HEADER_BYTES} are allowed")
    if data[8:9] != b"{":
        raise ValueError(_other_format(data) or "its header does not begin with a brace")
    entries = json.loads(
        data[8 : 8 + length].decode(), object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite
    )
    if not isinstance(entries, dict):
        raise ValueError("its header is no object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("'__metadata__' must map text to text")
    return _laid_out(entries, len(data) - 8 - length)


def _other_format(data: bytes) -> str:
    """Name the format that the first bytes belong to; '' for none that is known."""
    if data[:1] == b"\x80" and data[1] <= 5:
        return "a pickle, which could run code on loading"
    return next((name for magic, name in _OTHER_FORMATS.items() if data.startswith(magic)), "")


def _laid_out(entries: Mapping[str, Any], size: int) -> dict[str, Tensor]:
    """Return the tensors in the order of their data. Raises ValueError unless they fill `size` bytes exactly."""
    tensors = {name: _entry(name, entry) for name, entry in entries.items()}
    spans = sorted((*entries[name]["data_offsets"], name) for name in tensors)
    at = 0
    for begin, end, name in spans:
        if begin != at or end - begin != tensors[name].bytes:
            raise ValueError(
                f"tensor '{printable(name, 60)}': offsets {begin} to {end} overlap, leave a gap or lie about its size"
            )
        at = end
    if at != size:
        raise ValueError(f"{size} bytes of data, the header accounts for {at}")
    return {name: tensors[name] for _, _, name in spans}


def _entry(name: str, entry: Any) -> Tensor:
    """Return one entry of the header. Raises ValueError for what is none."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _malformed(name, "wants dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _WIDTHS:
        raise _malformed(name, f"type {printable(kind, 60)} is not one of {', '.join(_WIDTHS)}")
    if not (isinstance(shape, list) and len(shape) <= _MAX_AXES and all(_natural(side) for side in shape)):
        raise _malformed(name, "its shape is none")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(_natural(offset) for offset in offsets)):
        raise _malformed(name, "its offsets are none")
    return Tensor(kind, tuple(shape))


def _malformed(name: str, why: str) -> ValueError:
    return ValueError(f"tensor '{printable(name, 60)}': {why}")


def _natural(number: object) -> bool:
    return type(number) is int and 0 <= number < 2**48


def _compare(header: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless the header names exactly the tensors wanted."""
    for name in wanted:
        if name not in header:
            raise ValueError(f"tensor '{name}' is missing")
    for name, found in header.items():
        if name not in wanted:
            raise ValueError(f"tensor '{printable(name, 60)}' is not part of this configuration")
        if found != wanted[name]:
            raise ValueError(f"tensor '{name}' is {found}, the configuration says {wanted[name]}")


def finite(array: Array) -> bool:
    """Return whether no number is NaN or infinite; half precision by its bits, for NumPy takes 6 times as long."""
    if array.dtype == np.float16:
        return not array.size or bool((array.view(np.uint16) & 0x7FFF).max() < 0x7C00)
    return bool(np.isfinite(array).all())


def _check_numbers(arrays: Mapping[str, Array], header: Mapping[str, Tensor]) -> None:
    """Raise ValueError for NaN, infinity, and truth values that are neither 0 nor 1."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not finite(array):
            raise ValueError(f"tensor '{printable(name, 60)}' holds NaN or infinity")
        if header[name].kind == "BOOL" and (array.view(np.uint8) > 1).any():
            raise ValueError(f"tensor '{printable(name, 60)}' holds truth values other than 0 and 1")


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
    """Copy the named files of an untrusted directory to `target`, replacing it.

    Raises `ArtefactError` for what can't be taken, OSError where it can't be written; then `target` is as it was, and
    nothing half-copied takes space beside it.
    """
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _copy(source, part, names, limit, sync)
    except (ArtefactError, OSError):
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(target, ignore_errors=True)
    part.replace(target)
    if sync:
        sync_directory(target.parent)


def _copy(source: Path, part: Path, names: Sequence[str], limit: int, sync: bool) -> None:
    """Write the named files into the empty directory `part`, with `sync` so that a power cut takes none; see `take`."""
    for name in names:
        try:
            descriptor = open_regular(source, name)
        except OSError as error:
            raise ArtefactError(f"{name}: cannot be read ({error.strerror})") from None
        data = _whole(descriptor, name, limit)
        (part / name).parent.mkdir(parents=True, exist_ok=True)  # a name may lead through folders
        with (part / name).open("wb") as file:  # the whole directory comes by rename: no need of one for each file
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
    if sync:
        inner = {folder for name in names for folder in (part / name).parents if folder.is_relative_to(part)}
        for folder in (part, *inner):
            sync_directory(folder)


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
