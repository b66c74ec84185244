"""Rulings of persons, handovers of decision rights, and slot-seconds by what free slots waited for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply this revision; in an archive of 0003 every decision was the machine's."""
    _numbered(
        "approvals",
        _text("right"),
        sa.Column("subject", sa.Integer, nullable=False),
        _real("asked_at"),
        *map(_text, ("answer", "holder", "who")),
        *map(_real, ("made_at", "waited_seconds")),
        *map(_text, ("said", "message")),
    )
    _numbered("handovers", *map(_text, ("rights", "who")), _real("made_at"), _text("evidence"))
    op.create_table(
        "slot_times",
        sa.Column("sequence", sa.Integer, nullable=False),
        _text("cause"),
        _real("slot_seconds"),
        sa.PrimaryKeyConstraint("sequence", name="pk_slot_times"),
        sa.UniqueConstraint("cause", name="uq_slot_times_cause"),
    )


def _numbered(name: str, *columns: sa.Column[object]) -> None:
    op.create_table(
        name,
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("sequence", name=f"pk_{name}"),
        sa.UniqueConstraint("number", name=f"uq_{name}_number"),
    )


def _text(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Text, nullable=False)


def _real(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Float, nullable=False)
