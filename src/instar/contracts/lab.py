"""A lab: what is being improved. Four things are required; all that can be left out stands in its `LabProfile`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from instar.contracts.exam import Exam
from instar.contracts.records import (
    Design,
    Job,
    Limits,
)
from instar.contracts.space import Space


@dataclass(frozen=True)
class Metric:
    """The lab's goal figure: the mean score per question, in [0, 1], higher is better.

    Attributes:
        name: such as "path efficiency".
        unit_of_length: what task length is counted in, such as "moves".
        headline: name of the figure in `Score.metrics` that people look at first.
        also: names of further goal metrics, which the marker puts into `Score.also`.
        every: whether every goal metric must improve, or any (with Holm's correction).
    """

    name: str
    unit_of_length: str
    headline: str
    also: tuple[str, ...] = ()
    every: bool = True


@dataclass(frozen=True)
class Safeguard:
    """A figure that must not get lost while the metric rises; the marker puts it into `Score.safeguards`.

    Attributes:
        name: such as "entropy of the answers".
        margin: loss that counts as none, in the figure's own unit; 0 or more (above 0 for figures per question).
        against: whose figure must be kept: "incumbent", "founder", or "both".
        higher_is_better: False where a rise is the loss.
    """

    name: str
    margin: float
    against: str = "both"
    higher_is_better: bool = True


@dataclass(frozen=True)
class TrainRequest:
    """All that a training job may know.

    Attributes:
        key: the job's idempotency key.
        seed: training seed.
        effort: share of the top rung's training budget, in (0, 1]; 0 founds generation 0.
        parent: the parent's artefact (a directory), or None for the founder, and for what is trained beside it where
            nothing is inherited (`Inheriting`).
        experience: verified data files, oldest first.
        parent_cpu_seconds: what the parent's own training took, where the exam is `Priced` and that is known.
    """

    key: str
    design: Design
    seed: int
    effort: float
    parent: Path | None
    limits: Limits
    experience: Sequence[Path] = ()
    threads: int = 1
    parent_cpu_seconds: float | None = None


class Lab(Protocol):
    """What is being improved: how a successor is trained, and how the world answers."""

    name: str
    version: str
    metric: Metric
    preload: Sequence[str]  # modules that the fork server imports once (docs/decisions/0019-what-a-trial-pays-for.md)
    artefact_files: Sequence[str]  # all that an artefact consists of

    @property
    def exam(self) -> Exam:
        """The lab's exam."""
        ...

    def design_space(self) -> Space:
        """Return the typed ranges of a design's parameters."""
        ...

    def seed_design(self) -> Design:
        """Return the design that generation 0 carries; it lies inside the space."""
        ...

    def train(self, request: TrainRequest) -> Job:
        """Describe the training sandbox job that leaves an artefact (safetensors and strict JSON) in `out`."""
        ...

    def check(self, artefact: Path) -> None:
        """Raise `ArtefactError` unless the artefact's files are exactly what the contract allows."""
        ...


@runtime_checkable
class Safeguarded(Protocol):
    """A lab that declares safeguards, which the collapse gate holds."""

    safeguards: Sequence[Safeguard]


@runtime_checkable
class Sealing(Protocol):
    """A lab with directories that no job may see, such as the texts that its exams are drawn from."""

    sealed: Sequence[Path]


@runtime_checkable
class FixedExam(Protocol):
    """An exam whose questions are drawn from a finite pool and not made: every look at it is counted.

    Attributes:
        fixed: whether that is so.
        pool: how many questions there are.
    """

    fixed: bool
    pool: int


@runtime_checkable
class Stepped(Protocol):
    """A fixed exam of so few questions that the Ladder's own step says nothing: it states the least one shown.

    Attributes:
        step: above 0 and below 1; None leaves the step to the Ladder.
    """

    step: float | None


@runtime_checkable
class Gated(Protocol):
    """A lab that says which gates suit its exam; a person's settings stand above it.

    Attributes:
        gates: name -> options, in the order in which they are asked.
    """

    gates: Mapping[str, Mapping[str, Any]]


@runtime_checkable
class Preset(Protocol):
    """A lab that says what a run of it has unless somebody says otherwise.

    Attributes:
        settings: name of a setting -> its value.
    """

    settings: Mapping[str, Any]


@runtime_checkable
class SelfReported(Protocol):
    """A lab that may have nothing to measure by but what the training says of itself.

    Attributes:
        self_reported: whether that is so: then nothing is promoted unless a person accepts it in so many words.
    """

    self_reported: bool


@runtime_checkable
class Inheriting(Protocol):
    """A lab that says whether a training is given its parent's weights.

    Attributes:
        inherits: False where every training starts from nothing: likeness to an ancestor says nothing then, and
            designs may be trained before the founder is there (without a parent).
    """

    inherits: bool


@runtime_checkable
class Metered(Protocol):
    """A lab whose jobs use a device that the operating system does not account for."""

    def meter(self) -> Callable[[], str | None] | None:
        """Return what says why the run must end, or None, whenever it is asked; None where nothing is metered."""
        ...


@runtime_checkable
class Rendering(Protocol):
    """A lab whose designs' files are not yet what runs, such as sources into which parameters are written."""

    def sources(self, design: Design) -> Mapping[str, str]:
        """Return the files of a design as they run, by their paths."""
        ...


@runtime_checkable
class Instructing(Protocol):
    """A lab with instructions of its own for whoever builds, who keep a log in the metric's own unit.

    Attributes:
        program: Markdown; "" for none.
    """

    program: str

    def value_of(self, score: float) -> float:
        """Return the metric's value that has this score."""
        ...


@runtime_checkable
class Referring(Protocol):
    """A lab that knows of weights which no candidate may copy, such as a published solution's."""

    def references(self) -> Mapping[str, Path]:
        """Return name -> directory with the lab's artefact files."""
        ...


@runtime_checkable
class Lengthening(Protocol):
    """A lab that has longer tasks to offer once its exam separates no models any more."""

    def longer(self) -> Mapping[str, str] | None:
        """Return the options under which this lab sets the next longer tasks; None at the end of its ladder."""
        ...
