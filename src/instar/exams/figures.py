"""Turns a score into the figures that people and `--json` see: each with interval, sample size and status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from instar.contracts.evidence import Score
from instar.stats.horizon import horizon
from instar.stats.intervals import paired_difference, wilson


def figures(score: Score, seed: int) -> Mapping[str, Mapping[str, Any]]:
    """Return the metric, the share solved and both horizons as JSON objects.

    Args:
        score: one artefact's marked answers.
        seed: for the bootstrap of the horizons.
    """
    rng = np.random.default_rng(seed)
    known = np.isfinite(score.lengths) & (score.lengths > 0)
    found = {
        "metric": paired_difference(score.values, np.zeros_like(score.values)).to_json(),
        "solved": wilson(int(score.solved.sum()), score.solved.size).to_json(),
    }
    if known.any():
        lengths, solved = score.lengths[known], score.solved[known]
        found["horizon_50"] = horizon(lengths, solved, share=0.5, rng=rng).to_json()
        found["horizon_80"] = horizon(lengths, solved, share=0.8, rng=rng).to_json()
    return found
