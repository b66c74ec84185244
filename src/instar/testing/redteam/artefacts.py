"""Attacks by an artefact that is read as something else, or that costs who reads it more than who wrote it."""

from __future__ import annotations

import codecs
import io
import json
import pickle
import pickletools
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from instar.contracts.errors import ArtefactError
from instar.contracts.text import printable
from instar.executors.artefacts import read_arrays, take, write_arrays
from instar.executors.rewriting import Rewriter
from instar.labs.command import reading
from instar.testing.redteam.attack import Range, Seen
from instar.testing.redteam.readers import Bomb
from instar.testing.redteam.register import attack

_NAMES = ("model.txt", "model.csv", "model.jsonl", "model.json", "model.npy", "model.npz", "model.safetensors")
_CPU_SECONDS = 1.0  # the conductor's, for one artefact
_MEMORY_BYTES = 2**25


def _passed(range_: Range, name: str, data: bytes, rewriter: Rewriter | None = None) -> Path | str:
    """Let the door take a file; return where it lies, or why it was refused. With the check left out it is copied."""
    source = range_.fresh("left")
    (source / name).write_bytes(data)
    target = range_.fresh("taken") / "artefact"
    try:
        take(source, target, [name], copy=(rewriter or Rewriter()) if range_.defended else None)
    except ArtefactError as error:
        return str(error)
    return target / name


def _numpy(path: Path) -> object:
    return np.load(path, allow_pickle=True)


def _objects(path: Path) -> object:
    """Look at every array of an archive, as an evaluation does."""
    return [array.shape for array in dict(np.load(path, allow_pickle=True)).values()]


def _python(path: Path) -> object:
    """Read a pickle by the readers of Python's standard library that are written in Python."""
    return pickle._Unpickler(io.BytesIO(path.read_bytes())).load()


def _archived(path: Path) -> object:
    """Read the pickle in a zip archive, as torch.load does."""
    with zipfile.ZipFile(path) as archive:
        return pickle.loads(archive.read("archive/data.pkl"))  # noqa: S301 - the attack


def _pickle(path: Path) -> object:
    return pickle.loads(path.read_bytes())  # noqa: S301 - the attack


_READERS: tuple[Callable[[Path], object], ...] = (_numpy, _objects, _pickle, _python, _archived)


def _runs(range_: Range, files: Callable[[Path], Iterable[tuple[str, bytes]]]) -> Seen:
    """Let every trusting reader load what the door lets pass; through if any of it runs the code in it."""
    made = range_.fresh("made") / "by-the-artefact"
    said, through = "", []
    for name, data in files(made):
        found = _passed(range_, name, data)
        if isinstance(found, str):
            said = said or found
            continue
        for reader in _READERS:
            with suppress(Exception):
                reader(found)
        if made.exists():
            through.append(name)
            made.unlink()
    return Seen(bool(through), f"it ran as {', '.join(through)}" if through else f"nothing ran: {said or 'it passed'}")


@attack("reader", "each format is parsed whole and written anew")
def pickle_by_another_name(range_: Range) -> Seen:
    """Leave a pickle of every protocol under every name that may pass."""
    return _runs(range_, lambda made: [(name, pickle.dumps(Bomb(made), protocol))
                                       for name in _NAMES for protocol in range(6)])  # fmt: skip


@attack("reader", "no text begins with what a pickle could begin with")
def pickle_after_odd_numbers(range_: Range) -> Seen:
    """Begin a pickle of text with numbers that one parser reads in base 10 and another as it likes."""
    heads = (b"I0x1\n0", b"L0x1L\n0", b"I0b1\n0", b"I 1\n0", b"F1_0\n0", b"L1\n0", b"I01\n0", b"Vx\n0", b"S'x'\n0",
             b"N0", b"(1", b")0", b"]0", b"}0")  # fmt: skip

    def files(made: Path) -> Iterable[tuple[str, bytes]]:
        for head in heads:
            yield "model.txt", head + pickle.dumps(Bomb(made), 0)

    return _runs(range_, files)


@attack("reader", "no text begins with what a pickle could begin with")
def import_by_a_text(range_: Range) -> Seen:
    """Import a module of one's choice by a text, which Python's own reader does before it finds a fault."""
    imported: list[str] = []

    class Watching(pickle._Unpickler):
        def find_class(self, module: str, name: str) -> object:
            imported.append(f"{module}.{name}")
            return print

    for data in (b"iantigravity\nx\n.", b"cantigravity\nx\n."):
        found = _passed(range_, "model.txt", data)
        with suppress(Exception):
            Watching(io.BytesIO(found.read_bytes() if isinstance(found, Path) else b"")).load()
    return Seen(bool(imported), f"it asked for {', '.join(imported)}" if imported else "nothing was asked for")


def _pickled_tensors(made: Path) -> bytes:
    """Return a flawless safetensors file that is a pickle as well: its length begins with the instruction BINSTRING.

    That skips into a text of the header, where "U~" skips 126 bytes at a time, up to the tensor's data.
    """
    skipped = 30
    length = ord("T") + (skipped << 8)
    payload = pickle.dumps(Bomb(made), 2)
    entry = {"dtype": "U8", "shape": [len(payload)], "data_offsets": [0, len(payload)]}
    front, back = b'{"__metadata__":{"a":"', f'"}},"w":{json.dumps(entry)}}}'.encode()
    text = bytearray(front + b"." * (length - len(front) - len(back)) + back)
    at = skipped - 3
    while (left := length - at - 2) > 126:
        hop = 126 if left > 126 + 34 + 126 else left // 2 - 1  # and the last one leads to the data
        text[at : at + 2] = b"U" + bytes([hop])
        at += 2 + hop
    text[at : at + 2] = b"U" + bytes([left])
    return struct.pack("<Q", length) + bytes(text) + payload


@attack("reader", "the header is written anew, and the first 521 bytes are none of the artefact's own")
def tensors_that_are_a_pickle(range_: Range) -> Seen:
    """Leave one file that is flawless safetensors and a pickle."""
    return _runs(range_, lambda made: [("model.safetensors", _pickled_tensors(made))])


def _zipped(made: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(made)))
    return stream.getvalue()


@attack("reader", "no array ends as a zip archive does")
def arrays_that_end_as_an_archive(range_: Range) -> Seen:
    """Leave arrays whose last bytes are an archive of pickled weights, for readers that look from the end."""

    def files(made: Path) -> Iterable[tuple[str, bytes]]:
        array = np.frombuffer(_zipped(made), np.uint8)
        stream = io.BytesIO()
        np.save(stream, array)
        yield "model.npy", stream.getvalue()
        place = range_.fresh("made") / "model.safetensors"
        write_arrays(place, {"w": array}, sync=False)
        yield place.name, place.read_bytes()
        yield "model.txt", b"# text\n" + _zipped(made)

    return _runs(range_, files)


@attack("reader", "an array's header has numpy's own words for numbers alone")
def arrays_of_objects(range_: Range) -> Seen:
    """Leave arrays of Python objects: alone, in an archive, packed, in a record, and beside honest ones."""

    def files(made: Path) -> Iterable[tuple[str, bytes]]:
        bombs, record = np.array([Bomb(made)], dtype=object), np.zeros(1, [("n", "f4"), ("o", object)])
        record["o"] = [Bomb(made)]
        for array in (bombs, record):
            stream = io.BytesIO()
            np.save(stream, array, allow_pickle=True)
            yield "model.npy", stream.getvalue()
        for save in (np.savez, np.savez_compressed):
            stream = io.BytesIO()
            save(stream, honest=np.ones(3), other=bombs)
            yield "model.npz", stream.getvalue()

    return _runs(range_, files)


@attack("reader", "an archive holds arrays alone, each name once, and is packed anew")
def archives_with_more_in_them(range_: Range) -> Seen:
    """Put a pickle into an archive of arrays: as a member, as an array, before it, and behind it."""

    def files(made: Path) -> Iterable[tuple[str, bytes]]:
        bomb, array, honest = pickle.dumps(Bomb(made)), io.BytesIO(), io.BytesIO()
        np.save(array, np.ones(3))
        np.savez(honest, w=np.ones(3))
        for members in ({"w.npy": array.getvalue(), "archive/data.pkl": bomb}, {"w.npy": bomb}, {"../w.npy": bomb}):
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w") as archive:
                for name, data in members.items():
                    archive.writestr(name, data)
            yield "model.npz", stream.getvalue()
        yield "model.npz", pickle.dumps(Bomb(made), 0) + honest.getvalue()
        yield "model.npz", honest.getvalue() + _zipped(made)

    return _runs(range_, files)


@attack("reader", "JSON is UTF-8, every key once, and every character whole")
def json_that_parsers_differ_on(range_: Range) -> Seen:
    """Say in JSON what two parsers read differently: in UTF-16, with half a character, with a key in two spellings."""
    texts = ['{"a": 1}'.encode("utf-16"), '{"a": 1}'.encode("utf-32"), b'{"a": "\\ud800"}', b'{"\\udfff": 1}',
             b'{"a": 1, "\\u0061": 2}', b'{"a": [{"b": 1, "b": 2}]}', b'{"a": NaN}', b'{"a": -Infinity}',
             b'{"a": 1e999}', codecs.BOM_UTF8 + b"{}"]  # fmt: skip
    through = [text for text in texts if isinstance(_passed(range_, "config.json", text), Path)]
    return Seen(bool(through), f"{len(through)} of {len(texts)} passed")


# --- what reading costs ---------------------------------------------------------------------------------------------


def _costs(range_: Range, name: str, data: bytes, naive: Callable[[bytes], object]) -> Seen:
    """Measure what one artefact costs the conductor itself; what a process of its own took has to be accounted for."""
    rewriter = Rewriter()
    tracemalloc.start()
    began = time.process_time()
    try:
        found = _passed(range_, name, data, rewriter)
        if not range_.defended:
            naive(data)
    finally:
        seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    charged = rewriter.usage.cpu_seconds
    said = f"refused: {printable(found, 80)}" if isinstance(found, str) else "it was read"
    return Seen(
        seconds > _CPU_SECONDS or peak > _MEMORY_BYTES or (range_.defended and charged == 0.0),
        f"{seconds:.2f} CPU s and {peak / 2**20:.0f} MiB in the conductor, {charged:.2f} CPU s charged; {said}",
    )


def _analysed(data: bytes) -> object:
    """Look for instructions of a pickle, as a check that searches must."""
    return sum(1 for _ in pickletools.genops(data))


@attack("reader", "a process with limits of its own reads it, and the candidate is charged")
def text_that_takes_long(range_: Range) -> Seen:
    """Spend the conductor's time by a long text of what look like a pickle's instructions."""
    return _costs(range_, "model.txt", b"# \n" + b"2" * 2**24 if range_.defended else b"N" * 2**21 + b".", _analysed)


@attack("reader", "text is read in pieces, by a process with limits of its own")
def text_that_takes_memory(range_: Range) -> Seen:
    """Fill the conductor's memory: one emoji in a long text makes every character of it four bytes wide."""
    return _costs(range_, "model.txt", b"# " + "😀".encode() + b"a" * 2**25, lambda data: data.decode())


@attack("reader", "a process with limits of its own reads it, and the candidate is charged")
def json_that_takes_memory(range_: Range) -> Seen:
    """Fill the conductor's memory by JSON that takes twenty times its own size when it is read."""
    return _costs(range_, "config.json", b"[" + b"{}," * 2**21 + b"{}]", json.loads)


@attack("reader", "an archive is unpacked by a process with limits of its own, up to a gibibyte")
def archive_that_unpacks_for_ever(range_: Range) -> Seen:
    """Fill memory and disk by an archive of a few kilobytes that holds much more."""
    stream = io.BytesIO()
    np.savez_compressed(stream, w=np.zeros(2**23))
    data = stream.getvalue()
    if range_.defended:  # 64 MiB, and it says that they are 8 GiB
        data = data.replace(struct.pack("<I", 8 * 2**23 + 128), struct.pack("<I", 2**32 - 2))
    return _costs(range_, "model.npz", data, lambda data: dict(np.load(io.BytesIO(data))))


# --- what an evaluation prints --------------------------------------------------------------------------------------


def _last_line(text: str, name: str) -> list[float]:
    """Return the last value of a metric that can be made out, as a trusting reader does."""
    lines = [line for line in text.splitlines() if line.replace('"', "").lstrip("{ ").startswith(name)]
    return [float(lines[-1].rpartition(":")[2].strip(' }"'))]


@attack("reader", "lines end with a line feed alone, and name the metric once")
def second_metric_line(range_: Range) -> Seen:
    """Slip a second value of the metric into what an evaluation prints of the candidate's text."""
    signs = ("\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
    texts = [f"accuracy: 0.5\nsample: x{sign}accuracy: 1.0\n" for sign in signs]
    texts += ['{"accuracy": 0.5, "accuracy": 1.0}\n', '{"accuracy": 0.5}\naccuracy: 1.0\n']
    read = reading.read if range_.defended else _last_line
    through = 0
    for text in texts:
        with suppress(reading.NoMetric):
            through += read(text, "accuracy") == [1.0]
    return Seen(bool(through), f"{through} of {len(texts)} gave another value")


def honest(place: Path) -> Mapping[str, str]:
    """Return what stops honest files of every format, by name; {} if they pass and hold what they held."""
    source, target = place / "source", place / "target"
    source.mkdir(parents=True)
    random = np.random.default_rng(7)
    weights: dict[str, Any] = {"layer/w": random.normal(size=(300, 300)).astype(np.float32), "b": random.normal(size=3)}
    write_arrays(source / "model.safetensors", weights, sync=False)
    np.savez(source / "model.npz", allow_pickle=False, **weights)
    np.savez_compressed(source / "packed.npz", allow_pickle=False, **weights)
    np.save(source / "model.npy", random.normal(size=(1000, 300)))
    (source / "config.json").write_text(json.dumps({"layers": 2, "words": ["é", "😀"], "rate": 1e-3}))
    (source / "tree.txt").write_text("tree\nversion=v4\n" + "leaf 0.25 é😀\n" * 200_000)
    stopped: dict[str, str] = {}
    for path in sorted(source.iterdir()):
        try:
            take(source, target / path.name, [path.name], copy=Rewriter())
            if not _same(path, target / path.name / path.name):
                stopped[path.name] = "it holds something else"
        except ArtefactError as error:
            stopped[path.name] = str(error)
    return stopped


def _same(one: Path, other: Path) -> bool:
    if one.suffix in (".npz", ".npy"):
        found: list[Any] = [np.load(path) for path in (one, other)]
        return _equal(*(dict(each) if one.suffix == ".npz" else {"": each} for each in found))
    if one.suffix == ".json":
        return bool(json.loads(one.read_bytes()) == json.loads(other.read_bytes()))
    if one.suffix == ".safetensors":
        return _equal(read_arrays(one), read_arrays(other))
    return one.read_bytes() == other.read_bytes()


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
