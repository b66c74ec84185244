"""What passes from one job to the next is made here: every format comes back as it was, and as nothing else."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import load, save

from instar.executors import formats, tensor_file


def anew(name: str, data: bytes) -> bytes:
    target = io.BytesIO()
    formats.rewrite(name, io.BytesIO(data), len(data), target)
    return target.getvalue()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(save: Callable[..., None] = np.savez, **arrays: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


KINDS = st.sampled_from(["<f2", "<f4", "<f8", "<c8", "<c16", "|b1", "|i1", "<i2", "<i8", "|u1", "<u4", "<U3", "|S4"])
ARRAYS = KINDS.flatmap(lambda kind: arrays_of.arrays(kind, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0)))


def same(one: Any, other: Any) -> bool:
    return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())


@settings(deadline=None, max_examples=150)
@given(ARRAYS, st.booleans())
def test_arrays_come_back_as_they_were(array: Any, fortran: bool) -> None:
    array = np.asfortranarray(array) if fortran else array
    once = anew("a.npy", npy(array))
    assert same(np.load(io.BytesIO(once)), array)
    assert anew("a.npy", once) == once


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(["w", "layer/w", "ä", "b 1"]), ARRAYS, max_size=3), st.booleans())
def test_archives_come_back_as_they_were(arrays: dict[str, Any], packed: bool) -> None:
    once = anew("a.npz", npz(np.savez_compressed if packed else np.savez, **arrays))
    found = np.load(io.BytesIO(once))
    assert sorted(found) == sorted(arrays)
    assert all(same(found[name], array) for name, array in arrays.items())
    assert anew("a.npz", once) == once


PLAIN = st.sampled_from(["bool", "uint8", "int8", "int16", "float16", "int32", "float32", "uint64", "float64"])
TENSORS = PLAIN.flatmap(lambda kind: arrays_of.arrays(kind, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0)))


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.text(max_size=5).filter(str.isprintable), TENSORS, max_size=4), st.booleans())
def test_tensors_come_back_as_they_were(tensors: dict[str, Any], told: bool) -> None:
    metadata = {"format": "pt", "é": "😀"} if told else None
    once = anew("a.safetensors", save(tensors, metadata))
    found = load(once)
    assert found.keys() == tensors.keys()
    assert all(same(found[name], array) for name, array in tensors.items())
    assert tensor_file.read_header(once, len(once)).metadata == (metadata or {})
    assert anew("a.safetensors", once) == once


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
)  # fmt: skip


@settings(deadline=None)
@given(JSON)
def test_json_comes_back_as_it_was(value: Any) -> None:
    once = anew("a.json", json.dumps(value).encode())
    assert json.loads(once) == value
    assert anew("a.json", once) == once


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.md", "a.jsonl"])
def test_text_passes_as_it_is(name: str) -> None:
    for text in ("", "x,y\n1,2\n", "lambda: é😀\r\n", "\n\tcategory\n", "Once upon a time", '{"a": 1}\n[2]\n', "# c"):
        assert anew(name, text.encode()) == text.encode()
    emoji = "#" + "😀" * 400_000  # characters lie across the pieces in which it is read
    assert anew(name, emoji.encode()) == emoji.encode()


# --- what is refused ------------------------------------------------------------------------------------------------


def raw(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, data in members:
            made.writestr(name, data)
        made.comment = comment
    return stream.getvalue()


class Runs:
    def __reduce__(self) -> Any:
        return print, ("run on loading",)


OBJECTS = npy(np.array([Runs()], dtype=object))
ONE = {"w": {"dtype": "U8", "shape": [4096], "data_offsets": [0, 4096]}}
TWICE = archive(("w.npy", npy(np.ones(3))), ("v.npy", npy(np.ones(3)))).replace(b"v.npy", b"w.npy")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.pt", b"N.", "no format that may pass"),
        ("a", b"{}", r"\.json, .*\.npz, \.safetensors"),
        ("a.NPY", npy(np.ones(3)), "no format"),
        ("a.pkl", b"", "no format"),
        ("a.py", b"pass", "no format"),
        ("a.npy", OBJECTS, "objects"),
        ("a.npy", npy(np.zeros(2, [("x", "<f4")])), "records"),
        ("a.npy", npy(np.zeros(2, ">f4")), "big-endian"),
        ("a.npy", npy(np.zeros(2)) + b"more", "are not an array"),
        ("a.npy", npy(np.zeros(2))[:-1], "are not an array"),
        ("a.npy", npy(np.zeros(2)).replace(b"(2,)", b"(9,)"), "are not an array"),
        ("a.npy", npy(np.zeros(2)).replace(b"(2,)", b"[2,]"), "plain array"),
        ("a.npy", npy(np.zeros(2, bool)).replace(b"\0", b"\2"), "NumPy|truth|header|array"),
        ("a.npy", npy(np.frombuffer(archive(("a", b"b")), np.uint8)), "zip archive"),
        ("a.npy", pickle.dumps(Runs()), "not a NumPy array"),
        ("a.npz", archive(("w.npy", OBJECTS)), "objects"),
        ("a.npz", archive(("w.npy", npy(np.ones(3))), ("data.pkl", b"N.")), "'data.pkl' in it"),
        ("a.npz", archive(("../w.npy", npy(np.ones(3)))), "in it"),
        ("a.npz", archive(("/w.npy", npy(np.ones(3)))), "in it"),
        ("a.npz", archive(("w.npy", pickle.dumps(Runs()))), "not a NumPy array"),
        ("a.npz", archive(("w.npy", npy(np.ones(3))), method=zipfile.ZIP_BZIP2), "another way"),
        ("a.npz", TWICE, "1 names"),
        ("a.npz", archive(("w.npy", npy(np.ones(3)))).replace(b"\0\0\xf0\x3f", b"\0\0\xf0\x3e"), "cannot be read"),
        ("a.npz", b"PK\x03\x04 and no archive", "cannot be read"),
        ("a.npz", pickle.dumps(Runs()), "cannot be read"),
        ("a.safetensors", pickle.dumps(Runs()), "a pickle"),
        ("a.safetensors", raw({}, b"x"), "accounts for 0"),
        ("a.safetensors", raw(ONE, archive(("a", b"b")).rjust(4096)), "zip archive"),
        ("a.safetensors", raw(ONE | {"__metadata__": {"a": "\ud800"}}, bytes(4096)), "surrogates"),
        ("a.safetensors", raw({"b": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, b"\2"), "truth"),
        ("a.json", b'{"a": 1, "a": 2}', "twice"),
        ("a.json", b'{"a": {"b": 1, "\\u0062": 2}}', "twice"),
        ("a.json", b"[NaN]", "NaN"),
        ("a.json", b"[-Infinity]", "Infinity"),
        ("a.json", b"[1e999]", "too large"),
        ("a.json", b'"\\ud83d"', "surrogates"),
        ("a.json", b'{"\\udc00": 1}', "surrogates"),
        ("a.json", '"é"'.encode("latin-1"), "utf-8"),
        ("a.json", '"é"'.encode("utf-16"), "utf-8"),
        ("a.json", "[1]".encode("utf-32-le"), "strict JSON"),
        ("a.json", b"\xef\xbb\xbf[1]", "BOM"),
        ("a.json", b"\xed\xa0\x80", "utf-8"),
        ("a.json", b"[" * 100_000 + b"]" * 100_000, "nested"),
        ("a.json", b"[1] [2]", "strict JSON"),
        ("a.json", b"9" * 10_000, "strict JSON"),
        ("a.json", b" " * (formats.JSON_BYTES + 1), "are allowed"),
        ("a.txt", b"\xff", "UTF-8"),
        ("a.txt", b"# \xed\xa0\x80", "UTF-8"),
        ("a.txt", b"# \xc3", "UTF-8"),
        ("a.txt", b"# \x1b[2J", "byte 0x1b"),
        ("a.txt", b"# \0", "byte 0x00"),
        ("a.txt", b"\xef\xbb\xbfx", "byte order mark"),
        ("a.txt", b"x^\xc2\x9c", "taken for a pickle"),
    ],
)  # fmt: skip
def test_what_is_not_wholly_of_its_format_is_refused(name: str, data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        anew(name, data)


HOSTILE = (b"ios\nsystem\n.",
           b"cos\nsystem\n(S'echo'\ntR.", b"I0x1\ncos\nsystem\n.", b"L0x1L\n(S'a'\nios\nsystem\n.",
           b"(S'a'\nios\nsystem\n.",
           b"F1\n0cos\nsystem\n.", b"Va\n0cos\nsystem\n.", b")0cos\nsystem\n.", b"Pcos\n.")  # fmt: skip


@pytest.mark.parametrize("data", [*HOSTILE, *(pickle.dumps(Runs(), protocol) for protocol in range(6))])
@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.npy", "a.npz", "a.safetensors", "a.csv", "a.jsonl"])
def test_no_pickle_passes_under_any_name(name: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"pickle|JSON|NumPy|cannot be read|header|plain text|UTF-8|bytes"):
        anew(name, data)


class _WentOnError(Exception):
    """The unpickler has come to a second instruction."""


def comes_further(data: bytes) -> bool:
    """Whether an unpickler, in whichever way a reader may have extended it, gets past the first instruction."""

    class Watching(pickle._Unpickler):  # type: ignore[misc]
        seen = 0

        def persistent_load(self, pid: object) -> object:
            return pid

        def find_class(self, module: str, name: str) -> object:
            raise _WentOnError

    def counted(step: Any) -> Any:
        def run(unpickler: Any) -> None:
            unpickler.seen += 1
            if unpickler.seen > 1:
                raise _WentOnError
            step(unpickler)

        return run

    Watching.dispatch = {sign: counted(step) for sign, step in pickle._Unpickler.dispatch.items()}
    try:
        Watching(io.BytesIO(data)).load()
    except _WentOnError:
        return True
    except Exception:
        return False
    return True


def test_no_unpickler_gets_past_the_first_instruction_of_a_text() -> None:
    """By every first character and what may follow: the list of those that are refused has no gap."""
    tails = [b"0\ncos\nsystem\n.", b"\n\n\n\n.", b"'a'\n.", b"a b\nc\n.", b" " * 80 + b".", b"1" * 80 + b"\n0."]
    passed = 0
    for first in range(256):
        for tail in tails:
            data = bytes([first]) + tail
            try:
                text = anew("a.txt", data)
            except ValueError:
                continue
            passed += 1
            assert not comes_further(text), text
    assert passed > 200
    assert comes_further(b"I0\nI0\n."), "the watch sees what goes on"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.npy", npy(np.frombuffer(HOSTILE[0], np.uint8))),
        ("a.npz", npz(w=np.frombuffer(HOSTILE[0] * 50, np.uint8))),
        ("a.npz", archive()),
        ("a.safetensors", save({"\ncos\nsystem\n": np.frombuffer(HOSTILE[0], np.uint8)})),
        *(("a.json", text) for text in (b"0", b"1", b"2", b"-1", b"true", b"false", b"null", b'"cos"', b"[]", b"{}")),
    ],
)
def test_no_unpickler_gets_past_the_first_instruction_of_what_passes(name: str, data: bytes) -> None:
    assert not comes_further(anew(name, data))


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 700), st.sampled_from([b"(", b"c", b"\x80", b"P", b"X", b"h"]))
def test_the_first_bytes_of_tensors_are_not_the_candidates(pad: int, wanted: bytes) -> None:
    """A header's length is its author's choice: before it was written anew, its first byte could be any."""
    text = b'{"__metadata__":{"a":"' + b"x" * pad + b'"}}'
    text += b" " * ((wanted[0] - len(text)) % 256)
    data = struct.pack("<Q", len(text)) + text
    assert data[:1] == wanted
    found = anew("a.safetensors", data)
    assert found[:1] == b"\0"
    assert found[8:521] == b"{" + b" " * 512
    assert not comes_further(found)
    with pytest.raises(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(found), mode="r:"):
        pytest.fail("torch.load tries this before it unpickles")


def test_a_lying_archive_is_bounded(tmp_path: Path) -> None:
    data = npz(np.savez_compressed, w=np.zeros(2**20))
    assert len(data) < 2**14
    old, formats.EXPANDED_BYTES = formats.EXPANDED_BYTES, 2**20
    try:
        with pytest.raises(ValueError, match="when unpacked"):
            anew("a.npz", data)
    finally:
        formats.EXPANDED_BYTES = old
