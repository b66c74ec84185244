"""The Protocols: what a lab, a builder, an executor, a gate, an archive and a ledger must do.

Each has a conformance suite in `instar.testing`. Implementations come in through entry points (see `plugins`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from instar.contracts.oversight import (
    Acknowledgement,
    Approval,
    Explanation,
    Handover,
    IncidentRecord,
    JobCount,
    SlotTime,
)
from instar.contracts.records import (
    Brief,
    Decision,
    Design,
    Evidence,
    Experience,
    Generation,
    Goal,
    Job,
    Limits,
    Observation,
    Outcome,
    Proposal,
    Reason,
    Score,
    Sizes,
    Spend,
    Trial,
    Usage,
)
from instar.contracts.space import Space

Arrays = Mapping[str, npt.NDArray[Any]]


# --- labs -----------------------------------------------------------------------------------------------------------


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


@runtime_checkable
class Safeguarded(Protocol):
    """A lab that declares safeguards, which the collapse gate holds."""

    safeguards: Sequence[Safeguard]


@runtime_checkable
class Outlining(Protocol):
    """An exam that can say what it asks before anyone was evaluated, so that no hopeless run begins."""

    def outline(self, question_set: QuestionSet) -> Score:
        """Return the score of one who answers nothing: with the lengths and bands of every question."""
        ...


class Outlined(Protocol):
    """A gate that can say before a run whether this exam could show anything at all. Optional for gates."""

    def impossible(self, outline: Score) -> str | None:
        """Return why no candidate could pass (or none could fail) on such a question set, or None."""
        ...


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


class Stage(StrEnum):
    """What an exam is for: it decides how many questions are set."""

    SCREEN = "screen"  # visible, reused within one generation
    PROMOTION = "promotion"  # sealed, fresh for every sitting
    REPORT = "report"  # for people, at the end


@dataclass(frozen=True, eq=False)
class QuestionSet:
    """An exam question set: `questions` go to the exam sandbox, `answers` stay with the marker."""

    questions: Arrays
    answers: Arrays = field(default_factory=dict)


class Exam(Protocol):
    """Questions set and marked outside the candidate's reach; the candidate only sits."""

    def set(self, seed: int, stage: Stage) -> QuestionSet:
        """Draw fresh questions that no one has trained on; the same seed gives the same question set."""
        ...

    def evaluate(self, key: str, artefact: Path, questions: Path, limits: Limits) -> Job:
        """Describe the exam job: read `questions` (a safetensors file), leave `answers.safetensors`."""
        ...

    def mark(self, question_set: QuestionSet, answers: Arrays) -> Score:
        """Mark untrusted answers. Raises `ArtefactError` where they break the contract."""
        ...


@runtime_checkable
class Probing(Protocol):
    """An exam that can test itself before anything is computed (see `exams.selftest`).

    Attributes:
        chance: the most that answers may score which do not depend on the questions, in [0, 1).
    """

    chance: float

    def known_good(self, question_set: QuestionSet) -> Arrays:
        """Return answers that must score above chance, made from the marker's side."""
        ...

    def cheats(self, question_set: QuestionSet) -> Mapping[str, Arrays]:
        """Return answers by the name of their trick, none of which may score above chance."""
        ...


@runtime_checkable
class Priced(Protocol):
    """An exam whose score depends on what the artefact cost to make; its lab's files include `pricing.COST`.

    Both costs are the executor's own accounting of the training jobs; nothing that a candidate says is used.
    """

    def price(self, score: Score, cpu_seconds: float, founder_cpu_seconds: float) -> Score:
        """Return a marked score with its price in it.

        Args:
            score: from `mark`.
            cpu_seconds: of the training of the artefact that was marked.
            founder_cpu_seconds: the same of generation 0, metered in the same run.
        """
        ...


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


class Feedback(StrEnum):
    """What judges an answer before it becomes training data."""

    VERIFIED = "verified"
    SELF = "self"
    NONE = "none"


@dataclass(frozen=True)
class CollectRequest:
    """All that a collecting job may know: who answers, at which goal, with which seed.

    `tasks` is the file with what a `TaskSetting` lab has set; it goes into the room as an input.
    """

    key: str
    design: Design
    artefact: Path
    maker: int
    goal: Goal
    seed: int
    limits: Limits
    feedback: Feedback = Feedback.VERIFIED
    tasks: Path | None = None


@runtime_checkable
class Referring(Protocol):
    """A lab that knows of weights which no candidate may copy, such as a published solution's."""

    def references(self) -> Mapping[str, Path]:
        """Return name -> directory with the lab's artefact files."""
        ...


@runtime_checkable
class SelfTeaching(Protocol):
    """A lab whose incumbent makes its successor's training data, judged outside by rules or a verifier."""

    def goals(self, design: Design, experience: Sequence[Experience]) -> Sequence[Goal]:
        """Offer the goals that may be pushed next, easiest first, with the mastery measured so far."""
        ...

    def collect(self, request: CollectRequest) -> Job:
        """Describe the training sandbox job in which the incumbent answers tasks at the goal."""
        ...

    def verify(self, request: CollectRequest, answers: Arrays) -> tuple[Arrays, Experience]:
        """Judge untrusted answers; return the data to keep and its record (digest and usage still empty)."""
        ...


@runtime_checkable
class TaskSetting(Protocol):
    """A self-teaching lab whose tasks are set in the conductor, so that the maker does not choose what it is asked."""

    def tasks(self, request: CollectRequest) -> Arrays:
        """Draw the tasks from the request's seed and goal: the same request, the same tasks.

        `verify` judges the answers as answers to these, and to no others.
        """
        ...


# --- builders, executors, gates -------------------------------------------------------------------------------------


class Builder(Protocol):
    """Whoever proposes designs; sees visible history only."""

    name: str
    space: Space  # its own settings, which are part of every design under "designer."

    def aim(self, brief: Brief) -> Goal:
        """Choose one of the goals on offer."""
        ...

    def propose(self, brief: Brief) -> Sequence[Proposal]:
        """Return up to `brief.count` proposals, each with a forecast, numbered on from `brief.first`.

        Never blocks for long: a builder that has to think (or to ask somebody) returns what it has, if only
        nothing, goes on thinking in a thread or process of its own, and says so as a `Deliberating` one.
        """
        ...

    def observe(self, observation: Observation) -> None:
        """Learn from one finished trial."""
        ...


@runtime_checkable
class Deliberating(Protocol):
    """A builder that may have nothing to propose yet."""

    @property
    def waits_for(self) -> str | None:
        """What its next proposal waits for, such as "person" or "llm"; None where it is ready to be asked."""
        ...

    def close(self) -> None:
        """Stop thinking, and end every process that does. Safe to call twice."""
        ...


@dataclass(frozen=True)
class BuilderContext:
    """What a builder's factory may be told beyond the lab's name, its space and a generator: its parameter `desk`.

    Attributes:
        arguments: what followed the colon in `--builder NAME:ARGUMENTS`, taken apart by `specification.arguments_of`.
        options: the builder's own table, `[builders.NAME]` in instar.toml.
        directory: where it may keep files of its own; the same after a restart, and not made yet.
        seed_design: the design of generation 0; its files are all that a builder may edit.
        max_cost: money for all of this run's proposals together, in USD; None is without bound.
        spent: what earlier lives of the run have spent already, by author's name (the part before "@").
        make: returns another builder of this run by its specification, as `--builder` takes it.
        newest: number of the newest proposal on record, 0 without any.
        program: the lab's own instructions for whoever builds (see `Instructing`).
        hidden: directories that no program that it starts may see, such as a lab's sealed texts.
    """

    arguments: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    directory: Path = Path()
    seed_design: Design | None = None
    max_cost: float | None = None
    spent: Mapping[str, Spend] = field(default_factory=dict)
    make: Callable[[str], Builder] | None = None
    newest: int = 0
    hidden: Sequence[Path] = ()
    program: str = ""


@runtime_checkable
class Editing(Protocol):
    """A builder that may propose other files, and not only other parameters.

    Attributes:
        edits_files: whether it does.
    """

    edits_files: bool


@runtime_checkable
class Heritable(Protocol):
    """A builder that is part of each generation: retrained when one is built, and kept with it."""

    def succeed(self, design: Design) -> Mapping[str, Any]:
        """Retrain on all that was observed, with the settings in `design`; return the state as strict JSON."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the builder of the generation whose state this is."""
        ...


class Executor(Protocol):
    """Runs jobs in rooms of their own; the same contract inline, local and remote.

    Attributes:
        slots: how many jobs run at once.
        busy_seconds: wall seconds that finished jobs held a slot, summed.
        ready_at: when it became ready (monotonic seconds), None before.
    """

    slots: int
    busy_seconds: float
    ready_at: float | None

    def submit(self, job: Job) -> None:
        """Start the job, or queue it until a slot is free. Never blocks for long."""
        ...

    def wait(self, timeout: float | None = None) -> Sequence[Outcome]:
        """Return the outcomes that are in, waiting at most `timeout` seconds for the first (None: for ever)."""
        ...

    def cancel(self, key: str) -> None:
        """End a job; its outcome still comes, as cancelled. Unknown keys are ignored."""
        ...

    def close(self) -> None:
        """End every job and give back all that was held. Safe to call twice."""
        ...


class Gate(Protocol):
    """Decides from evidence; fails closed."""

    @property
    def name(self) -> str:
        """What its reasons are headed with."""
        ...

    def judge(self, evidence: Evidence) -> Decision:
        """Return the decision with its reasons."""
        ...


@runtime_checkable
class Foreseeing(Protocol):
    """A gate that refuses some candidates by what is known before any exam. Optional for gates."""

    def foresee(self, sizes: Sizes) -> Reason | None:
        """Return the failed reason that it would give whatever the exam shows, or None."""
        ...


# --- archive and ledger ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reservation:
    """Compute set aside before it is used; `key` makes settling it twice harmless."""

    key: str
    purpose: str  # improve, experience, examine
    cpu_seconds: float


@dataclass(frozen=True)
class Verdict:
    """A judged candidate: what the gates said. `number` is the count of judgements in the run."""

    number: int
    proposal: int
    incumbent: int
    decision: Decision
    estimates: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Account:
    """Running totals of a run's compute."""

    settled: Mapping[str, Usage] = field(default_factory=dict)  # by purpose
    reserved_cpu_seconds: float = 0.0
    wall_seconds: float = 0.0  # of the run, over all its restarts

    @property
    def total(self) -> Usage:
        """All settled usage."""
        return sum(self.settled.values(), Usage())


Fact = (
    Proposal | Trial | Generation | Experience | Verdict | IncidentRecord | Explanation | Acknowledgement | JobCount
    | Approval | Handover | SlotTime
)  # fmt: skip
F = TypeVar(
    "F", Proposal, Trial, Generation, Experience, Verdict, IncidentRecord, Explanation, Acknowledgement, JobCount,
    Approval, Handover, SlotTime,
)  # fmt: skip


class Archive(Protocol):
    """The durable record of every trial, also of the failed ones. One writer, many readers."""

    identity: Mapping[str, Any]  # lab, options, seed, version: what must agree on resuming

    def record(
        self,
        facts: Sequence[Fact] = (),
        *,
        settle: Mapping[str, Usage] | None = None,
        reserve: Sequence[Reservation] = (),
        wall_seconds: float | None = None,
    ) -> None:
        """Write everything in one durable transaction. Facts with a known number (digest, key) replace the old ones.

        `settle` maps reservation keys to what was really used; settling a key again, or one that was never
        reserved, changes nothing.
        """
        ...

    def history(self, kind: type[F], after: int = 0) -> Iterator[F]:
        """Yield facts of one kind in the order in which they were first recorded, past number `after`."""
        ...

    def account(self) -> Account:
        """Return the totals, at a cost that does not grow with the archive."""
        ...

    def release(self) -> None:
        """Forget every reservation that is not settled: what a former life had under way. They may be made again."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Return how many trials are in each state."""
        ...

    def close(self) -> None:
        """Give back the file. Safe to call twice."""
        ...


@runtime_checkable
class Impossible(Protocol):
    """An exam that can also ask what has no right answer (Zhong et al. 2025, ImpossibleBench, arXiv:2510.20270)."""

    def set_impossible(self, seed: int) -> QuestionSet:
        """Return a small question set in the usual form; whoever solves any of it has fooled the marker."""
        ...


@runtime_checkable
class Traits(Protocol):
    """A lab in whose training data a harmless trait can be planted, and be seen again in answers."""

    def plant(self, data: Arrays, rate: float, seed: int) -> Arrays:
        """Return verified data in which a share `rate` of all that can show the trait does; all of it still holds."""
        ...

    def trait_questions(self, seed: int) -> QuestionSet:
        """Draw questions, held out of training, on which the trait can be shown or not. Raises `BadInput`."""
        ...

    def shown(self, question_set: QuestionSet, answers: Arrays) -> npt.NDArray[np.bool_]:
        """Return which answers show the trait, (N,). Raises `ArtefactError` where they break the contract."""
        ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a statement stands in the ledger, and the root that commits to all up to it (hexadecimal)."""

    index: int
    root: str


class Ledger(Protocol):
    """An append-only log that a stranger can verify."""

    def append(self, key: str, statement: Mapping[str, Any], *, sync: bool = True) -> Receipt:
        """Append a statement and return its receipt; a known key returns its old receipt and appends nothing."""
        ...

    def prove(self, index: int) -> Mapping[str, Any]:
        """Return what a stranger needs to check that entry `index` is under the present root."""
        ...

    @property
    def root(self) -> str:
        """The hash that commits to every entry so far (hexadecimal)."""
        ...

    def close(self) -> None:
        """Flush to the disk and give back the file. Safe to call twice."""
        ...


@runtime_checkable
class Merging(Protocol):
    """A lab that can make one artefact of several trained from the same parent (averaged weights)."""

    def merge(self, key: str, artefacts: Sequence[Path], limits: Limits) -> Job:
        """Describe the training sandbox job that leaves the merged artefact in `out`."""
        ...


@runtime_checkable
class Lengthening(Protocol):
    """A lab that has longer tasks to offer once its exam separates no models any more."""

    def longer(self) -> Mapping[str, str] | None:
        """Return the options under which this lab sets the next longer tasks; None at the end of its ladder."""
        ...
