"""The schema comes about by migrations alone, and they say what `schema.metadata` says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from instar.archive import migrations, open_archive, opening
from instar.archive.schema import REVISION, metadata
from instar.errors import ArchiveError
from instar.testing.archive import IDENTITY


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
