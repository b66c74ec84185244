"""A mailbox of files: other processes drop messages, the conductor takes them up and claims each when it is durable.

A message is one JSON file that appears whole, under a name of its own, by an atomic link. Until it is claimed it stays
where it is, so a crash between reading and recording loses nothing; whoever reads it must know it again by its name.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from instar.contracts.errors import ArtefactError, BadInput
from instar.contracts.records import canonical
from instar.contracts.text import printable
from instar.executors.artefacts import read_json, sync_directory, write_json

MOST_BYTES = 2**22
MOST_WAITING = 64
"""How many may wait: whoever sends more than is ever taken is told so."""

_MOST_READ = 1024  # of the names in a box that are looked at: whoever fills it costs the reader little
_MOST_REASON = 300  # characters
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_NEW, _TAKEN, _REFUSED, _GIVEN = "new", "taken", "refused", "given"


def drop(box: Path, message: Mapping[str, Any], name: str | None = None) -> str:
    """Put a message into a mailbox, durably, and return its name.

    Args:
        box: the mailbox's directory, made where it is missing.
        message: strict JSON, up to 4 MiB.
        name: what the message is to be called; only one of a name is ever taken. By default a fresh one that sorts by
            time.

    Raises:
        FileExistsError: there is or was a message of this name.
        BadInput: the message is no strict JSON or too large, the name is none, or too many wait already.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise BadInput(f"'{printable(name, 40)}' is no name for a message", "Use letters, digits and -, 64 at most.")
    name = name or f"{time.time_ns():020d}-{secrets.token_hex(4)}"
    content, new = _encoded(message), box / _NEW
    new.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sum(1 for _ in new.glob("*.json")) >= MOST_WAITING:
        raise BadInput(f"{MOST_WAITING} messages wait in {box} already", "Wait until some have been taken.")
    if (box / _TAKEN / f"{name}.json").exists():
        raise FileExistsError(name)
    part = new / f".{name}.{secrets.token_hex(4)}"  # no name that a starting run sweeps away
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        (new / f"{name}.json").hardlink_to(part)  # unlike a rename, it fails where the name is taken
    finally:
        part.unlink(missing_ok=True)
    sync_directory(new)
    return name


def _encoded(message: Mapping[str, Any]) -> bytes:
    try:
        content = canonical(dict(message))
    except (TypeError, ValueError) as error:
        raise BadInput(f"the message is no strict JSON ({error})", "Send plain values.") from None
    if len(content) > MOST_BYTES:
        raise BadInput(f"the message is larger than {MOST_BYTES} bytes", "Send less.")
    return content


def waiting(box: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the name and the content of every message that is not claimed, by name; what can't be read is refused.

    A name that `drop` would not have given is refused too, and kept under one of ours: no such name goes any further.
    """
    try:
        paths = sorted(islice((box / _NEW).glob("*.json"), _MOST_READ))
    except OSError:
        return
    for path in paths:
        if not _NAME.fullmatch(path.stem):
            _put_away(box, path)
            continue
        reason = "it is no object"
        try:
            message = read_json(path, limit=MOST_BYTES)
        except ArtefactError as error:
            message, reason = None, error.what
        if isinstance(message, dict):
            yield path.stem, message
        else:
            refuse(box, path.stem, reason)


def claim(box: Path, name: str) -> None:
    """Take a message out, once what follows from it is durable; claiming it again changes nothing."""
    _move(box, name, _TAKEN)


def refuse(box: Path, name: str, reason: str = "") -> None:
    """Take a message out that nothing follows from; it is kept, with the reason beside it."""
    if reason:
        (box / _REFUSED).mkdir(exist_ok=True)
        write_json(box / _REFUSED / f"{name}.why", printable(reason, _MOST_REASON))
    _move(box, name, _REFUSED)


def where(box: Path, name: str) -> tuple[str, str]:
    """Return what has become of a message ("new", "given", "taken", "refused", or "" for an unknown one), and why.

    Raises:
        BadInput: that is no message's name.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(f"'{printable(name, 40)}' is no id of a message", "Give what was returned when it was sent.")
    if any((box / _GIVEN).glob(f"*.{name}.json")):
        return _GIVEN, ""
    for folder in (_NEW, _TAKEN, _REFUSED):
        if os.path.lexists(box / folder / f"{name}.json"):
            reason = box / _REFUSED / f"{name}.why"
            return folder, str(read_json(reason)) if folder == _REFUSED and reason.exists() else ""
    return "", ""


def give(box: Path, name: str, number: int) -> None:
    """Take a message out as the one that became number `number` of what the reader records."""
    (box / _GIVEN).mkdir(exist_ok=True)
    (box / _NEW / f"{name}.json").replace(box / _GIVEN / f"{number:08d}.{name}.json")


def take_back(box: Path, newest: int) -> None:
    """Put back what was given past number `newest`, the newest on record: a crash came before it was recorded."""
    for path in (box / _GIVEN).glob("*.json"):
        number, _, name = path.name.partition(".")
        if re.fullmatch(r"[0-9]{1,18}", number) and int(number) > newest:
            path.replace(box / _NEW / name)


def _put_away(box: Path, path: Path) -> None:
    """Take a message of a strange name out of the way; who sent it is told nothing, for it has no id to ask by."""
    (box / _REFUSED).mkdir(exist_ok=True)
    with suppress(OSError):  # taken away by somebody else meanwhile
        path.replace(box / _REFUSED / f"strange-name-{secrets.token_hex(8)}.json")


def _move(box: Path, name: str, folder: str) -> None:
    source = box / _NEW / f"{name}.json"
    (box / folder).mkdir(exist_ok=True)
    if os.path.lexists(source):
        source.replace(box / folder / source.name)
