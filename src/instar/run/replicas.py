"""A generation's seed replicas: its design under the other training seeds, kept beside it for the noise floor.

They were trained for the generation's own promotion anyway, and are what retraining it under new seeds gives. What is
kept, and what the training cost, stands in `lineage.json`; a seed replica that is missing or was changed makes all of
them missing. Two generations back they have served and are removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instar.contracts.errors import ArtefactError
from instar.contracts.records import Footprint, Generation, Trial, Usage
from instar.executors.artefacts import digest_files, read_json, take
from instar.run.state import Run

_FOLDER = "replicas"
_SERVED = 2  # generations back


def keep(run: Run, generation: Generation, replicas: Sequence[Trial], beside: Path) -> Mapping[str, Any]:
    """Copy the replicas into the generation's directory `beside`; return what its lineage says of them."""
    names = run.parts.lab.artefact_files
    digests = []
    for number, trial in enumerate(replicas, start=1):
        target = beside / _FOLDER / str(number)
        take(run.trial_directory(trial), target, names, sync=True)
        digests.append(digest_files(target, names))
    shutil.rmtree(_directory(run, generation.number - _SERVED), ignore_errors=True)
    trained = [trial.usage.cpu_seconds for trial in replicas]
    return {"replicas": digests, "train_cpu_seconds": sum(trained) / len(trained) if trained else None}


def of_incumbent(run: Run) -> dict[str, Path] | None:
    """Return the digest and the directory of each seed replica; none for the founder, None where they are missing."""
    if run.incumbent.number == 0:
        return {}
    names, lineage = run.parts.lab.artefact_files, _lineage(run)
    try:
        places = [_directory(run, run.incumbent.number) / str(n + 1) for n in range(len(lineage["replicas"]))]
        found = [digest_files(place, names) for place in places]
    except (KeyError, TypeError, OSError):
        return None
    same = found and found == lineage["replicas"] and len(set(found)) == len(found)
    return dict(zip(found, places, strict=True)) if same else None


def incumbent_footprint(run: Run, evaluated: Usage) -> Footprint | None:
    """Return what the incumbent weighs and costs, given its evaluation on this question set, if that is known."""
    trained = _lineage(run).get("train_cpu_seconds")
    if run.incumbent.number and not isinstance(trained, int | float):
        return None
    size = artefact_bytes(run, run.artefact(run.incumbent))
    return Footprint(size, evaluated.cpu_seconds, float(trained) if trained is not None else None)


def artefact_bytes(run: Run, directory: Path) -> int:
    """Return the size of an artefact's own files."""
    return sum((directory / name).lstat().st_size for name in run.parts.lab.artefact_files)


def _lineage(run: Run) -> Mapping[str, Any]:
    try:
        lineage = read_json(run.artefact(run.incumbent) / "lineage.json")
    except ArtefactError:
        return {}
    return lineage if isinstance(lineage, dict) else {}


def _directory(run: Run, generation: int) -> Path:
    return run.parts.home / "generations" / f"{generation:04d}" / _FOLDER
