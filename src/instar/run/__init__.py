"""One run from the inside: what `loop.py` names, step by step.

The package is also the function `instar.run(...)`, which is `instar.session.python.run`.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A package that can be called: users write `instar.run(...)`, and the rooms above import it."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        return importlib.import_module("instar.session.python").run(*arguments, **settings)


sys.modules[__name__].__class__ = _Callable
