"""Incidents with their explanations, acknowledgements of pauses, and jobs by incumbent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply this revision; an archive of 0001 keeps all that it holds."""
    op.create_table(
        "incidents",
        *_integers("sequence"),
        *_texts("key", "job", "task"),
        *_integers("generation"),
        sa.Column("proposal", sa.Integer, nullable=True),
        sa.Column("trial", sa.Integer, nullable=True),
        *_texts("kind", "detail"),
        sa.Column("count", sa.BigInteger, nullable=False),
        *_texts("cause"),
        sa.PrimaryKeyConstraint("sequence", name="pk_incidents"),
        sa.UniqueConstraint("key", name="uq_incidents_key"),
    )
    made_at = sa.Column("made_at", sa.Float, nullable=False)
    _numbered("explanations", *_texts("incident", "cause", "author"), made_at)
    made_at = sa.Column("made_at", sa.Float, nullable=False)
    _numbered("acknowledgements", *_texts("why", "author"), made_at, *_integers("jobs", "incidents"))
    _numbered("job_counts", *_integers("jobs"))


def _numbered(name: str, *columns: sa.Column[object]) -> None:
    op.create_table(
        name,
        *_integers("sequence", "number"),
        *columns,
        sa.PrimaryKeyConstraint("sequence", name=f"pk_{name}"),
        sa.UniqueConstraint("number", name=f"uq_{name}_number"),
    )


def _texts(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _integers(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Integer, nullable=False) for name in names]
