"""The command `verify-claim`."""

from __future__ import annotations

from typing import Annotated

import typer

from instar.cli.options import Home, Json, at, emit, tell
from instar.contracts.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="verify-claim")(verify_claim)


def verify_claim(
    home: Home = None,
    seeds: Annotated[str, typer.Option(metavar="S,S,..", help="Training seeds of both, two or more.")] = "11,12,13",
    generation: Annotated[int | None, typer.Option(metavar="N", help="Else the newest.")] = None,
    corpus: Annotated[str | None, typer.Option(metavar="NAME", help="The lab's other corpus, if it has one.")] = None,
    at_least: Annotated[float, typer.Option(metavar="X", help="What the interval must be above.")] = 1.0,
    executor: Annotated[str, typer.Option(metavar="NAME", help="local, or inline for debugging.")] = "local",
    as_json: Json = False,
) -> None:
    """Train the reference and a run's winner again, in turn and with fresh seeds, and say how much cheaper it is."""
    from instar.studies import claim

    options = {} if corpus is None else {"corpus": corpus}
    plan = claim.ClaimPlan(_numbers(seeds), generation, options, at_least, executor)
    found = claim.verified(at(home), plan, tell)
    emit(found, as_json, claim.words(found))
    raise typer.Exit(0 if found["verifies"] else 1)


def _numbers(text: str) -> list[int]:
    """Return the seeds. Raises `BadInput`."""
    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdigit() and int(part) < 2**31 for part in parts):
        raise BadInput(f"seeds '{text}' are no whole numbers below 2^31", "Write --seeds 11,12,13.")
    return [int(part) for part in parts]
