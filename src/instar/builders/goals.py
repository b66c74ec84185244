"""What to push next, from measured learning progress.

A learner gains most where its competence moves, up or down, not where it is highest or lowest: Oudeyer, Kaplan and
Hafner, "Intrinsic motivation systems for autonomous mental development" (IEEE Trans. Evol. Comp. 2007); absolute
learning progress as in Colas et al. 2019, CURIOUS (arXiv:1810.06284).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from instar.contracts.records import Goal

MASTERED = 0.9
"""Above this share solved there is little left to learn at a goal."""

READY = 0.8
"""From this share solved at a goal on, the next harder one is tried."""

HOPELESS = 0.02
"""Below this share solved, twice in a row, there is nothing to learn from yet."""

CURIOSITY = 0.1
"""Share of choices made at random among the learnable goals."""


def choose_goal(goals: Sequence[Goal], rng: np.random.Generator) -> Goal:
    """Choose one of the goals on offer (at least one).

    The first rule that applies decides:

    1. The easiest goal that was never measured, if the goal just below it is ready (or there is none below).
    2. Of the goals that are neither mastered nor hopeless, one measured only once (its progress isn't known yet),
       else the one whose mastery moves most; now and then any of them.
    3. The easiest hopeless goal: the model has changed since.
    4. All is mastered: the hardest.
    """
    ladder = sorted(goals, key=lambda goal: goal.difficulty)
    step = _next_step(ladder)
    if step is not None:
        return step
    open_goals = [goal for goal in ladder if goal.mastery and goal.mastery[-1] <= MASTERED]
    learnable = [goal for goal in open_goals if not _hopeless(goal)]
    if learnable and rng.random() < CURIOSITY:
        return learnable[int(rng.integers(len(learnable)))]
    if learnable:
        return max(learnable, key=_interest)
    return open_goals[0] if open_goals else ladder[-1]


def _next_step(ladder: Sequence[Goal]) -> Goal | None:
    """Return the easiest unmeasured goal if the one below it is ready for it."""
    for index, goal in enumerate(ladder):
        if not goal.mastery:
            return goal if index == 0 or ladder[index - 1].mastery[-1] >= READY else None
    return None


def _hopeless(goal: Goal) -> bool:
    return len(goal.mastery) >= 2 and max(goal.mastery[-2:]) < HOPELESS


def _interest(goal: Goal) -> tuple[float, float]:
    """Return what makes a goal worth pushing: how much it moves; where that ties, how near it is to half solved."""
    moves = abs(goal.progress) if len(goal.mastery) >= 2 else math.inf
    return moves, -abs(goal.mastery[-1] - 0.5)
