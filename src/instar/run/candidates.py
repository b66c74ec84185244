"""Candidates on their way: through the rungs of training budgets, past the screen, to replicas and the exam."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from pathlib import Path

from instar.contracts.evidence import Score
from instar.contracts.exam import QuestionSet
from instar.contracts.records import Proposal, Trial
from instar.exams.ladder import Ladder

_MOST = 1024  # that wait on one rung


@dataclass(frozen=True)
class Merged:
    """One artefact made of a finalist's replicas; `metric` is its score on the screen, None while it isn't known."""

    artefact: str = ""
    metric: float | None = None
    done: bool = False


@dataclass
class Candidate:
    """A proposal on its way through the rungs, to its replicas and to the exam.

    `trials` maps (rung, replica) to the newest record of that trial.
    """

    proposal: Proposal
    trials: dict[tuple[int, int], Trial] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)  # of all its trials, also of those that had to be made again
    merged: Merged | None = None
    under_exam: bool = False
    clear: bool = False  # its generation's first climber, with a gain beyond doubt

    @property
    def newest(self) -> Trial:
        """The trial that was given the most to learn from."""
        return max(self.trials.values(), key=lambda trial: trial.experience)


@dataclass
class Rung:
    """Scores at one rung within one generation, for successive halving (ASHA, arXiv:1810.05934)."""

    metrics: list[float] = field(default_factory=list)  # ascending
    waiting: list[tuple[float, int]] = field(default_factory=list)  # (metric, proposal), ascending
    clear: set[int] = field(default_factory=set)  # proposals whose gain is many times its noise
    climbed: bool = False

    def add(self, metric: float, proposal: int, *, clear: bool = False, waits: bool = True) -> list[int]:
        """Enter a score; return the worst beyond `_MOST` waiting ones, let go so that no step grows dearer."""
        if clear:
            self.clear.add(proposal)
        insort(self.metrics, metric)
        if waits:
            insort(self.waiting, (metric, proposal))
        dropped = [number for _, number in self.waiting[:-_MOST]]
        del self.waiting[:-_MOST]
        return dropped

    def climber(self, eta: int) -> int | None:
        """Take out the best waiting proposal if it is among the best 1/eta of the rung, else None."""
        count = len(self.metrics) // eta
        if not count or not self.waiting or self.waiting[-1][0] < self.metrics[-count]:
            return None
        self.climbed = True
        return self.waiting.pop()[1]

    def clear_winner(self) -> int | None:
        """Take out the best waiting proposal as the first if its gain is beyond doubt already, else None."""
        if self.climbed or not self.waiting or self.waiting[-1][1] not in self.clear:
            return None
        self.climbed = True
        return self.waiting.pop()[1]


@dataclass
class ScreenExam:
    """The visible exam of one generation: one question set for all its trials, and the incumbent's score on it."""

    question_set: QuestionSet
    questions: Path
    incumbent_score: Score | None = None
    ladder: Ladder | None = None  # where the exam is fixed
