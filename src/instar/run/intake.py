"""What an artefact cost to make goes into its score, where the exam asks for it (`interfaces.Priced`).

The executor meters a training job; the conductor writes what it says into the artefact that it takes over, over
whatever the job may have left under that name. From there it is part of the artefact: committed to by its digest,
copied with it, and read again whenever it is marked. What is missing or malformed is an artefact that can't be marked.
"""

from __future__ import annotations

import math
from pathlib import Path

from instar.contracts.errors import ArtefactError
from instar.contracts.protocols import Exam, Lab, Priced
from instar.contracts.records import Score, Usage
from instar.executors.artefacts import read_json, write_json

COST = "cost.json"
"""Among a priced lab's `artefact_files`; a training job leaves anything there, and it is replaced."""


def seal(lab: Lab, artefact: Path, usage: Usage) -> None:
    """Write into an artefact that was just taken over what its training cost. Does nothing for other labs."""
    if isinstance(lab.exam, Priced):
        cost = {"cpu_seconds": usage.cpu_seconds, "wall_seconds": usage.wall_seconds}
        write_json(artefact / COST, cost, sync=False)


def cost_of(artefact: Path) -> float:
    """Return the CPU seconds that an artefact's training took. Raises `ArtefactError` where that isn't on record."""
    cost = read_json(artefact / COST)
    seconds = cost.get("cpu_seconds") if isinstance(cost, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0.0 < seconds < math.inf:
        raise ArtefactError(f"{COST}: what its training cost is not on record")
    return float(seconds)


def spent(lab: Lab, artefact: Path) -> float | None:
    """Return what a generation's training took, for a priced lab; None for any other, or where it isn't on record."""
    if not isinstance(lab.exam, Priced):
        return None
    try:
        return cost_of(artefact)
    except ArtefactError:
        return None


def priced(exam: Exam, score: Score, artefact: Path, founder: Path) -> Score:
    """Return the score with the price of training in it, relative to the founder's; of other exams as it is.

    Raises:
        ArtefactError: what either cost is not on record.
    """
    return exam.price(score, cost_of(artefact), cost_of(founder)) if isinstance(exam, Priced) else score
