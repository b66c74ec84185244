"""A real conductor to be killed: it plays the toy lab with two workers in a process of its own."""

from __future__ import annotations

from pathlib import Path

from instar.run.state import Run
from tests.rig import Rig
from tests.toys import TeachingToyLab


def play(home: Path, trials: int) -> None:
    """Play until so many trials were begun; what is under way then is finished."""
    rig = Rig(home, TeachingToyLab(gain=3.0), {"executor": "local", "workers": 2, "budget": "1h"})

    def enough(run: Run) -> bool:
        return run.numbers.trial > trials

    rig.play(until=enough)
