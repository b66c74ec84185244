"""Opens a lab that stands in a Python file of a person's own: `instar run mylab.py`."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from instar.contracts.errors import BadInput, InstarError, MissingPart
from instar.contracts.lab import Lab
from instar.labs.function_jobs import run_file
from instar.labs.functions import JOBS, FunctionLab, line_of


def open_lab(path: Path, options: Mapping[str, str]) -> Lab:
    """Run the file, and return the one lab that it makes at its top level.

    Raises:
        BadInput: naming file and line: it cannot be read or run, or holds no lab or several; or options, of which such
            a lab has none.
        MissingPart: it imports a package that is not installed.
    """
    if options:
        raise BadInput(f"{path}: unknown option '{next(iter(options))}'", "A lab in a file has none.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})", "See the path."
        ) from None
    lab = _one_lab(path, text)
    if isinstance(lab, FunctionLab) and not lab.profile.preload:
        lab.profile = replace(lab.profile, preload=(JOBS, *_imports(text)))
    return lab


def _one_lab(path: Path, text: str) -> Lab:
    """Run the file and look for its lab."""
    before = f"instar_lab_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    try:
        module = run_file(text, str(path.resolve()), before)
    except SyntaxError as error:
        raise BadInput(f"{path}:{error.lineno}: {error.msg}", "Mend the line.") from None
    except ModuleNotFoundError as error:
        where = f"{path}:{line_of(error, path)}"
        raise MissingPart(
            f"{where}: there is no module '{error.name}'", "Install its package, or mend the line."
        ) from None
    except InstarError as error:
        raise type(error)(f"{path}:{line_of(error, path)}: {error.what}", error.fix) from None
    except Exception as error:  # a plugin's edge
        said = f"{path}:{line_of(error, path)}: {type(error).__name__}: {error}"
        raise BadInput(said, "Mend the line.") from None
    labs = {id(value): name for name, value in vars(module).items() if isinstance(value, Lab)}
    if len(labs) > 1:
        raise BadInput(f"{path}: it holds {len(labs)} labs: {', '.join(labs.values())}", "Leave one in the file.")
    if not labs:
        raise BadInput(f"{path}: it holds no lab", "Make one at its top level: lab = FunctionLab(...).")
    lab: Lab = vars(module)[next(iter(labs.values()))]
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
