"""What waits in a run's queue, and what is under way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from instar.contracts.records import Job, Outcome
from instar.run.conduct.protected import Fingerprint


class Step(Protocol):
    """A piece of work: a record that says what is to run, and what follows from how it ended.

    A step waits in `Run.ready`; once a slot is free its job becomes a `Task`; its outcome comes back to `finished`,
    which may record facts and queue further steps. Each kind of step stands beside what it is about: `founding.Found`
    and `ScreenIncumbent`, `trials.Train` and `Screen`, `experience.Collect`, `replicas.Merge`, `examination.Examine`.
    """

    @property
    def key(self) -> str:
        """The job's key, by which its outcome is known and its compute is charged."""
        ...

    @property
    def what(self) -> str:
        """What it is, for people."""
        ...

    def job(self) -> Job:
        """Describe the job, at the moment at which it begins."""
        ...

    def finished(self, outcome: Outcome) -> None:
        """Do what follows. An outcome that is cancelled may never have begun."""
        ...


@dataclass(frozen=True)
class Task:
    """A step under way: its job, since when it runs, and the fingerprints of what the job may read."""

    job: Job
    step: Step
    started: float
    fingerprints: Mapping[str, Fingerprint] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """What it is, for people."""
        return self.step.what
