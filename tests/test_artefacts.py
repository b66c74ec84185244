"""What passes between rooms: round trips, and everything that an adversary may leave in a file's place."""

from __future__ import annotations

import json
import os
import pickle
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from instar.artefacts import (
    digest_files,
    encode_arrays,
    read_arrays,
    read_bytes,
    read_json,
    take,
    write_arrays,
    write_bytes,
    write_json,
)
from instar.errors import ArtefactError

relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
kinds = st.sampled_from(["float32", "float64", "int8", "int16", "int64", "uint8", "bool"])
some = kinds.flatmap(
    lambda kind: arrays_of.arrays(
        kind,
        arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False} if "float" in kind else None,
    )
)


def raw(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@relaxed
@given(st.dictionaries(st.text("abc.☃", min_size=1, max_size=5), some, max_size=4))
def test_arrays_come_back_as_they_were(tmp_path: Path, arrays: dict[str, Any]) -> None:
    path = tmp_path / "a.safetensors"
    write_arrays(path, arrays, sync=False)
    found = read_arrays(path)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(found[name], array)
    assert path.read_bytes() == encode_arrays(dict(reversed(arrays.items())))


@relaxed
@given(st.binary(max_size=200) | st.binary(max_size=100).map(raw))
def test_no_bytes_raise_anything_but_a_refusal(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    for read in (read_arrays, read_json):
        with suppress(ArtefactError):
            read(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2**27) + b"{}",
        raw(b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
        raw({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
        raw({"a": {"dtype": "F32", "shape": [2**62, 4, 0], "data_offsets": [0, 0]}}),
        raw({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(8)),
        raw({"a": {"dtype": "F32", "shape": [1] * 100, "data_offsets": [0, 4]}}, bytes(4)),
        raw({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"\xff"),
        raw({"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, b"\xff" * 8),
        raw({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, struct.pack("<f", float("nan"))),
        raw({"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}, b"\x00\x7c"),
        pickle.dumps({"a": [1.0]}),
    ],
)
def test_a_file_of_arrays_that_lies_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    with pytest.raises(ArtefactError, match="a: "):
        read_arrays(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"a": 1, "a": 2}',
        b'[{"x": {"a": 1, "a": 2}}]',
        b'{"a": NaN}',
        b"[Infinity, -Infinity]",
        b"[1e999]",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"\xff\xff",
        b"1" * 5_000,
        b"{} {}",
    ],
)
def test_json_that_is_not_strict_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(ArtefactError, match=r"a\.json: not strict JSON"):
        read_json(path)


def test_json_comes_back_and_nan_is_not_written(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, True, "é"], "b": {}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == value


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "device").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    open_before = len(os.listdir("/proc/self/fd"))
    for name in ("link", "loop", "device", "fifo", "directory", "missing"):
        with pytest.raises(ArtefactError, match=name):
            read_bytes(tmp_path / name, 100)
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert read_bytes(tmp_path / "real", 6) == b"secret"
    with pytest.raises(ArtefactError, match="6 bytes, 5 are allowed"):
        read_bytes(tmp_path / "real", 5)


def test_a_large_sparse_file_is_refused_by_its_length(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ArtefactError, match="are allowed"):
        read_arrays(tmp_path / "a")


def test_writing_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")
    with pytest.raises(TypeError):
        write_bytes(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    write_bytes(path, b"new", sync=False)
    assert path.read_bytes() == b"new"


def test_take_copies_the_named_files_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.mkdir()
    for name in ("a", "b", "score.json"):
        (source / name).write_text(name)
    take(source, target, ["a", "b"])
    assert {path.name for path in target.iterdir()} == {"a", "b"}
    (source / "b").unlink()
    (source / "b").symlink_to("/etc/passwd")
    with pytest.raises(ArtefactError, match="b: cannot be read"):
        take(source, target, ["a", "b"])
    assert (target / "b").read_text() == "b"
    take(source, target, ["a"])
    assert {path.name for path in target.iterdir()} == {"a"}


def test_a_digest_depends_on_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    both = digest_files(tmp_path, ["a", "b"])
    assert both == digest_files(tmp_path, ["b", "a"])
    (tmp_path / "a").write_bytes(b"2")
    (tmp_path / "b").write_bytes(b"1")
    assert both != digest_files(tmp_path, ["a", "b"])
