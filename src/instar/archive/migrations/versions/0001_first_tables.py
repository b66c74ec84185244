"""First tables: facts of the run, of its conduct and of who decides; accounts, tallies, reservations."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Apply this revision; there is no way back: keep a copy of the archive instead."""
    op.create_table(
        "meta",
        sa.Column("row", sa.Integer, nullable=False),
        *_texts("identity", "instar_version"),
        *_reals("created_at", "wall_seconds"),
        sa.PrimaryKeyConstraint("row", name="pk_meta"),
        sa.CheckConstraint("row = 1", name=op.f("ck_meta_single")),
    )
    op.create_table(
        "designs",
        *_texts("digest", "lab", "parameters", "files"),
        sa.PrimaryKeyConstraint("digest", name="pk_designs"),
    )
    _numbered(
        "proposals",
        *_texts("design", "author"),
        *_integers("parent"),
        *_texts("goal", "why"),
        *_reals("p_better", "mean", "deviation", "usd"),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        *_reals("seconds"),
        sa.ForeignKeyConstraint(["design"], ["designs.digest"], name="fk_proposals_design_designs"),
    )
    _numbered(
        "trials",
        *_integers("proposal", "parent", "rung", "replica"),
        *_texts("seed", "state"),
        *_reals("metric", "gain", "noise", nullable=True),
        *_usage(),
        *_texts("why", "artefact", "fate"),
        *_integers("experience"),
    )
    _numbered(
        "generations",
        sa.Column("parent", sa.Integer, nullable=True),
        *_texts("author", "design", "artefact", "metrics", "estimates"),
        *_reals("promoted_at", "run_seconds", "run_cpu_seconds"),
        *_integers("ledger_index"),
        *_texts("why"),
        sa.Column("proposal", sa.Integer, nullable=True),
        sa.Column("simplified", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(["design"], ["designs.digest"], name="fk_generations_design_designs"),
    )
    _known_by(
        "digest",
        "experience",
        *_integers("maker"),
        *_texts("goal", "verified_by"),
        *_integers("attempts", "kept"),
        *_reals("mastery"),
        *_integers("examples"),
        *_usage(),
    )
    _numbered("verdicts", *_integers("proposal", "incumbent"), *_texts("reasons", "estimates", "seeds", "root"))
    _create_conduct()
    _create_rights()
    _create_totals()


def _create_conduct() -> None:
    _known_by(
        "key",
        "incidents",
        *_texts("job", "task"),
        *_integers("generation"),
        sa.Column("proposal", sa.Integer, nullable=True),
        sa.Column("trial", sa.Integer, nullable=True),
        *_texts("kind", "detail"),
        sa.Column("count", sa.BigInteger, nullable=False),
        *_texts("cause"),
    )
    _numbered("explanations", *_texts("incident", "cause", "author"), *_reals("made_at"))
    _numbered("acknowledgements", *_texts("why", "author"), *_reals("made_at"), *_integers("jobs", "incidents"))
    _numbered("job_counts", *_integers("jobs"))


def _create_rights() -> None:
    _numbered(
        "approvals",
        *_texts("right"),
        *_integers("subject"),
        *_reals("asked_at"),
        *_texts("answer", "holder", "who"),
        *_reals("made_at", "waited_seconds"),
        *_texts("said", "message"),
    )
    _numbered("handovers", *_texts("rights", "who"), *_reals("made_at"), *_texts("evidence"))
    _known_by("cause", "slot_times", *_reals("slot_seconds"))


def _create_totals() -> None:
    op.create_table("accounts", *_texts("purpose"), *_usage(), sa.PrimaryKeyConstraint("purpose", name="pk_accounts"))
    op.create_table(
        "tallies", *_texts("state"), *_integers("trials"), sa.PrimaryKeyConstraint("state", name="pk_tallies")
    )
    op.create_table(
        "reservations",
        *_texts("key", "purpose"),
        *_reals("cpu_seconds"),
        sa.Column("settled", sa.Boolean, nullable=False),
        *_usage("used_"),
        sa.PrimaryKeyConstraint("key", name="pk_reservations"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_reservations_open", "reservations", ["cpu_seconds"], sqlite_where=sa.text("settled = 0"))


def _numbered(name: str, *items: Any) -> None:
    op.create_table(
        name,
        *_integers("sequence", "number"),
        *items,
        sa.PrimaryKeyConstraint("sequence", name=f"pk_{name}"),
        sa.UniqueConstraint("number", name=f"uq_{name}_number"),
    )


def _known_by(key: str, name: str, *items: Any) -> None:
    op.create_table(
        name,
        *_integers("sequence"),
        *_texts(key),
        *items,
        sa.PrimaryKeyConstraint("sequence", name=f"pk_{name}"),
        sa.UniqueConstraint(key, name=f"uq_{name}_{key}"),
    )


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _integers(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Integer, nullable=False) for name in names]


def _reals(*names: str, nullable: bool = False) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Float, nullable=nullable) for name in names]


def _usage(prefix: str = "") -> list[sa.Column[Any]]:
    memory = sa.Column(f"{prefix}peak_memory_bytes", sa.BigInteger, nullable=False)
    return [*_reals(f"{prefix}cpu_seconds", f"{prefix}wall_seconds"), memory]
