"""Prepared statements do what SQLAlchemy itself would."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from sqlalchemy import bindparam, insert, select, update

from instar.archive import SqlArchive, open_archive, schema
from instar.archive.prepared import Prepared

TALLIES = schema.tallies
COSTS = schema.accounts


@pytest.fixture
def archive(tmp_path: Path) -> SqlArchive:
    return open_archive(tmp_path / "archive.db", {"lab": "x"})


def test_it_converts_and_returns_as_sqlalchemy_does(archive: SqlArchive) -> None:
    connection = archive._connection
    row = {"purpose": "a", "cpu_seconds": math.nan, "wall_seconds": 0.1, "peak_memory_bytes": 3}
    asked = select(COSTS.c.peak_memory_bytes).where(COSTS.c.purpose == bindparam("of"))
    with connection.begin():
        Prepared(insert(COSTS)).run_many(connection, [row, {**row, "purpose": "b"}])
        connection.execute(insert(COSTS), {**row, "purpose": "c"})
        found = connection.execute(select(COSTS).order_by(COSTS.c.purpose)).all()
        assert Prepared(asked).run(connection, {"of": "b"}) == 3
        assert Prepared(asked).run(connection, {"of": "nobody"}) is None
    assert [repr(tuple(one)[1:]) for one in found] == [repr(tuple(found[0])[1:])] * 3
    assert math.isnan(found[0].cpu_seconds)


def test_what_the_statement_says_itself_stays(archive: SqlArchive) -> None:
    connection = archive._connection
    raised = update(TALLIES).where(TALLIES.c.state == bindparam("of")).values(trials=7).returning(TALLIES.c.trials)
    statement = Prepared(raised)
    with connection.begin():
        Prepared(insert(TALLIES)).run(connection, {"state": "scored", "trials": 1})
        assert statement.run(connection, {"of": "scored"}) == 7
        assert statement.run(connection, {"of": "crashed"}) is None


def test_other_parameters_than_the_first_time_are_refused(archive: SqlArchive) -> None:
    statement = Prepared(insert(TALLIES))
    with archive._connection.begin():
        statement.run(archive._connection, {"state": "scored", "trials": 1})
        with pytest.raises(ValueError, match="parameters"):
            statement.run(archive._connection, {"state": "crashed"})
        statement.run_many(archive._connection, [])
