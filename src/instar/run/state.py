"""The state of a run between two turns of the loop: what is open, what is staged, what was spent.

Nothing here is precious: all of it is rebuilt from the archive (see `resume`).
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import time
from bisect import insort
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from instar.contracts.archive import Archive, Fact, Reservation
from instar.contracts.builder import Builder, Deliberating
from instar.contracts.errors import ArtefactError
from instar.contracts.exam import QuestionSet
from instar.contracts.executor import Executor
from instar.contracts.gate import Gate
from instar.contracts.lab import Lab
from instar.contracts.ledger import Ledger
from instar.contracts.oversight import SlotTime
from instar.contracts.records import (
    Author,
    Design,
    Experience,
    Generation,
    Incident,
    Job,
    Limits,
    Outcome,
    OutcomeState,
    Proposal,
    Score,
    Trial,
    Usage,
)
from instar.contracts.units import seconds, size
from instar.exams.contamination import Search
from instar.exams.ladder import Ladder, QueryBudget
from instar.exams.seal import Seal
from instar.executors.scratch import bytes_below
from instar.ledger.statement import statement
from instar.run import rights
from instar.run.conduct.canaries import Canary
from instar.run.conduct.causes import BAD_ANSWERS, CANARY, PROTECTED_PATH, Circumstance
from instar.run.conduct.protected import Fingerprint, changed, fingerprints_of
from instar.run.conduct.watch import Watch
from instar.run.intake import answers, priced
from instar.run.novelty import Tried

if TYPE_CHECKING:
    from instar.contracts.settings import Settings  # 0.2 CPU s, which `instar status` does without

_MOST = 1024  # that wait on one rung
_SATURATED = 0.99  # lower end of the interval of the share solved
_DISK_EVERY_SECONDS = 10.0
_SLOTS_EVERY_SECONDS = 5.0
QUERIES = "queries.json"
LOOP, ENDING = "loop", "ending"  # what a free slot waits for where it is no builder and no person


@dataclass(frozen=True)
class Parts:
    """What a run is put together from; every part is behind its Protocol."""

    lab: Lab
    builder: Builder
    executor: Executor
    gate: Gate
    archive: Archive
    ledger: Ledger
    seal: Seal
    home: Path
    scratch: Path


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


@dataclass
class Staged:
    """What the next transaction will write."""

    facts: list[Fact] = field(default_factory=list)
    settle: dict[str, Usage] = field(default_factory=dict)
    reserve: list[Reservation] = field(default_factory=list)
    remove: list[Path] = field(default_factory=list)  # artefacts that nobody needs once it is written

    def __bool__(self) -> bool:
        return bool(self.facts or self.settle or self.reserve or self.remove)


def with_founding_settings(design: Design, builder: Builder) -> Design:
    """Return the design with the builder's own settings: the middle of each range, the first of each choice."""
    ranges = builder.space.ranges
    settings = {name: one.from_unit(0.0 if hasattr(one, "options") else 0.5) for name, one in ranges.items()}
    return replace(design, parameters=dict(design.parameters) | settings)


def _founding(lab: Lab, builder: Builder) -> Generation:
    """Return what is known of generation 0 before it is trained."""
    return Generation(
        number=0,
        parent=None,
        author=Author("lab"),
        design=with_founding_settings(lab.seed_design(), builder),
        artefact="",
        metrics={},
        estimates={},
        promoted_at=0.0,
        run_seconds=0.0,
        run_cpu_seconds=0.0,
        ledger_index=-1,
        why="the founder: the lab's seed design",
    )


class Run:
    """One run's mutable state; owned by the conductor's only thread."""

    def __init__(self, parts: Parts, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.parts, self.settings, self.clock = parts, settings, clock
        self.generations: list[Generation] = []
        self._founder = _founding(parts.lab, parts.builder)
        self.experience: list[Experience] = []
        self.candidates: dict[int, Candidate] = {}
        self.rungs = [Rung() for _ in range(settings.rungs)]
        self.screen: ScreenExam | None = None
        self.unseen: deque[tuple[Candidate, Trial]] = deque()  # to be examined, or told of, once there is a score
        self.tasks: dict[str, Task] = {}
        self.ready: deque[Step] = deque()
        self.staged = Staged()
        self.conduct = Watch()
        self.canary: Canary | None = None
        self.written: list[Fact] = []  # durable facts that nobody has been told of yet
        self.next_proposal = self.next_trial = self.next_verdict = 1
        self.collects = 0  # jobs begun in this generation, for keys and seeds
        self.failed_collects = 0  # in a row
        self.collect_retries = 0  # in this life: no two jobs share a key, or the second would never be charged
        self.failures = 0  # finalists since the last promotion that came to nothing
        self.judged = 0  # candidates since the last promotion that the gates have judged
        pool = parts.lab.profile.pool
        self.queries = None if pool is None else QueryBudget(parts.home / QUERIES, settings.queries, pool)
        self.search: Search | None = None  # for exams' questions where they must not be; see `examination.searching`
        self.judged_seeds: list[tuple[float, ...]] = []  # metrics of their training seeds at their exams
        self.tried = Tried(parts.lab)
        self.meter = parts.lab.meter()
        self._deliberating = parts.builder if isinstance(parts.builder, Deliberating) else None
        self.stopping: str | None = None
        self.approvals = rights.ApprovalQueue(rights.check(settings, rights.newest(parts.archive)))
        self.held = ""  # whose word a free slot waits for, by the last look
        self.idle: defaultdict[str, float] = defaultdict(float)  # slot-seconds of all lives by what they waited for
        self.earlier_slot_seconds = 0.0  # of former lives, busy or not
        self._slots_told: tuple[float, dict[str, float]] = (0.0, {})  # when, and what was written then
        self.began = clock()
        self.earlier_seconds = 0.0  # wall seconds of the run's former lives
        # The longest sitting so far (see closing_seconds).
        self.examine_seconds = min(5.0, 0.01 * seconds(settings.budget))
        self.usage = parts.archive.account().total  # settled and not yet settled, of all lives
        self.disk_bytes, self.disk_seen = 0, float("-inf")
        self.rung_costs: dict[int, tuple[float, int]] = {}  # rung -> CPU seconds and number of its trials

    # --- who and where ----------------------------------------------------------------------------------------------

    @property
    def founder(self) -> Generation:
        """Generation 0; while it is being made, what is known of it beforehand: its design."""
        return self.generations[0] if self.generations else self._founder

    @property
    def incumbent(self) -> Generation:
        """The newest generation."""
        return self.generations[-1] if self.generations else self._founder

    @property
    def maker(self) -> Generation:
        """The generation that builds: the incumbent, or in the baseline the one where the builder is frozen."""
        frozen = self.settings.builder_frozen_at
        return self.generations[-1] if frozen is None else self.generations[min(frozen, len(self.generations) - 1)]

    def artefact(self, generation: Generation) -> Path:
        """Directory of a generation's artefact."""
        return self.parts.home / "generations" / f"{generation.number:04d}"

    def trial_directory(self, trial: Trial) -> Path:
        """Directory of a trial's artefact, kept while its candidate is open."""
        return self.parts.scratch / "trials" / str(trial.number)

    @property
    def life(self) -> str:
        """What sets this life's reservations apart from former lives'; empty in the first."""
        return f"@{self.earlier_seconds:.3f}" if self.earlier_seconds else ""

    @property
    def learning(self) -> bool:
        """Whether builders still learn: not once the baseline has frozen them."""
        frozen = self.settings.builder_frozen_at
        return frozen is None or len(self.generations) <= frozen

    def experience_file(self, digest: str) -> Path:
        """Return where a data file lies."""
        return self.parts.home / "experience" / f"{digest}.safetensors"

    def trained_on(self, trial: Trial, most: int = 64) -> tuple[str, ...]:
        """Return the digests of the data files that a trial is given: the newest there were, oldest first."""
        return tuple(record.digest for record in self.experience[: trial.experience][-most:])

    def mark(self, question_set: QuestionSet, outcome: Outcome, artefact: Path) -> Score:
        """Read and mark what an exam sandbox left of the artefact, price included.

        Raises `ArtefactError` where it left nothing that can be marked.
        """
        exam = self.parts.lab.exam
        founder = self.artefact(self.founder) if self.generations else artefact
        try:
            return priced(exam, exam.mark(question_set, answers(outcome)), artefact, founder)
        except ArtefactError as error:
            if outcome.state is OutcomeState.DONE:
                self.note(outcome.key, BAD_ANSWERS, str(error))
            raise

    def scratch_file(self, name: str) -> Path:
        """Where the conductor writes questions or tasks for a room to read."""
        directory = self.parts.scratch / "questions"
        directory.mkdir(exist_ok=True)
        return directory / f"{name}.safetensors"

    def merged_directory(self, proposal: Proposal) -> Path:
        """Directory of the artefact that was made of a finalist's replicas."""
        return self.parts.scratch / "trials" / f"merged-{proposal.number}"

    def waiting_directory(self, proposal: int) -> Path:
        """Directory of what passed the gates and waits for a person."""
        return self.parts.home / "waiting" / f"{proposal:06d}"

    def seed(self, *purpose: object) -> int:
        """Return a 31-bit training or collecting seed that depends on the run's seed and the purpose alone."""
        text = "|".join(map(str, (self.settings.seed, *purpose)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

    @property
    def waits_for(self) -> str:
        """What a free slot waits for."""
        if self.stopping:
            return ENDING
        if self.held:
            return self.held
        return (self._deliberating.waits_for if self._deliberating is not None else None) or LOOP

    @property
    def saturated(self) -> bool:
        """Whether the exam has nothing left to separate: the incumbent solves it all, within its interval."""
        solved = self.incumbent.estimates.get("solved") if self.generations else None
        return solved is not None and solved["low"] >= _SATURATED

    # --- time and money ---------------------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Wall seconds of the run, over all its lives."""
        return self.earlier_seconds + self.clock() - self.began

    @property
    def disk_full(self) -> bool:
        """Whether the run directory has outgrown its budget, by a look every few seconds."""
        if self.clock() - self.disk_seen > _DISK_EVERY_SECONDS:
            self.disk_seen = self.clock()
            self.disk_bytes = bytes_below(self.parts.home, self.parts.scratch)
        return self.disk_bytes > size(self.settings.budget_disk)

    @property
    def time_left(self) -> float:
        """Wall seconds until the budget is used up."""
        return seconds(self.settings.budget) - self.elapsed

    @property
    def cpu_left(self) -> float:
        """CPU seconds until that budget is used up; infinite without one."""
        budget = self.settings.budget_cpu
        return seconds(budget) - self.usage.cpu_seconds if budget else math.inf

    @property
    def closing_seconds(self) -> float:
        """Wall seconds kept back for the last exam."""
        return min(0.2 * seconds(self.settings.budget), 1.0 + 3.0 * self.examine_seconds)

    def limits(self, *, whole: bool = False) -> Limits:
        """Return a job's limits: a quarter of the budget, at least 30 s, and never past the budget's end.

        `whole` is for the one job without which there is no run: nothing but the budget limits it.
        """
        limit = self.settings.trial_limit
        usual = seconds(limit) if limit else max(30.0, (1.0 if whole else 0.25) * seconds(self.settings.budget))
        wall = max(1.0, min(usual, self.time_left))
        return Limits(wall, max(1.0, min(wall + 1.0, self.cpu_left)), size(self.settings.trial_memory))

    def expected_seconds(self, rung: int) -> float:
        """Return what a trial at this rung has cost on average (CPU seconds), 1 before anything is known."""
        total, count = self.rung_costs.get(rung, (1.0, 1))
        return total / count

    def remember_seconds(self, trial: Trial) -> None:
        """Learn from a finished trial what one at its rung costs."""
        total, count = self.rung_costs.get(trial.rung, (0.0, 0))
        self.rung_costs[trial.rung] = (total + trial.usage.cpu_seconds, count + 1)

    # --- staging ----------------------------------------------------------------------------------------------------

    def remove_artefacts(self, candidate: Candidate) -> None:
        """Remove what a candidate's trials have left in scratch, once what ended it is durable."""
        directories = [self.trial_directory(trial) for trial in candidate.trials.values()]
        self.staged.remove += [*directories, self.merged_directory(candidate.proposal)]

    def drop_ready(self, why: str) -> None:
        """Let what was planned but not begun end as cancelled, so that nothing stays open for it."""
        unstarted, self.ready = self.ready, deque()
        for step in unstarted:
            step.finished(Outcome(step.key, OutcomeState.CANCELLED, Usage(), self.parts.home, why))

    def stage(self, *facts: Fact) -> None:
        """Put facts into the next transaction."""
        self.staged.facts += facts

    def note(self, job: str, kind: str, detail: str) -> None:
        """Put an incident that the conductor itself saw into the next transaction."""
        self.stage(*self.conduct.note(job, self._number, [Incident(kind, detail)]))

    def fingerprint_inputs(self, job: Job) -> Mapping[str, Fingerprint]:
        """Return the prints of what a job may read in the run directory and must not change, the sealed key among it.

        What lies in scratch is left out: the conductor itself replaces it while cancelled jobs come to their end.
        """
        lasting = tuple(f"{self.parts.home / name}{os.sep}" for name in ("generations", "experience"))
        inputs = [path for path in job.inputs.values() if f"{path}{os.sep}".startswith(lasting)]
        return fingerprints_of([*inputs, self.parts.home / "seal.key"], self.parts.home)

    def note_end(self, outcome: Outcome, fingerprints: Mapping[str, Fingerprint]) -> None:
        """Count a job that ended, and put the incidents that came with its outcome into the next transaction."""
        for path in changed(fingerprints):
            self.note(outcome.key, PROTECTED_PATH, os.path.relpath(path, self.parts.home))
        for name in self.canary.found_in(outcome.output.parent) if self.canary else ():
            self.note(outcome.key, CANARY, f"a decoy's token in {name}")
        used_up = self.time_left <= 0 or self.cpu_left <= 0
        self.stage(*self.conduct.ended(outcome, self._number, Circumstance(budget_used=used_up)))

    @property
    def _number(self) -> int:
        return self.incumbent.number if self.generations else 0

    def commit(self, last: bool = False) -> None:
        """Write all that is staged in one transaction, then let the ledger follow.

        What slots waited for goes with it every few seconds, and at the `last`; then also where nothing else is staged.
        """
        staged, self.staged = self.staged, Staged()
        times = self._slot_times(bool(staged), last)
        if staged or times:
            self.parts.archive.record(
                [*staged.facts, *self.conduct.counts(), *times],
                settle=staged.settle,
                reserve=staged.reserve,
                wall_seconds=self.elapsed,
            )
            for fact in staged.facts:
                self.declare(fact)
            self.written += staged.facts
            for directory in staged.remove:
                shutil.rmtree(directory, ignore_errors=True)

    def _slot_times(self, staged: bool, last: bool) -> list[SlotTime]:
        """Return what has changed of the slots' time since it was last written, where that is due."""
        now, (then, told) = self.elapsed, self._slots_told
        if not last and now - then < _SLOTS_EVERY_SECONDS:
            return []
        changed = [SlotTime(cause, time) for cause, time in self.idle.items() if told.get(cause) != time]
        if not changed and not staged and not last:
            return []
        self._slots_told = (now, dict(self.idle))
        total = self.earlier_slot_seconds + self.parts.executor.slots * (self.clock() - self.began)
        return [SlotTime("", total), *changed]

    def declare(self, fact: Fact) -> None:
        """Append what the ledger says of a durable fact, unless it stands there already."""
        said = statement(fact)
        if said is not None:
            self.parts.ledger.append(*said, sync=False)
