"""Commands that show what is there: `status`, `generations`, `explain`, `incidents`, `report`, `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from instar.cli.options import Home, Json, NewHome, at, emit
from instar.contracts.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(status)
    app.command()(generations)
    app.command()(explain)
    app.command()(incidents)
    app.command()(report)
    app.command()(doctor)


def status(home: Home = None, as_json: Json = False) -> None:
    """Show where a run stands, also while it is going on."""
    from instar.session import overview, result

    found = result.read(at(home))
    emit(found, as_json, overview.status(found))


def generations(home: Home = None, as_json: Json = False) -> None:
    """List the line of generations."""
    from instar.session import overview, result

    found = result.read(at(home))
    listed = {key: found[key] for key in ("lab", "run_directory", "generations")}
    emit(listed, as_json, overview.generations(found))


def explain(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[HOME] [N]", help="Run directory; number of the verdict.")
    ] = None,
    proposal: Annotated[int | None, typer.Option(metavar="N", help="The verdict on this proposal.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show what each gate saw of a judged candidate, by default of the newest."""
    from instar.report import explaining

    place, number = home_and_number(words or [], home)
    found = explaining.explain(at(place), number, proposal)
    emit(found, as_json, explaining.in_words(found))


def home_and_number(words: Sequence[str], home: Path | None) -> tuple[Path | None, int | None]:
    """Tell a run directory from the number of a verdict; a directory that is named by a number needs --home.

    Raises:
        BadInput: two of a kind.
    """
    numbers = [int(word) for word in words if word.isascii() and word.isdigit()]
    places = [Path(word) for word in words if not (word.isascii() and word.isdigit())] + ([home] if home else [])
    if len(numbers) > 1 or len(places) > 1:
        raise BadInput(f"too much is given: {' '.join(words)}", "Name one run directory and one number.")
    return (places[0] if places else None), (numbers[0] if numbers else None)


def incidents(
    home: Home = None,
    explain: Annotated[
        tuple[int, str] | None, typer.Option(metavar="ID CAUSE", help="Put the cause of an incident on record.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List what jobs did and had no leave to do, with causes."""
    import getpass
    import time

    from instar.session import incidents as listing

    place = at(home)
    if explain is not None:
        listing.explain(place, *explain, getpass.getuser(), time.time())
    found = listing.listed(place)
    emit(found, as_json, listing.words(found))


def report(home: Home = None, as_json: Json = False) -> None:
    """Write the report: a Markdown page, one HTML file and the figures."""
    from instar.archive import read_archive
    from instar.report import closeness, page
    from instar.run.parts import lab_of
    from instar.session.session import disk_faults

    place = at(home)
    with read_archive(place / "archive.db") as archive:
        metric = lab_of(archive.identity).metric
    with disk_faults(place):
        path = page.write(place, unit=metric.unit_of_length, metric=metric.name)
    found = {"run_directory": str(place.absolute()), "report": str(path.absolute())}
    emit(found | closeness.read(place, metric.unit_of_length), as_json, f"The report is at {path}")


def doctor(home: NewHome = None, as_json: Json = False) -> None:
    """Say what this machine has, what is missing, and the exact fix."""
    from instar.cli import doctor as examination

    checks = examination.examine(home or Path("instar-runs"))
    works = examination.works(checks)
    lines = [f"{check.state:<8} {check.name:<12} {check.said}" + _fix(check) for check in checks]
    lines.append("`instar run` can work here." if works else "`instar run` cannot work here yet.")
    emit({"works": works, "checks": [asdict(check) for check in checks]}, as_json, "\n".join(lines))
    raise typer.Exit(0 if works else 1)


def _fix(check: Any) -> str:
    return f"\n{'':22}fix: {check.fix}" if check.fix else ""
