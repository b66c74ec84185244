"""The archive in one SQLite file: one writer, many readers, one transaction and one fsync per record.

Write-ahead logging with `synchronous=FULL`: what `record` has returned from survives the end of the process,
and a power cut as far as the disk keeps its word on fsync (https://www.sqlite.org/wal.html). Readers see whole
records only and never hold up the writer; they open the file read-only and never checkpoint, because SQLite
before 3.51.3 can corrupt a log that two connections reset.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, delete, func, select, text, update
from sqlalchemy.dialects.sqlite import Insert, insert

from instar.archive import checks, opening, schema
from instar.archive.codec import CODECS, Codec, Columns, decode_usage, encode_design
from instar.archive.diagnosis import corrupt, diagnosed
from instar.archive.lock import WriterLock
from instar.archive.prepared import Prepared
from instar.contracts.archive import Account, F, Fact, Reservation
from instar.contracts.errors import ArchiveError
from instar.contracts.records import Generation, Proposal, Trial, Usage

PAGE = 1_000  # facts that `history` reads at a time


def open_archive(path: Path, identity: Mapping[str, Any], *, clock: Callable[[], float] = time.time) -> SqlArchive:
    """Make the archive at `path`, or resume it, as its only writer.

    Args:
        path: the database file; its directory is made where it is missing.
        identity: strict JSON that must agree on resuming (lab, options, seed, version).
        clock: seconds since the epoch, for `created_at`.

    Raises:
        ArchiveError: the file is in use, damaged, read-only or of another version, or the disk is full.
        BadInput: the archive belongs to a run with another identity.
    """
    with diagnosed(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(path)
    try:
        return SqlArchive(path, *opening.for_writing(path, identity, clock), lock)
    except BaseException:
        lock.release()
        raise


def read_archive(path: Path) -> SqlArchive:
    """Open the archive at `path` for reading only; its writer may be at work.

    Raises:
        ArchiveError: there is no archive, or it is damaged, unreadable or of another version.
    """
    return SqlArchive(path, *opening.for_reading(path), None)


class SqlArchive:
    """The durable record of a run (see `contracts.archive.Archive`); made by `open_archive` and `read_archive`."""

    def __init__(
        self, path: Path, connection: Connection, identity: Mapping[str, Any], lock: WriterLock | None
    ) -> None:
        self.path = path
        self.identity = identity
        self._connection = connection
        self._lock = lock
        self._closed = False

    def record(
        self,
        facts: Sequence[Fact] = (),
        *,
        settle: Mapping[str, Usage] | None = None,
        reserve: Sequence[Reservation] = (),
        wall_seconds: float | None = None,
    ) -> None:
        """Write everything in one durable transaction. Facts with a known number (or digest) replace the old ones.

        What is reserved here can be settled here. Reserving a known key, open or settled, changes nothing;
        neither does settling one that is settled or was never reserved.

        Args:
            facts: in the order in which `history` shall yield them.
            settle: what was really used, by reservation key.
            reserve: compute to set aside.
            wall_seconds: of the run so far, over all its restarts; replaces the last one.

        Raises:
            ArchiveError: nothing was written; the archive stays usable.
        """
        if self._lock is None:
            raise ArchiveError(f"{self.path} was opened for reading", "Use `open_archive` to write.")
        _check_amounts(settle or {}, reserve)
        with diagnosed(self.path):
            rows = [(fact, CODECS[type(fact)].encode(fact)) for fact in facts]
            with self._connection.begin():
                self._reserve(reserve)
                for key, usage in (settle or {}).items():
                    self._settle(key, usage)
                self._write(rows)
                if wall_seconds is not None:
                    _SET_WALL.run(self._connection, {"wall_seconds": wall_seconds})

    def history(self, kind: type[F], after: int = 0) -> Iterator[F]:
        """Yield facts of one kind in the order in which they were first recorded, past number `after`.

        Facts are read a page at a time, so memory stays flat and records may be written in between (a fact
        that is replaced meanwhile is seen as it is when its page is read).

        Args:
            kind: one of the kinds of `instar.contracts.archive.Fact`.
            after: a fact's number; for experience and incidents, which have none, how many of the first are left out.
                0 means all, generation 0 included.
        """
        codec: Codec[F] = CODECS[kind]
        beyond = after if after > 0 else -1
        page = _page(codec)
        place = self._read(_first(codec), beyond=beyond)[0].first
        while place is not None:
            rows = self._read(page, place=place, beyond=beyond)
            yield from self._decode(codec, rows)
            place = rows[-1].sequence + 1 if len(rows) == PAGE else None

    def account(self) -> Account:
        """Return the totals, at a cost that does not grow with the archive (only with what is open)."""
        with diagnosed(self.path), self._connection.begin():
            settled = {row.purpose: decode_usage(row) for row in self._connection.execute(select(schema.accounts))}
            reserved = self._connection.execute(_RESERVED).scalar_one()
            wall_seconds = self._connection.execute(select(schema.meta.c.wall_seconds)).scalar_one()
        return Account(settled, reserved, wall_seconds)

    def figures(self) -> Iterator[tuple[str, Any]]:
        """Yield what stands beside the facts and must not change unseen, each with a name.

        These are when and by which release the archive was made, the wall seconds, and of every settled reservation
        purpose, amount and what was used. Open ones mean nothing to the next life.
        """
        with diagnosed(self.path), self._connection.begin():
            meta = self._connection.execute(select(schema.meta)).one()
            settled = self._connection.execute(_SETTLED).all()
        yield from {name: getattr(meta, name) for name in ("created_at", "instar_version", "wall_seconds")}.items()
        for key, *amounts in settled:
            yield f"settled:{key}", amounts

    def contradictions(self) -> Iterator[str]:
        """Yield where the archive contradicts itself or its schema, in words."""
        with diagnosed(self.path), self._connection.begin():
            return iter(list(checks.contradictions(self._connection)))

    def release(self) -> None:
        """Forget every reservation that is not settled: what a former life had under way. They may be made again."""
        if self._lock is None:
            raise ArchiveError(f"{self.path} was opened for reading", "Use `open_archive` to write.")
        with diagnosed(self.path), self._connection.begin():
            self._connection.execute(_RELEASE)

    def counts(self) -> Mapping[str, int]:
        """Return how many trials are in each state that has any, from running totals."""
        tallies = schema.tallies.c
        rows = self._read(select(tallies.state, tallies.trials).where(tallies.trials > 0).order_by(tallies.state))
        return {row.state: row.trials for row in rows}

    def close(self) -> None:
        """Give back the file. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        try:
            with diagnosed(self.path):
                self._connection.close()
        finally:
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> SqlArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, statement: Any, **parameters: Any) -> Sequence[Row[Any]]:
        with diagnosed(self.path), self._connection.begin():
            return self._connection.execute(statement, parameters).all()

    def _decode(self, codec: Codec[F], rows: Sequence[Row[Any]]) -> Iterator[F]:
        for row in rows:
            try:
                fact = codec.decode(row)
            except (ValueError, TypeError, KeyError) as error:
                raise corrupt(self.path, f"table {codec.table.name}, row {row.sequence}: {error}") from error
            yield fact

    def _reserve(self, reservations: Sequence[Reservation]) -> None:
        rows = [{"key": r.key, "purpose": r.purpose, "cpu_seconds": r.cpu_seconds} for r in reservations]
        _RESERVE.run_many(self._connection, rows)

    def _settle(self, key: str, usage: Usage) -> None:
        used = {
            "cpu_seconds": usage.cpu_seconds,
            "wall_seconds": usage.wall_seconds,
            "peak_memory_bytes": usage.peak_memory_bytes,
        }
        purpose = _SETTLE.run(self._connection, {"of": key, **{f"used_{name}": n for name, n in used.items()}})
        if purpose is not None:
            _ADD_USAGE.run(self._connection, {"purpose": purpose, **used})

    def _write(self, rows: Sequence[tuple[Fact, Columns]]) -> None:
        moved: Counter[str] = Counter()
        for fact, columns in rows:
            if isinstance(fact, Proposal | Generation):
                _ADD_DESIGN.run(self._connection, encode_design(fact.design, columns["design"]))
            if isinstance(fact, Trial):
                before = _STATE.run(self._connection, {"of": fact.number})
                moved[fact.state.value] += 1
                if before is not None:
                    moved[before] -= 1
            _WRITE[type(fact)].run(self._connection, columns)
        changes = [{"state": state, "trials": change} for state, change in moved.items() if change]
        _ADD_TRIALS.run_many(self._connection, changes)


def _check_amounts(settle: Mapping[str, Usage], reserve: Sequence[Reservation]) -> None:
    """Refuse amounts that would spoil the totals for good."""
    amounts = [(key, usage.cpu_seconds) for key, usage in settle.items()]
    amounts += [(key, usage.wall_seconds) for key, usage in settle.items()]
    amounts += [(reservation.key, reservation.cpu_seconds) for reservation in reserve]
    for key, seconds in amounts:
        if not (math.isfinite(seconds) and seconds >= 0.0):
            raise ArchiveError(f"reservation '{key}': {seconds} is not an amount of seconds", "Report this as a bug.")


def _first(codec: Codec[Any]) -> Any:
    """Where the facts past number :beyond begin; the + keeps SQLite from walking the whole table in order."""
    sequence = codec.table.c.sequence
    return select(func.min(sequence.op("+")(0)).label("first")).where(codec.number > bindparam("beyond"))


def _page(codec: Codec[Any]) -> Any:
    """One page of facts from place :place on, past number :beyond."""
    sequence = codec.table.c.sequence
    wanted = (sequence >= bindparam("place")) & (codec.number > bindparam("beyond"))
    return codec.rows.where(wanted).order_by(sequence).limit(PAGE)


def _add(table: Table, key: str) -> Insert:
    """Insert a row of totals, or add it to the one there is; of memory, the peak."""
    statement = insert(table)
    total: dict[str, Any] = {}
    for column in table.c:
        new = statement.excluded[column.name]
        if column.name == "peak_memory_bytes":
            total[column.name] = func.max(column, new)
        elif column.name != key:
            total[column.name] = column + new
    return statement.on_conflict_do_update(index_elements=[key], set_=total)


_WRITE = {kind: Prepared(codec.write) for kind, codec in CODECS.items()}
_ADD_DESIGN = Prepared(insert(schema.designs).on_conflict_do_nothing())
_STATE = Prepared(select(schema.trials.c.state).where(schema.trials.c.number == bindparam("of")))
_ADD_TRIALS = Prepared(_add(schema.tallies, "state"))
_ADD_USAGE = Prepared(_add(schema.accounts, "purpose"))
_SET_WALL = Prepared(update(schema.meta).values(wall_seconds=bindparam("wall_seconds")))
_RESERVE = Prepared(
    insert(schema.reservations)
    .values(settled=False, used_cpu_seconds=0.0, used_wall_seconds=0.0, used_peak_memory_bytes=0)
    .on_conflict_do_nothing()
)
_SETTLE = Prepared(
    update(schema.reservations)
    .where(schema.reservations.c.key == bindparam("of"), schema.reservations.c.settled.is_(False))
    .values(settled=True)
    .returning(schema.reservations.c.purpose)
)
_SETTLED = select(
    schema.reservations.c.key, schema.reservations.c.purpose, schema.reservations.c.cpu_seconds,
    schema.reservations.c.used_cpu_seconds, schema.reservations.c.used_wall_seconds,
    schema.reservations.c.used_peak_memory_bytes,
).where(text("settled = 1"))  # fmt: skip
_RELEASE = delete(schema.reservations).where(text("settled = 0"))
_RESERVED = select(func.coalesce(func.sum(schema.reservations.c.cpu_seconds), 0.0)).where(text("settled = 0"))
