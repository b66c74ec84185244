"""The rule that sets the goal."""

from collections import Counter

import numpy as np

from instar.builders.goals import CURIOSITY, choose_goal
from instar.contracts.records import Goal


def goal(difficulty: float, *mastery: float) -> Goal:
    return Goal(f"goal {difficulty}", {}, difficulty, mastery)


def usual(*goals: Goal) -> float:
    """Return the difficulty that is chosen most often, and most of the time."""
    rng = np.random.default_rng(0)
    counts = Counter(choose_goal(goals, rng).difficulty for _ in range(200))
    chosen, times = counts.most_common(1)[0]
    assert times >= 200 * (1 - 2 * CURIOSITY)
    return chosen


def test_a_single_goal_is_taken_whatever_its_state() -> None:
    for only in (goal(1), goal(1, 0.0, 0.0), goal(1, 1.0, 1.0), goal(1, 0.5)):
        assert usual(only) == 1


def test_nothing_measured_starts_with_the_easiest() -> None:
    assert usual(goal(3), goal(1), goal(2)) == 1


def test_a_ready_goal_leads_to_the_next_harder_one() -> None:
    assert usual(goal(1, 0.99), goal(2, 0.85), goal(3), goal(4)) == 3


def test_one_that_is_not_ready_does_not() -> None:
    assert usual(goal(1, 0.9, 0.95), goal(2, 0.3, 0.5), goal(3)) == 2


def test_the_goal_that_moves_most_is_pushed_also_when_it_is_being_forgotten() -> None:
    assert usual(goal(1, 0.85, 0.6), goal(2, 0.4, 0.5), goal(3, 0.1, 0.1)) == 1


def test_hopeless_and_mastered_goals_are_left_alone() -> None:
    assert usual(goal(1, 0.5, 0.95), goal(2, 0.3, 0.31), goal(3, 0.0, 0.01)) == 2


def test_a_goal_measured_once_is_measured_again() -> None:
    assert usual(goal(1, 0.3, 0.6), goal(2, 0.05)) == 2


def test_when_all_else_is_mastered_the_easiest_hopeless_goal_is_tried_again() -> None:
    assert usual(goal(1, 0.95), goal(2, 0.0, 0.0), goal(3, 0.0, 0.0)) == 2


def test_when_all_is_mastered_the_hardest_is_taken() -> None:
    assert usual(goal(2, 0.95), goal(1, 0.99), goal(3, 0.92)) == 3
