"""What commands share: the options that recur, and how results are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output at the end.")]
Home = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Run directory; by default the most recently used in instar-runs/.")
]
NewHome = Annotated[Path | None, typer.Option(metavar="DIR", help="Run directory; by default instar-runs/<lab>.")]
Words = Annotated[
    list[str] | None, typer.Argument(metavar="LAB|--OPTION VALUE", help="A lab (default tiles), its own options.")
]


def emit(result: Mapping[str, Any], as_json: bool, words: str) -> None:
    """Print the result: as JSON on standard output with the words on standard error, or the words alone."""
    if as_json:
        print(words, file=sys.stderr)  # noqa: T201
        print(json.dumps(result, allow_nan=False, ensure_ascii=False))  # noqa: T201
    else:
        print(words)  # noqa: T201


def tell(line: str) -> None:
    """Print a line for people, at once."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def at(home: Path | None) -> Path:
    """Return the run directory that is meant: the one given, or the most recently used."""
    from instar.session.assembly import latest_home

    return home or latest_home()
