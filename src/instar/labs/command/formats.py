"""Which files may pass as data: formats that run nothing when they are read, judged by content and never loaded.

Allowed are safetensors, NumPy's .npy and .npz without objects, JSON, and plain text. Everything else may run code in
the hands of who reads it: pickles (so what `torch.save` writes), HDF5, anything unknown. A lab may allow those.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path

import numpy as np

from instar.contracts.errors import ArtefactError
from instar.executors.artefacts import read_bytes, read_header

_MEMBERS = 10_000
_CALLS = {"REDUCE", "INST", "OBJ", "BUILD", "NEWOBJ", "NEWOBJ_EX"}


def check(directory: Path, name: str, limit: int) -> None:
    """Raise `ArtefactError` unless the file is one of the formats that run nothing."""
    data = read_bytes(directory / name, limit)
    try:
        _check(data)
    except ValueError as error:
        raise ArtefactError(f"{name}: {error}") from None


def _check(data: bytes) -> None:
    if data.startswith(b"\x93NUMPY"):
        _check_array(data)
    elif data.startswith(b"PK"):
        _check_archive(data)
    elif data[8:9] == b"{" and b"\0" in data[:8]:
        read_header(data)
    else:
        _check_text(data)


def _check_array(data: bytes) -> None:
    """Read a .npy header. Raises ValueError for one that holds objects, which are pickled."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, kind = read(stream)
    if kind.hasobject:
        raise ValueError("it holds Python objects, which are a pickle and could run code on loading")


def _check_archive(data: bytes) -> None:
    """Look into an .npz. Raises ValueError for any other archive: what `torch.save` writes is one with a pickle."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > _MEMBERS:
                raise ValueError(f"an archive of {len(members)} files")
            for member in members:
                if not member.filename.endswith(".npy"):
                    raise ValueError(f"an archive with '{member.filename[:40]}' in it, such as pickled weights")
                with archive.open(member) as file:
                    head = file.read(2**16)
                if not head.startswith(b"\x93NUMPY"):
                    raise ValueError(f"'{member.filename[:40]}' in it is no NumPy array")
                _check_array(head)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"an archive that cannot be read ({error})") from None


def _check_text(data: bytes) -> None:
    """Raise ValueError unless it is text, and no pickle of the oldest kind, which is text as well."""
    if data[:1] == b"\x80":
        raise ValueError("a pickle, which could run code on loading")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("neither safetensors nor NumPy's format nor text: it could run code on loading") from None
    if "\0" in text:
        raise ValueError("neither safetensors nor NumPy's format nor text: it could run code on loading")
    if _runs(data):
        raise ValueError("it has the form of a pickle, which could run code on loading")


def _runs(data: bytes) -> bool:
    """Whether an unpickler would come to an instruction that calls something; the instructions are only read."""
    try:
        return any(operation.name in _CALLS for operation, _, _ in pickletools.genops(data))
    except (ValueError, IndexError, OverflowError):  # no pickle from there on: nothing that calls came before
        return False
