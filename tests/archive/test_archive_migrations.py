"""The schema comes about by migrations alone, and they say what `schema.metadata` says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from instar.archive import migrations, open_archive, opening, read_archive
from instar.archive.schema import REVISION, metadata
from instar.errors import ArchiveError
from instar.records import IncidentRecord, Trial
from instar.testing.archive import IDENTITY, sample_incident, sample_trial


def test_migrations_from_nothing_agree_with_the_tables(tmp_path: Path) -> None:
    with open_archive(tmp_path / "archive.db", IDENTITY) as archive, archive._connection.begin():
        context = MigrationContext.configure(archive._connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_migration_is_the_one_that_is_looked_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_afterwards(connection: Connection, path: Path) -> None:
        migrations.upgrade(connection, path)
        raise ArchiveError("cut off")

    path = tmp_path / "archive.db"
    with monkeypatch.context() as patch:
        patch.setattr(opening, "upgrade", fail_afterwards)
        with pytest.raises(ArchiveError, match="cut off"):
            open_archive(path, IDENTITY)
    open_archive(path, {"another": "identity"}).close()


def test_resuming_does_without_alembic(tmp_path: Path) -> None:
    open_archive(tmp_path / "archive.db", IDENTITY).close()
    code = (
        "import sys; from pathlib import Path; from instar.archive import open_archive; "
        "from instar.testing.archive import IDENTITY; "
        "open_archive(Path(sys.argv[1]), IDENTITY).close(); assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "archive.db")], check=True)


def test_an_archive_of_the_first_schema_is_brought_up_to_date_and_keeps_what_it_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "archive.db"
    with monkeypatch.context() as patch:
        patch.setattr(opening, "upgrade", lambda connection, _: _upgrade_to("0001", connection))
        with open_archive(path, IDENTITY) as archive:
            archive.record([sample_trial(1)])
    with pytest.raises(ArchiveError, match="schema 0001"):
        read_archive(path)
    with open_archive(path, IDENTITY) as archive:
        assert list(archive.history(Trial)) == [sample_trial(1)]
        archive.record([sample_incident()])
        assert list(archive.history(IncidentRecord)) == [sample_incident()]
        with archive._connection.begin():
            assert compare_metadata(MigrationContext.configure(archive._connection), metadata) == []


def _upgrade_to(revision: str, connection: Connection) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    command.upgrade(config, revision)
