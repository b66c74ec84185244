"""How the archive's schema came about, step by step; run by `upgrade`, never by hand."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from instar.contracts.errors import ArchiveError


def upgrade(connection: Connection, archive: Path) -> None:
    """Bring the schema to the newest revision inside the connection's open transaction.

    Alembic is imported here, because an archive that is new or up to date does without it (0.3 CPU s).

    Raises:
        ArchiveError: the archive has a revision that this release does not know.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ArchiveError(
            f"{archive} was written by another version of instar ({error})",
            "Install the version that wrote it, or a newer one; `instar --version` tells yours.",
        ) from error
