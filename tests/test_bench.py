"""The commands in `bench/` name nothing that is not there: they are run by hand, and seldom."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCH = sorted((Path(__file__).parents[1] / "bench").glob("*.py"))


@pytest.mark.parametrize("script", BENCH, ids=lambda path: path.name)
def test_what_a_bench_takes_from_the_package_is_there(script: Path) -> None:
    assert list(absent(ast.parse(script.read_text()))) == []


def test_what_is_absent_is_seen() -> None:
    tree = ast.parse("from instar.labs.tiles import rules, nothing\nrules.goal(3)\nrules.replay()\nimport instar.no\n")
    assert [*absent(tree)] == ["instar.labs.tiles.nothing", "instar.no", "rules.replay"]


def absent(tree: ast.AST) -> Iterator[str]:
    """Yield names of instar, and attributes of its modules, that a script uses and that do not exist."""
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "instar":
            for alias in node.names:
                found = _found(f"{node.module}.{alias.name}")
                if found is None:
                    yield f"{node.module}.{alias.name}"
                elif isinstance(found, ModuleType):
                    modules[alias.asname or alias.name] = found
        elif isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.startswith("instar.") and _found(one.name) is None)
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    for use in uses:
        assert isinstance(use.value, ast.Name)
        if use.value.id in modules and not hasattr(modules[use.value.id], use.attr):
            yield f"{use.value.id}.{use.attr}"


def _found(name: str) -> object:
    """Return a module, or what a module holds under that name, or None."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        home, _, last = name.rpartition(".")
        try:
            return getattr(importlib.import_module(home), last, None)
        except ModuleNotFoundError:
            return None
