"""`instar export` and `instar lineage`: what a run's generations changed in the code, and who wrote which line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from instar.cli.options import Home, Json, at, emit
from instar.contracts.errors import BadInput

Number = Annotated[int | None, typer.Option(metavar="N", help="By default the newest generation.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this topic."""
    app.command()(export)
    app.command("lineage")(lineage)


def export(
    patch: Annotated[bool, typer.Option("--patch", help="The code as a series of patches.")] = False,
    generation: Number = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to; else patches/ in the run's own.")] = None,
    check: Annotated[Path | None, typer.Option(metavar="DIR", help="A checkout that they must apply to.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write what a run's generations changed in the code, for `git apply` in a checkout of one's own."""
    from instar.report import exporting
    from instar.session.session import disk_faults

    if not patch:
        raise BadInput("it is not said what to export", "Say --patch.")
    where = at(home)
    target = out or where / "patches" / f"to-{'newest' if generation is None else generation}"
    with disk_faults(target):
        found = exporting.export(where, target, generation, check)
    emit(found, as_json, exporting.exported_words(found))


def lineage(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file of the design, such as train.py.")],
    generation: Number = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show which line of a file came from which generation, and by whom."""
    from instar.report import exporting

    found = exporting.origins(at(home), file, generation)
    emit(found, as_json, exporting.origins_words(found))
