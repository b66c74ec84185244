"""A new archive and one that the migrations brought up to date hold the same tables, those of `schema.metadata`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from instar.archive import migrations, open_archive, opening, schema
from instar.archive.schema import REVISION, metadata
from instar.contracts.errors import ArchiveError
from instar.testing.archive import IDENTITY


def test_migrations_from_nothing_make_what_a_new_archive_is_made_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name in ("new", "migrated"):
        with open_archive(tmp_path / name, IDENTITY) as archive, archive._connection.begin():
            context = MigrationContext.configure(archive._connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
            found.append(_structure(archive._connection))
        monkeypatch.setattr(opening, "create", _upgrade_from_nothing)
    assert found[0] == found[1]


def _structure(connection: Connection) -> dict[str, list[object]]:
    """Return all that SQLite says of every table: columns in order, keys, indices, and the options."""
    found: dict[str, list[object]] = {}
    tables = "SELECT name, wr, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite%'"
    for name, *options in connection.exec_driver_sql(tables):
        found[name] = list(options)
        for what in ("table_xinfo", "foreign_key_list", "index_list"):
            found[name] += sorted(map(tuple, connection.exec_driver_sql(f"PRAGMA {what}({name})")))
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL")
    found |= {name: [sql] for name, sql in rows}
    for name, sql in connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql LIKE '%CHECK%'"):
        found[name] += sorted(re.findall(r"CHECK \(([^)]*)\)", sql))
    return found


def _upgrade_from_nothing(connection: Connection) -> None:
    migrations.upgrade(connection, Path("archive.db"))


def test_the_newest_migration_is_the_one_that_is_looked_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def test_an_archive_that_could_not_be_made_is_as_if_it_had_never_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_afterwards(connection: Connection) -> None:
        schema.create(connection)
        raise ArchiveError("cut off")

    path = tmp_path / "archive.db"
    with monkeypatch.context() as patch:
        patch.setattr(opening, "create", fail_afterwards)
        with pytest.raises(ArchiveError, match="cut off"):
            open_archive(path, IDENTITY)
    open_archive(path, {"another": "identity"}).close()


def test_a_migration_that_fails_leaves_the_archive_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_afterwards(connection: Connection) -> None:
        _upgrade_from_nothing(connection)
        raise ArchiveError("cut off")

    path = tmp_path / "archive.db"
    with monkeypatch.context() as patch:
        patch.setattr(opening, "create", fail_afterwards)
        with pytest.raises(ArchiveError, match="cut off"):
            open_archive(path, IDENTITY)
    open_archive(path, {"another": "identity"}).close()


def test_making_and_resuming_do_without_alembic(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from instar.archive import open_archive; "
        "from instar.testing.archive import IDENTITY; path = Path(sys.argv[1]); "
        "open_archive(path, IDENTITY).close(); open_archive(path, IDENTITY).close(); "
        "assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "archive.db")], check=True)
