"""Opens a lab that stands in a Python file of a person's own: `instar run mylab.py`."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from instar.contracts.errors import BadInput
from instar.contracts.files import open_module
from instar.contracts.lab import Lab
from instar.labs.functions import JOBS, FunctionLab


def open_lab(path: Path, options: Mapping[str, str]) -> Lab:
    """Run the file, and return the one lab that it makes at its top level.

    Raises:
        BadInput: naming file and line: it cannot be read or run, or holds no lab or several; or options, of which such
            a lab has none.
        MissingPart: it imports a package that is not installed.
    """
    if options:
        raise BadInput(f"{path}: unknown option '{next(iter(options))}'", "A lab in a file has none.")
    module = open_module(path)
    labs = {id(value): name for name, value in vars(module).items() if isinstance(value, Lab)}
    if len(labs) > 1:
        raise BadInput(f"{path}: it holds {len(labs)} labs: {', '.join(labs.values())}", "Leave one in the file.")
    if not labs:
        raise BadInput(f"{path}: it holds no lab", "Make one at its top level: lab = FunctionLab(...).")
    lab: Lab = vars(module)[next(iter(labs.values()))]
    if isinstance(lab, FunctionLab) and not lab.profile.preload:
        lab.profile = replace(lab.profile, preload=(JOBS, *_imports(lab.source)))
    return lab


def _imports(text: str) -> list[str]:
    """Return the installed modules that a file imports anywhere: the fork server imports them once for all jobs."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return sorted(name for name in found if importlib.util.find_spec(name.partition(".")[0]) is not None)
