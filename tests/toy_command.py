"""The command line with the toy lab installed beside the others: `python -m tests.toy_command run toy ...`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

from instar.cli import main
from instar.contracts import plugins

TOY = EntryPoint("toy", "tests.toys:create", "instar.labs")


def with_toy(original: Callable[..., EntryPoints]) -> Callable[..., Any]:
    def entry_points(*, group: str) -> list[EntryPoint]:
        return [*original(group=group), *([TOY] if group == TOY.group else [])]

    return entry_points


if __name__ == "__main__":
    plugins.entry_points = with_toy(plugins.entry_points)  # type: ignore[assignment]
    sys.exit(main.command(sys.argv[1:]))
