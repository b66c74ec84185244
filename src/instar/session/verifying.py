"""`instar verify`: whether a run's ledger, archive and files still say the same.

It needs no key and writes nothing. What it cannot show is that the ledger's end was cut off, or all of it written anew:
for that, hold the root that it prints against one that was published.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from instar.archive import read_archive
from instar.contracts.archive import Archive, Fact
from instar.contracts.records import Experience, Generation, canonical
from instar.executors.artefacts import digest_files
from instar.ledger import Verification, verify
from instar.ledger.chain import NAME
from instar.ledger.statement import statement
from instar.run.parts import lab_of
from instar.session import result

_MOST = 20  # problems that are told one by one
_OF_FACTS = ("proposal", "trial", "experience", "verdict", "promotion", "incident", "explanation", "acknowledgement",
             "approval", "handover")  # fmt: skip


@dataclass(frozen=True)
class LedgerEntry:
    """One entry of the ledger."""

    index: int
    key: str
    statement: Mapping[str, Any]


def verified(home: Path) -> dict[str, Any]:
    """Compare ledger, archive and files of a run; return what was found, as strict JSON.

    A run that is going on, or was cut off, may owe the ledger its newest facts: resuming appends them. They are counted
    as pending, not as a difference.

    Raises:
        ArchiveError: there is no run in `home`, or its archive cannot be read.
        MissingPart: its lab is not installed.
    """
    chain = verify(home / "ledger")
    entries = {entry.key: entry for entry in _entries(home / "ledger" / NAME, chain.entries)}  # before the archive:
    with read_archive(home / "archive.db") as archive:  # of two that are being written, the archive is ahead
        facts = [fact for kind in get_args(Fact) for fact in archive.history(kind)]
        said = [(fact, found) for fact in facts if (found := statement(fact)) is not None]
        missing = [key for _, (key, _) in said if key not in entries]
        problems = [chain.problem] if chain.problem else []
        problems += _identity(archive, entries)
        problems += _facts(said, entries)
        problems += _files(home, archive)
    open_ended = result.read(home)["status"] in (result.RUNNING, result.CUT_OFF)
    if not open_ended:
        problems += [f"the archive's {key} is not in the ledger" for key in missing]
    return _described(home, chain, problems, len(said), len(missing) if open_ended else 0)


def _described(home: Path, chain: Verification, problems: Sequence[str], facts: int, pending: int) -> dict[str, Any]:
    return {
        "run_directory": str(home.absolute()),
        "holds": not problems,
        "entries": chain.entries,
        "root": chain.root,
        "facts": facts,
        "pending": pending,
        "problems": list(problems),
    }


def _entries(path: Path, count: int) -> Iterator[LedgerEntry]:
    """Yield the first `count` entries, which `verify` has found to hold."""
    if not count:
        return
    with path.open("rb") as file:
        for line in islice(file, count):
            content = json.loads(line)
            yield LedgerEntry(content["index"], content["key"], content["statement"])


def _identity(archive: Archive, entries: Mapping[str, LedgerEntry]) -> Iterator[str]:
    """Yield what differs in the first entry, which says what the run is."""
    first = entries.get("run")
    if first is None:
        yield "the ledger does not say what the run is"
    elif canonical(first.statement.get("identity")) != canonical(dict(archive.identity)):
        yield "the archive's identity is not the one in the ledger's first entry"


def _facts(
    said: Sequence[tuple[Any, tuple[str, Mapping[str, Any]]]], entries: Mapping[str, LedgerEntry]
) -> Iterator[str]:
    """Yield the facts of which the ledger says something else, and those that it alone has."""
    for fact, (key, content) in said:
        entry = entries.get(key)
        if entry is None:
            continue
        if canonical(dict(entry.statement)) != canonical(dict(content)):
            yield f"the ledger's entry {entry.index} and the archive differ on {key}"
        if isinstance(fact, Generation) and fact.ledger_index not in (-1, entry.index):
            yield f"generation {fact.number} is the ledger's entry {entry.index}, in the archive {fact.ledger_index}"
    known = {key for _, (key, _) in said}
    yield from (
        f"the ledger's entry {entry.index}, {key}, is not in the archive"
        for key, entry in entries.items()
        if entry.statement.get("kind") in _OF_FACTS and key not in known
    )


def _files(home: Path, archive: Archive) -> Iterator[str]:
    """Yield what is missing or changed of the generations' artefacts and of the data that they learnt from."""
    names = lab_of(archive.identity).artefact_files
    for generation in archive.history(Generation):
        place = home / "generations" / f"{generation.number:04d}"
        hidden = place.with_name(f".{place.name}.next")  # on record, and not shown yet (see `run.promotion`)
        there = hidden if hidden.is_dir() else place
        yield from _compared(place, generation.artefact, partial(digest_files, there, names))
    for record in archive.history(Experience):
        file = home / "experience" / f"{record.digest}.safetensors"
        yield from _compared(file, record.digest, partial(_hash, file))


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _compared(place: Path, digest: str, measure: Callable[[], str]) -> Iterator[str]:
    """Yield what is wrong with a file or directory whose digest is on record."""
    try:
        found = measure()
    except OSError as error:
        yield f"{place}: {error.strerror or error}"
        return
    if found != digest:
        yield f"{place} was changed: its digest is {found[:12]}, {digest[:12]} is on record"


def words(found: Mapping[str, Any]) -> str:
    """Return what was found, for people."""
    lines = [f"differs: {problem}" for problem in found["problems"][:_MOST]]
    if len(found["problems"]) > _MOST:
        lines.append(f"and {len(found['problems']) - _MOST} more differences (--json lists all)")
    if found["pending"]:
        lines.append(f"{found['pending']} facts are not in the ledger yet: the run, or its next life, appends them")
    lines += [f"ledger   {found['entries']} entries, root {found['root']}", f"archive  {found['facts']} facts compared"]
    holds = "Ledger, archive and files agree." if found["holds"] else "This run does not hold."
    return "\n".join([*lines, f"{holds} Compare the root with a published one: an end that was cut off shows only so."])
