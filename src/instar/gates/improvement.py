"""The improvement gate: the candidate must be better than the incumbent, on the same fresh questions.

For question i, d_i is the score of the successor, the very artefact that would be promoted, less the incumbent's, in
[-1, 1]. (Where no successor was chosen it is the mean over the candidate's training seeds.) H0: the mean of d over
questions is at most 0. The candidate passes when the betting e-value against H0 reaches 1 / alpha_k, where
alpha_k = 6 alpha / (pi^2 k^2) is what the k-th candidate of a run may spend: over a run of any length the chance of
promoting anything that is not better is at most alpha. A majority of the training seeds must be better by themselves as
well, so that one lucky seed does not stand for its design.

The e-value is the highest along the way through the questions in a random order that nobody can foresee: the
bound holds for it too, and it needs about a quarter fewer questions than the value at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from instar.errors import BadInput
from instar.gates.pairing import mean_over_seeds, points, problem, random_order, refuse
from instar.records import Decision, Estimate, Evidence, Floats, Reason, Score
from instar.stats.evalues import in_words, log_e_process, spent_alpha
from instar.stats.intervals import paired_difference


@dataclass
class Improvement:
    """Passes a candidate that is shown to be better than the incumbent.

    Attributes:
        alpha: chance of promoting anything that is not better, over a whole run; inside (0, 1).
        seeds: how many training seeds must have sat the exam, at least 1.
    """

    alpha: float = 0.05
    seeds: int = 3
    name: str = "improvement"

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise BadInput(
                f"improvement gate: alpha {self.alpha} would pass nothing or everything",
                "Choose a value inside (0, 1), such as 0.05.",
            )
        if self.seeds < 1:
            raise BadInput(f"improvement gate: {self.seeds} seeds are no evidence", "Ask for 1 or more, such as 3.")

    def judge(self, evidence: Evidence) -> Decision:
        """Return whether the candidate is better, with the gain, its interval, the e-value and each seed's gain."""
        fault = problem(evidence)
        if fault:
            return refuse(self.name, fault)
        if len(evidence.candidate) < self.seeds:
            return refuse(self.name, f"{len(evidence.candidate)} training seeds were examined, {self.seeds} are needed")
        reference = evidence.incumbent.values
        mean = mean_over_seeds(tuple(score.values for score in evidence.judged))
        log_e = float(log_e_process((mean - reference)[random_order(evidence)], 0.0, -1.0, 1.0).max())
        gains = np.array([score.metric - evidence.incumbent.metric for score in evidence.candidate])
        gain = paired_difference(mean, reference)
        return Decision((self._reason(gain, log_e, spent_alpha(self.alpha, evidence.test), gains),))

    def impossible(self, outline: Score) -> str | None:
        """Say that even a candidate that wins every question could not pass on this paper, or None."""
        won = np.ones_like(outline.values)
        log_e, alpha = float(log_e_process(won, 0.0, -1.0, 1.0).max()), spent_alpha(self.alpha, 1)
        if log_e >= -math.log(alpha):
            return None
        return (
            f"alpha {self.alpha:g} asks for an e-value of {in_words(-math.log(alpha))}, "
            f"and a candidate that wins every question reaches {in_words(log_e)}"
        )

    def _reason(self, gain: Estimate, log_e: float, alpha: float, gains: Floats) -> Reason:
        """Put the verdict in words and finite numbers; `gains` (S,) is each seed's mean gain."""
        better = int((gains > 0.0).sum())
        shown, majority = log_e >= -math.log(alpha), 2 * better > gains.size
        value = gain.value or 0.0
        verb = "better" if shown and majority else "not shown to be better: better" if value > 0.0 else "not better:"
        amount = f"{verb} by {100 * value:.1f} points" if value > 0.0 else f"{verb} {100 * value:+.1f} points"
        text = (
            f"{amount} ({points(gain.low, gain.high)}), e-value {in_words(log_e)} against 1/alpha {1 / alpha:.0f}, "
            f"{better} of {gains.size} seeds"
        )
        numbers = {
            "gain": value,
            "log_e_value": log_e,
            "alpha": alpha,
            "questions": float(gain.n),
            "seeds": float(gains.size),
            "seeds_better": float(better),
            "seed_spread": float(gains.std(ddof=1)) if gains.size > 1 else 0.0,
        }
        numbers |= {f"gain_seed_{i + 1}": float(seed) for i, seed in enumerate(gains)}
        if gain.low is not None and gain.high is not None:
            numbers |= {"gain_low": gain.low, "gain_high": gain.high}
        return Reason(self.name, shown and majority, text, numbers)


def create(options: Mapping[str, object]) -> Improvement:
    """Make the gate from the options `alpha` and `seeds`. Raises `BadInput` for any other, or one out of range."""
    for key in options:
        if key not in ("alpha", "seeds"):
            raise BadInput(f"improvement gate: unknown option '{key}'", "Known: alpha, seeds.")
    alpha, seeds = options.get("alpha", 0.05), options.get("seeds", 3)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise BadInput(f"improvement gate: alpha must be a number, not {alpha!r}", "Choose a value inside (0, 1).")
    if isinstance(seeds, bool) or not isinstance(seeds, int):
        raise BadInput(f"improvement gate: seeds must be a whole number, not {seeds!r}", "Ask for 1 or more.")
    return Improvement(alpha=float(alpha), seeds=seeds)
