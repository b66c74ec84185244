"""Which commands there are, for tests that ask something of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from instar.cli import main

SCREEN: Any = typer.main.get_command(main.app)


def commands(group: Any = SCREEN, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command, not the groups, with what is typed for it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name} ")
        else:
            yield above + name, command
