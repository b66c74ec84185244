"""A ledger as a hash chain in one JSON-lines file, `chain.jsonl`.

Line i is the canonical JSON of `{index, key, previous, statement}`, `previous` being the hash of the line before
(`GENESIS` for the first). The hash is SHA-256 of the line without its newline; the hash of the last line is the root,
and commits to every line (Haber and Stornetta, "How to time-stamp a digital document", 1991). What a chain alone
cannot show is that its end was cut off or written anew: for that, hold a receipt's root against it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instar.contracts.errors import LedgerError
from instar.contracts.ledger import LedgerEntry, Receipt
from instar.contracts.records import canonical

GENESIS = hashlib.sha256(b"instar ledger chain 1").hexdigest()  # the root of an empty ledger
MAX_STATEMENT_BYTES = 65_535
MAX_KEY_BYTES = 1_024
MAX_LINE_BYTES = MAX_STATEMENT_BYTES + MAX_KEY_BYTES + 256  # the rest is index, previous and punctuation
NAME = "chain.jsonl"
_FIELDS = {"index", "key", "previous", "statement"}


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found in a ledger: how many entries hold, the root over them, and the first problem, if any."""

    entries: int
    root: str
    problem: str | None = None
    roots: tuple[str, ...] = field(default=(), repr=False, compare=False)  # after each entry


@dataclass(frozen=True, slots=True)
class _Entry:
    index: int
    key: str
    content: Mapping[str, Any]
    hash: str
    line_bytes: int  # with the newline


class _Broken(Exception):
    """The chain does not hold from a line on."""

    def __init__(self, line: int, what: str, *, torn: bool = False) -> None:
        super().__init__(f"line {line}: {what}")
        self.torn = torn  # only the last line's end is missing


def verify(directory: Path) -> Verification:
    """Check every byte of the ledger in `directory`, one line in memory at a time (and the keys seen so far).

    Returns:
        The entries that hold and their root, with the first problem in words. Compare the root with one that
        was published: without that, an end that was cut off or rewritten in full stays unseen.
    """
    roots: list[str] = []
    problem = None
    try:
        roots.extend(entry.hash for entry in _entries(directory / NAME))
    except _Broken as broken:
        problem = f"{directory / NAME}, {broken}"
    except OSError as error:
        problem = f"{directory / NAME}: {error.strerror}"
    return Verification(len(roots), roots[-1] if roots else GENESIS, problem, tuple(roots))


def check_proof(proof: Mapping[str, Any], root: str) -> bool:
    """Return whether `proof["entry"]` is in the ledger whose root is `root`; a malformed proof is False."""
    try:
        entries = [proof["entry"], *proof["following"]]
        known = entries[0]["previous"] if proof["index"] else GENESIS
        for index, entry in enumerate(entries, start=proof["index"]):
            if not (set(entry) == _FIELDS and entry["index"] == index and entry["previous"] == known):
                return False
            known = hashlib.sha256(canonical(entry)).hexdigest()
    except (KeyError, TypeError, ValueError, RecursionError):
        return False
    return bool(known == root)


def open_ledger(directory: Path) -> ChainLedger:
    """Make the ledger in `directory`, or verify and go on with the one that is there, as its only writer.

    A last line without its newline was never acknowledged (a write that was cut off) and is dropped.

    Raises:
        LedgerError: the chain does not hold (naming the line and what differs), another process writes it,
            or the directory cannot be written.
    """
    path = directory / NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _failed(path, error) from error
    try:
        _lock(descriptor, path)
        return ChainLedger(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise


class ChainLedger:
    """An append-only log in a hash chain (see `instar.contracts.ledger.Ledger`); made by `open_ledger`.

    Every key's receipt is kept in memory (some 300 bytes each). A receipt's root is the hash of the whole entry, so a
    known key's statement can be held against what was said before without reading it again.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        self._receipts: dict[str, Receipt] = {}
        self._roots: list[str] = []  # by index
        self._root = GENESIS
        self._bytes = 0  # of the entries that hold; whatever lies beyond is not part of the ledger
        self._durable = False  # whether all of them are known to be on the disk
        self._ragged = False  # whether something may lie beyond
        self._load()

    @property
    def root(self) -> str:
        """The hash that commits to every entry so far (hexadecimal)."""
        return self._root

    def append(self, key: str, statement: Mapping[str, Any], *, sync: bool = True) -> Receipt:
        """Append a statement and return its receipt; the same again returns the old receipt and appends nothing.

        Args:
            key: idempotency key, of at most 1,024 bytes as JSON.
            statement: strict JSON of at most 65,535 bytes.
            sync: whether the entry, and all before it, is on the disk on return. Without it, the entry survives
                the end of the process but not a power cut.

        Raises:
            LedgerError: the key stands there with another statement, the statement is refused, or the disk is; the
                ledger is as before and stays usable.
        """
        descriptor = self._open_descriptor()
        receipt = self._receipts.get(key)
        if receipt is not None:
            self._demand_same(receipt, key, statement)
            if sync and not self._durable:
                self._sync(descriptor)
            return receipt
        line = _line(len(self._roots), key, self._root, statement)
        self._write(descriptor, line, sync)
        return self._enter(key, hashlib.sha256(line[:-1]).hexdigest())

    def entries(self) -> Iterator[LedgerEntry]:
        """Yield all entries, oldest first, as they stand in the file.

        Raises:
            LedgerError: the file is no longer what this ledger has read and written.
        """
        try:
            yield from read_entries(self.path.parent, self._roots)
        except OSError as error:
            raise _failed(self.path, error) from error

    def prove(self, index: int) -> Mapping[str, Any]:
        """Return what a stranger needs to check (with `check_proof`) that entry `index` is under the present root.

        The proof is linear: it holds the entry and all that follow, in full, since each hash covers the next
        entry's text. A Merkle tree makes this logarithmic and keeps the other statements private; this doesn't.

        Raises:
            LedgerError: there is no such entry, or the file no longer holds.
        """
        count = len(self._roots)
        if not 0 <= index < count:
            raise LedgerError(f"{self.path} has no entry {index}", f"Its entries are 0 to {count - 1}.")
        try:
            wanted = [entry.content for entry in _entries(self.path, count) if entry.index >= index]
        except _Broken as broken:
            raise _distrusted(self.path, broken) from broken
        except OSError as error:
            raise _failed(self.path, error) from error
        return {"index": index, "entry": wanted[0], "following": wanted[1:], "root": self._root}

    def close(self) -> None:
        """Flush to the disk and give back the file. Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            if self._ragged:
                self._trim(descriptor)
            if not self._durable:
                self._sync(descriptor)
        finally:
            os.close(descriptor)

    def __enter__(self) -> ChainLedger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            raise LedgerError(f"{self.path} was closed", "Open it again with `open_ledger`.")
        return self._descriptor

    def _load(self) -> None:
        """Verify what is there, drop an end that was cut off, and make the rest (and the file's name) durable."""
        descriptor = self._open_descriptor()
        try:
            for entry in _entries(self.path):
                self._enter(entry.key, entry.hash)
                self._bytes += entry.line_bytes
        except _Broken as broken:
            if not broken.torn:
                raise _distrusted(self.path, broken) from broken
            self._trim(descriptor)
        except OSError as error:
            raise _failed(self.path, error) from error
        self._sync(descriptor)
        _sync_directory(self.path)

    def _enter(self, key: str, root: str) -> Receipt:
        receipt = self._receipts[key] = Receipt(len(self._roots), root)
        self._roots.append(root)
        self._root = root
        return receipt

    def _demand_same(self, receipt: Receipt, key: str, statement: Mapping[str, Any]) -> None:
        """Raise unless this is what was said under the key."""
        previous = self._roots[receipt.index - 1] if receipt.index else GENESIS
        line = _line(receipt.index, key, previous, statement)
        if hashlib.sha256(line[:-1]).hexdigest() != receipt.root:
            raise LedgerError(
                f"{self.path}: entry {receipt.index} says something else under the key {key[:80]!r}",
                "Compare ledger and archive with `instar verify`; what is said once is never changed.",
            )

    def _write(self, descriptor: int, line: bytes, sync: bool) -> None:
        """Write a line whole, or leave the file as it was."""
        if self._ragged:
            self._trim(descriptor)
        try:
            self._durable, self._ragged = False, True
            written = os.write(descriptor, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fsync(descriptor)
        except OSError as error:
            self._restore(descriptor)
            raise _failed(self.path, error) from error
        self._bytes += len(line)
        self._durable, self._ragged = sync, False

    def _restore(self, descriptor: int) -> None:
        """Cut the file back; where even that fails, the next append tries again before it writes."""
        try:
            self._trim(descriptor)
        except LedgerError:
            self._ragged = True

    def _trim(self, descriptor: int) -> None:
        """Drop whatever lies beyond the last entry that holds."""
        try:
            os.ftruncate(descriptor, self._bytes)
        except OSError as error:
            raise _failed(self.path, error) from error
        self._durable, self._ragged = False, False

    def _sync(self, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise _failed(self.path, error) from error
        self._durable = True


def read_entries(directory: Path, roots: Sequence[str]) -> Iterator[LedgerEntry]:
    """Yield the entries under `roots`, which were verified before; only their hashes are checked again.

    Raises:
        LedgerError: a line has another hash than then.
    """
    path = directory / NAME
    if not roots:
        return
    with path.open("rb") as file:
        for index, root in enumerate(roots):
            text = file.readline(MAX_LINE_BYTES)[:-1]
            if hashlib.sha256(text).hexdigest() != root:
                raise _distrusted(path, _Broken(index + 1, "it has changed since it was verified"))
            content = json.loads(text)
            yield LedgerEntry(index, content["key"], content["statement"])


def _line(index: int, key: str, previous: str, statement: Mapping[str, Any]) -> bytes:
    """Return an entry's canonical JSON and its newline. Raises `LedgerError` for what could not be read back."""
    try:
        content = {"index": index, "key": key, "previous": previous, "statement": dict(statement)}
        line = canonical(content)
        problem = "" if canonical(json.loads(line)) == line else "keys must be text, each once"
        statement_bytes, key_bytes = len(canonical(content["statement"])), len(canonical(key))
    except (TypeError, ValueError, RecursionError) as error:
        raise _refused(key, f"not strict JSON ({error})") from error
    if statement_bytes > MAX_STATEMENT_BYTES:
        problem = f"{statement_bytes:,} bytes where at most {MAX_STATEMENT_BYTES:,} fit"
    if not isinstance(key, str) or key_bytes > MAX_KEY_BYTES:
        problem = f"its key must be text of at most {MAX_KEY_BYTES:,} bytes"
    if problem:
        raise _refused(key, problem)
    return line + b"\n"


def _entries(path: Path, count: int | None = None) -> Iterator[_Entry]:
    """Yield the entries of a file (the first `count`), each checked against the one before; raise `_Broken`."""
    previous, keys = GENESIS, set[str]()
    with path.open("rb") as file:
        while count is None or len(keys) < count:
            line = file.readline(MAX_LINE_BYTES)
            if not line:
                return
            entry = _check(line, len(keys), previous, last=len(line) < MAX_LINE_BYTES)
            if entry.key in keys:
                raise _Broken(entry.index + 1, f"its key {entry.key!r} was used before")
            keys.add(entry.key)
            previous = entry.hash
            yield entry


def _check(line: bytes, index: int, previous: str, *, last: bool) -> _Entry:
    """Return the entry on a line, or raise `_Broken` with what differs."""
    number = index + 1
    if not line.endswith(b"\n"):
        what = "its end is missing (a write that was cut off)" if last else f"longer than {MAX_LINE_BYTES:,} bytes"
        raise _Broken(number, what, torn=last)
    text = line[:-1]
    try:
        content = json.loads(text)
        exact = canonical(content) == text
    except (ValueError, RecursionError) as error:
        raise _Broken(number, f"not strict JSON ({error})") from error
    if not exact:
        raise _Broken(number, "not in canonical form")
    if not (isinstance(content, dict) and set(content) == _FIELDS and isinstance(content["statement"], dict)):
        raise _Broken(number, f"not an object of {', '.join(sorted(_FIELDS))}")
    if content["index"] != index or type(content["index"]) is not int:
        raise _Broken(number, f"index is {content['index']!r}, {index} is expected")
    if content["previous"] != previous:
        raise _Broken(number, f"previous is {content['previous']!r}, the line before hashes to {previous!r}")
    if not isinstance(content["key"], str):
        raise _Broken(number, f"key is {content['key']!r}, text is expected")
    return _Entry(index, content["key"], content, hashlib.sha256(text).hexdigest(), len(line))


def _lock(descriptor: int, path: Path) -> None:
    """Hold the file against a second writer; the kernel lets go when the process ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LedgerError(
            f"another instar run is using {path}", "Wait for it to end or stop it, or choose another --home."
        ) from None
    except OSError as error:
        raise _failed(path, error) from error


def _sync_directory(path: Path) -> None:
    """Make the file's name durable."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _failed(path, error) from error


def _refused(key: object, problem: str) -> LedgerError:
    return LedgerError(f"the ledger refuses the statement {str(key)[:80]!r}: {problem}", "Write less, or other values.")


def _distrusted(path: Path, broken: _Broken) -> LedgerError:
    return LedgerError(
        f"{path}, {broken}",
        "It was changed or damaged after it was written: put back a copy, or start again in another --home.",
    )


def _failed(path: Path, error: OSError) -> LedgerError:
    fix = "Look at the system's log (dmesg), then run the same command again."
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        fix = "Free some space and run the same command again."
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        fix = "Check its owner and permissions, or choose another --home."
    return LedgerError(f"{path}: {error.strerror or error}", fix)
