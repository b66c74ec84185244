"""Instar: closed-loop model building. Start reading at `instar.loop`; the names below are all that a lab's file needs.

They are loaded when they are first asked for, so that `import instar` costs nothing.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # so that `typing`, which takes most of the time, is not imported
if TYPE_CHECKING:
    from typing import Any

    from instar.contracts.errors import BadInput as BadInput
    from instar.contracts.errors import LabError as LabError
    from instar.contracts.evidence import Score as Score
    from instar.contracts.exam import QuestionSet as QuestionSet
    from instar.contracts.lab import Lab as Lab
    from instar.contracts.lab import LabProfile as LabProfile
    from instar.contracts.lab import Metric as Metric
    from instar.contracts.lab import Safeguard as Safeguard
    from instar.contracts.records import Design as Design
    from instar.contracts.space import Choice as Choice
    from instar.contracts.space import Integer as Integer
    from instar.contracts.space import Real as Real
    from instar.contracts.space import Space as Space
    from instar.labs.functions import FunctionLab as FunctionLab
    from instar.session.python import load_run as load_run

__version__ = "0.1.0"

_HOMES = {
    "BadInput": "instar.contracts.errors", "LabError": "instar.contracts.errors",
    "QuestionSet": "instar.contracts.exam", "Lab": "instar.contracts.lab",
    "LabProfile": "instar.contracts.lab", "Metric": "instar.contracts.lab", "Safeguard": "instar.contracts.lab",
    "Design": "instar.contracts.records", "Score": "instar.contracts.evidence", "Choice": "instar.contracts.space",
    "Integer": "instar.contracts.space", "Real": "instar.contracts.space", "Space": "instar.contracts.space",
    "FunctionLab": "instar.labs.functions", "load_run": "instar.session.python",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "run":
        return importlib.import_module("instar.run")  # the package, which is callable
    raise AttributeError(f"module 'instar' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__", "run"])
