"""Whose weights are these? A copy of the incumbent or of declared reference weights is not promoted.

Three measures on tensors of the same name, each blind to the scale of a whole tensor (of 16 numbers or more):

- `moved`: how far the weights lie apart, relative to their norm, averaged over all numbers;
- `reordered`: the same between sorted values, which is 0 for a copy with its units permuted;
- `kinship`: the median over the units of a matrix of the best cosine with any unit of the other. It withstands
  permutation, rescaling and pruning of units, and heavy noise, but a model's own child is as close as a noisy copy.

So kinship is asked about references only, which no candidate descends from; against the incumbent, its parent, a copy
is what has hardly moved. Measured on `instar run tiles --budget 40s` (3x3, 87,812 weights, two promotions) and on
further trainings from its generation 2 (see docs/decisions/0008-exams.md):

| pair | moved | reordered | kinship |
| --- | --- | --- | --- |
| promoted child and its parent (2 pairs) | .71, .59 | .66, .20 | 1.00, .99 |
| 213 steps of the seed design (2 seeds) | .43, .43 | .038, .041 | 1.00 |
| 256 steps at the lowest rate of the space (2 seeds) | .125, .125 | .012, .013 | 1.00 |
| 20 steps at the lowest rate: the least that any trial does (2 seeds) | .021, .022 | .0077, .0076 | 1.00 |
| copy with noise of .001 of each tensor | .001 | .0003 | 1.00 |
| copy with noise of .01 | .010 | .0013 | 1.00 |
| copy with noise of .3 | .29 | .015 | .96 |
| copy, units permuted and rescaled, noise of .3 / 1 | | | .96 / .71 |
| two networks from other seeds, trained on the same data (1 pair) | 1.41 | .027 | .31 |

What it can't do: noise above LEAST_MOVED on a copy of the *incumbent* passes here. It changes no score (noise of .2:
.407 against .410 without), so there the improvement gate is the sandbox. Distillation of a reference into fresh weights
is not seen. A copy of the incumbent whose hidden layers are permuted *and* rescaled unit by unit is not seen. Fine-
tuning that moves the weights by less than LEAST_MOVED is refused, though it may be honest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from instar.contracts.errors import ArtefactError
from instar.contracts.evidence import Reason
from instar.contracts.exam import Arrays
from instar.executors.artefacts import read_arrays

Array = npt.NDArray[Any]

LEAST_MOVED = 0.01
LEAST_REORDERED = 0.001
MOST_KIN = 0.6
_UNITS = 16  # fewer say nothing: among few directions there is always a near one
_ROWS = 2048  # units that are looked at, at most


@dataclass(frozen=True)
class Likeness:
    """How alike two sets of tensors are; see the module. `kinship` is None without a matrix to compare."""

    moved: float
    reordered: float
    kinship: float | None

    @property
    def copied(self) -> bool:
        """Whether the weights have hardly moved, or were only put in another order."""
        return self.moved < LEAST_MOVED or self.reordered < LEAST_REORDERED

    @property
    def kin(self) -> bool:
        """Whether most units of a matrix are units of the other, whatever their order and scale."""
        return self.kinship is not None and self.kinship > MOST_KIN


def read_weights(directory: Path, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Return all tensors of an artefact's safetensors files, "file:tensor" -> array. Raises `ArtefactError`."""
    weights: dict[str, Array] = {}
    for name in names:
        if name.endswith(".safetensors"):
            weights |= {f"{name}:{tensor}": array for tensor, array in read_arrays(directory / name).items()}
    return weights


def compare(ours: Arrays, theirs: Arrays, *, kinship: bool = True) -> Likeness:
    """Return how alike two artefacts' tensors are. Where names or shapes differ, weights count as wholly moved."""
    moved, reordered, weight = 0.0, 0.0, 0
    if {name: np.shape(array) for name, array in ours.items()} == {name: np.shape(a) for name, a in theirs.items()}:
        for name, array in ours.items():
            one, other = _scaled(array, theirs[name])
            moved += one.size * float(np.sum((one - other) ** 2))
            reordered += one.size * float(np.sum((np.sort(one) - np.sort(other)) ** 2))
            weight += one.size
    kinships = [_kinship(array, theirs[name]) for name, array in ours.items() if kinship and name in theirs]
    known = [kinship for kinship in kinships if kinship is not None]
    far = (moved / weight) ** 0.5 if weight else 2.0
    return Likeness(far, (reordered / weight) ** 0.5 if weight else 2.0, max(known, default=None))


def judge(candidate: Arrays, ancestors: Mapping[str, Arrays], references: Mapping[str, Arrays]) -> Reason:
    """Return whether the candidate's weights are its own.

    Args:
        candidate: its tensors.
        ancestors: name -> tensors of models that it may descend from: the incumbent, the founder.
        references: name -> tensors of models that it must not descend from.
    """
    if not any(np.size(array) for array in candidate.values()):
        return Reason("similarity", False, "the artefact holds no weights that could be compared")
    found = {name: compare(candidate, weights, kinship=False) for name, weights in ancestors.items()}
    found |= {name: compare(candidate, weights) for name, weights in references.items()}
    copies = [
        f"its weights are those of {name} ({_figures(like)})" for name, like in found.items() if like.copied or like.kin
    ]
    numbers = {f"moved_from_{name}": like.moved for name, like in found.items()}
    nearest = min((like.moved for like in found.values()), default=2.0)
    own = f"moved {nearest:.3g} of its norm from the nearest weights, {LEAST_MOVED} at the least"
    return Reason("similarity", not copies, "; ".join(copies) or own, numbers)


def judge_files(candidate: Path, names: Sequence[str], ancestors: Mapping[str, Path],
                references: Mapping[str, Path]) -> Reason:  # fmt: skip
    """Do the same with directories; what can't be read means no."""
    if not ancestors and not references:
        return Reason("similarity", True, "every training starts from nothing, and no weights are named as not its own")
    try:
        ours = read_weights(candidate, names)
        theirs = [{name: read_weights(path, names) for name, path in of.items()} for of in (ancestors, references)]
    except ArtefactError as error:
        return Reason("similarity", False, f"weights cannot be compared: {error}")
    return judge(ours, *theirs)


def _scaled(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> tuple[Array, Array]:
    """Return both tensors' numbers with norm 1, (n,); a few numbers are only divided by the larger norm."""
    one, other = (np.asarray(array, dtype=np.float32).ravel() for array in (ours, theirs))
    norms = float(np.linalg.norm(one)), float(np.linalg.norm(other))
    if one.size < _UNITS or not min(norms):
        return one / (max(norms) or 1.0), other / (max(norms) or 1.0)
    return one / norms[0], other / norms[1]


def _kinship(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float | None:
    """Return the median best cosine of our units with theirs, by rows or by columns, whichever is more alike."""
    if np.ndim(ours) != 2 or np.ndim(theirs) != 2:
        return None
    found = []
    for one, other in ((ours, theirs), (ours.T, theirs.T)):
        if one.shape[1] == other.shape[1] and min(*one.shape, *other.shape) >= _UNITS:
            cosines = _units(one) @ _units(other).T
            found.append(float(np.median(cosines.max(axis=1))))
    return max(found, default=None)


def _units(matrix: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    rows = np.asarray(matrix[:_ROWS], dtype=np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _figures(like: Likeness) -> str:
    kinship = "" if like.kinship is None else f", kinship {like.kinship:.3f}"
    return f"moved {like.moved:.2g}, reordered {like.reordered:.2g}{kinship}"
