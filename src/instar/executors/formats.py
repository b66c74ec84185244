"""The formats that may pass from one job to the next: each is parsed whole and written anew, never copied.

What is passed on is made here, byte by byte, of what was understood: a name fixes the format, and bytes that the format
does not account for have nowhere to go. Every file is made so that whoever takes it for something else fails at its
first instruction (docs/decisions/0023-written-anew.md has the reasons). Files are read in pieces of a mebibyte; only
JSON and headers are held in memory. Only the standard library is used, and what it reads is bounded by `rewriting`.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import BinaryIO

from instar.contracts.text import printable
from instar.executors import strict_json
from instar.executors.tensor_file import HEADER_BYTES, MAX_AXES, encode_header, read_header

JSON_BYTES = 2**24
MEMBERS = 10_000
EXPANDED_BYTES = 2**30  # what an .npz may hold
_PIECE = 2**20
_TAIL = 2**16 + 22  # zip: the record that ends an archive lies in its last bytes, before a comment of 2^16 at most
_MAGIC = b"\x93NUMPY"
_PLAIN = re.compile(
    rb"\{'descr': '(?P<descr>[<|]?(?:b1|[iu][1248]|f[248]|c8|c16|[SU](?:0|[1-9]\d{0,8})))', "
    rb"'fortran_order': (?P<fortran>True|False), 'shape': \((?P<shape>(?:\d{1,15}, ?)*(?:\d{1,15})?,?)\),? ?\} *\n"
)
# What a pickle can begin with: an instruction that needs nothing on the stack, and "i", for which Python's own reader
# imports a module before it looks at the stack. "x^" begins what joblib unpacks.
_BEGINNINGS = (*(sign.encode() for sign in "(.ILFSVNJKMTUXG])}cBCPi"), b"x^")
_TEXT = bytes({*range(0x20, 0x7F), *range(0x80, 0x100), *b"\t\n\r"})
_MEMBER = re.compile(r"(?!.*(?:^|/)\.{0,2}(?:/|$))[^\x00-\x1f\x7f\\]{1,250}\.npy")

Rewrite = Callable[[BinaryIO, int, BinaryIO], None]


def rewrite(name: str, source: BinaryIO, size: int, target: BinaryIO) -> None:
    """Write the file `name` of `size` bytes anew, in its format's one canonical form.

    Args:
        name: its ending tells the format.
        source: at the file's beginning; seekable.
        size: in bytes.
        target: empty, seekable and readable.

    Raises:
        ValueError: it is not wholly of that format, or the format is none that may pass.
    """
    write = known(name)
    if size:  # nothing is nothing in every format: whoever wants more finds it missing
        write(source, size, target)


def known(name: str) -> Rewrite:
    """Return what writes a file of that name anew. Raises ValueError, with what may pass, for an unknown ending."""
    found = _FORMATS.get(PurePath(name).suffix)
    if found is None:
        raise ValueError(f"no format that may pass: those are {', '.join(sorted(_FORMATS))}")
    return found


# --- arrays ---------------------------------------------------------------------------------------------------------


def _safetensors(source: BinaryIO, size: int, target: BinaryIO) -> None:
    head = source.read(min(size, 8 + HEADER_BYTES))
    header = read_header(head, size)
    begins, at = {}, header.begin
    for name, tensor in header.tensors.items():
        begins[name] = at
        at += tensor.bytes
    order = sorted(begins, key=lambda name: (-header.tensors[name].width, name))
    tensors = {name: header.tensors[name] for name in order}
    target.write(encode_header(tensors, header.metadata))
    for name, tensor in tensors.items():
        source.seek(begins[name])
        for piece in _pieces(source, tensor.bytes):
            if tensor.kind == "BOOL":
                _check_truths(piece, f"tensor '{printable(name, 60)}'")
            target.write(piece)
    _end_no_archive(target)


def _npy(source: BinaryIO, size: int, target: BinaryIO) -> None:
    _array(source, size, target)
    _end_no_archive(target)


def _array(source: BinaryIO, size: int, target: BinaryIO) -> None:
    """Write one NumPy array anew (numpy.lib.format, versions 1 to 3), its header in numpy's own words."""
    begin = source.read(8)
    if begin[:6] != _MAGIC or begin[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("not a NumPy array")
    width = 2 if begin[6] == 1 else 4
    length = int.from_bytes(source.read(width), "little")
    if length > _PIECE:
        raise ValueError(f"a header of {length} bytes")
    found = _PLAIN.fullmatch(source.read(length))
    if found is None:
        raise ValueError("its header is not that of a plain array of numbers, truth values or text: objects, records "
                         "and big-endian numbers may not pass")  # fmt: skip
    descr, shape = found["descr"].decode(), [int(side) for side in re.findall(rb"\d+", found["shape"])]
    kind, count = descr.lstrip("<|")[0], int(descr.lstrip("<|")[1:])
    items = 1
    for side in shape:
        items *= side
    data = items * count * (4 if kind == "U" else 1)
    if len(shape) > MAX_AXES or data != size - 8 - width - length:
        raise ValueError(f"{size} bytes are not an array of {descr} {shape[:MAX_AXES]}")
    descr = f"{'|' if kind in 'bS' or descr[-2:] in ('i1', 'u1') else '<'}{kind}{count}"
    sides = f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(map(str, shape))})"
    text = f"{{'descr': '{descr}', 'fortran_order': {found['fortran'].decode()}, 'shape': {sides}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    target.write(_MAGIC + b"\1\0" + len(text).to_bytes(2, "little") + text.encode())
    for piece in _pieces(source, data):
        if kind == "b":
            _check_truths(piece, "it")
        target.write(piece)


def _npz(source: BinaryIO, size: int, target: BinaryIO) -> None:
    """Write an archive of arrays anew: the same names, nothing packed, no comment, no second directory."""
    del size
    try:
        with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as made:
            members = archive.infolist()
            names = {member.filename for member in members}
            if len(members) > MEMBERS or len(names) != len(members):
                raise ValueError(f"an archive of {len(members)} files, {len(names)} names ({MEMBERS} are allowed)")
            if sum(member.file_size for member in members) > EXPANDED_BYTES:
                raise ValueError(f"an archive of more than {EXPANDED_BYTES} bytes when unpacked")
            for member in members:
                _member(archive, member, made)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise ValueError(f"an archive that cannot be read ({error})") from None


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, made: zipfile.ZipFile) -> None:
    shown = printable(member.filename, 40)
    if not _MEMBER.fullmatch(member.filename):
        raise ValueError(f"an archive with '{shown}' in it, such as pickled weights: arrays alone may pass")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"'{shown}' in it is packed in another way than numpy does")
    entry = zipfile.ZipInfo(member.filename)  # 1980, no attributes, not packed
    entry.file_size = member.file_size
    # 10 is a line feed: the name that a pickle's first instruction "P" would read ends there, and 0 is no instruction.
    entry.extract_version = 10
    try:
        with archive.open(member) as packed, made.open(entry, "w") as target:
            _array(packed, member.file_size, target)  # type: ignore[arg-type]
            if packed.read(1):
                raise ValueError("it is longer than it says")
    except ValueError as error:
        raise ValueError(f"'{shown}' in it: {error}") from None


def _pieces(source: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the next `size` bytes. Raises ValueError where there are less."""
    while size:
        piece = source.read(min(size, _PIECE))
        if not piece:
            raise ValueError(f"{size} bytes are missing")
        size -= len(piece)
        yield piece


def _check_truths(piece: bytes, what: str) -> None:
    if piece.translate(None, b"\0\1"):
        raise ValueError(f"{what} holds truth values other than 0 and 1")


def _end_no_archive(target: BinaryIO) -> None:
    """Raise ValueError where a reader that looks for a zip archive from the end would find the mark of one."""
    target.seek(max(0, target.seek(0, 2) - _TAIL))
    if b"PK\5\6" in target.read():
        raise ValueError("it ends as a zip archive does, by which it could be taken for one")


# --- text -----------------------------------------------------------------------------------------------------------


def _json(source: BinaryIO, size: int, target: BinaryIO) -> None:
    if size > JSON_BYTES:
        raise ValueError(f"{size} bytes of JSON, {JSON_BYTES} are allowed")
    try:
        text = strict_json.encode(strict_json.parse(source.read(size)))
    except RecursionError:
        raise ValueError("not strict JSON (nested too deep)") from None
    except ValueError as error:
        raise ValueError(f"not strict JSON ({error})") from None
    target.write(text)  # begins with one of {["-0123456789tfn: no pickle comes further than that


def _plain_text(source: BinaryIO, size: int, target: BinaryIO) -> None:
    """Pass text on that is UTF-8 without control characters, and no pickle by its first character."""
    begin = source.read(3)
    source.seek(0)
    if begin.startswith(_BEGINNINGS):
        raise ValueError(
            f"a text that begins with '{printable(begin.decode('latin-1')[:2])}' could be taken for a pickle, which "
            "runs code on loading: let it begin with a blank line, a number, a quotation mark or '#'"
        )
    if begin == b"\xef\xbb\xbf":
        raise ValueError("a byte order mark stands before the text")
    rest = b""
    for piece in _pieces(source, size):
        if odd := piece.translate(None, _TEXT):
            raise ValueError(f"not plain text: byte {odd[0]:#04x}")
        rest = _decoded(rest + piece)
        target.write(piece)
    if rest:
        raise ValueError("not UTF-8")


def _decoded(data: bytes) -> bytes:
    """Return the beginning of a character at the end of `data`. Raises ValueError for what is no UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            raise ValueError("not UTF-8") from None
        return data[error.start :]
    return b""


_FORMATS: dict[str, Rewrite] = {
    ".safetensors": _safetensors, ".npy": _npy, ".npz": _npz, ".json": _json,
    ".txt": _plain_text, ".csv": _plain_text, ".tsv": _plain_text, ".md": _plain_text, ".jsonl": _plain_text,
}  # fmt: skip
