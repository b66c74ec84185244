"""The state of a run between two turns of the loop: what is open, what is staged, what was spent.

Nothing here is precious: all of it is rebuilt from the archive (see `resume`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from instar.contracts.archive import Archive, Fact, Reservation
from instar.contracts.builder import Builder, Deliberating
from instar.contracts.errors import ArtefactError
from instar.contracts.evidence import Score
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
    Outcome,
    OutcomeState,
    Proposal,
    Trial,
    Usage,
)
from instar.exams.contamination import Search
from instar.exams.ladder import QueryBudget
from instar.exams.seal import Seal
from instar.ledger.statement import statement
from instar.run import rights
from instar.run.budget import Budget
from instar.run.candidates import Candidate, Rung, ScreenExam
from instar.run.conduct.canaries import Canary
from instar.run.conduct.causes import BAD_ANSWERS, CANARY, PROTECTED_PATH, Circumstance
from instar.run.conduct.protected import Fingerprint, changed, fingerprints_of
from instar.run.conduct.watch import Watch
from instar.run.door import Door
from instar.run.intake import answers, priced
from instar.run.novelty import Tried
from instar.run.steps import Step, Task

if TYPE_CHECKING:
    from instar.contracts.settings import Settings  # 0.2 CPU s, which `instar status` does without

_SATURATED = 0.99  # lower end of the interval of the share solved
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
        self.door = Door()
        self.meter = parts.lab.meter()
        self._deliberating = parts.builder if isinstance(parts.builder, Deliberating) else None
        self.stopping: str | None = None
        self.approvals = rights.ApprovalQueue(rights.check(settings, rights.newest(parts.archive)))
        self.held = ""  # whose word a free slot waits for, by the last look
        self.idle: defaultdict[str, float] = defaultdict(float)  # slot-seconds of all lives by what they waited for
        self.earlier_slot_seconds = 0.0  # of former lives, busy or not
        self._slots_told: tuple[float, dict[str, float]] = (0.0, {})  # when, and what was written then
        self.budget = Budget(settings, clock, parts.archive.account().total, parts.home, parts.scratch)

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
        return f"@{self.budget.earlier_seconds:.3f}" if self.budget.earlier_seconds else ""

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
        used_up = self.budget.time_left <= 0 or self.budget.cpu_left <= 0
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
                wall_seconds=self.budget.elapsed,
            )
            for fact in staged.facts:
                self.declare(fact)
            self.written += staged.facts
            for directory in staged.remove:
                shutil.rmtree(directory, ignore_errors=True)

    def _slot_times(self, staged: bool, last: bool) -> list[SlotTime]:
        """Return what has changed of the slots' time since it was last written, where that is due."""
        now, (then, told) = self.budget.elapsed, self._slots_told
        if not last and now - then < _SLOTS_EVERY_SECONDS:
            return []
        changed = [SlotTime(cause, time) for cause, time in self.idle.items() if told.get(cause) != time]
        if not changed and not staged and not last:
            return []
        self._slots_told = (now, dict(self.idle))
        total = self.earlier_slot_seconds + self.parts.executor.slots * (self.clock() - self.budget.began)
        return [SlotTime("", total), *changed]

    def declare(self, fact: Fact) -> None:
        """Append what the ledger says of a durable fact, unless it stands there already."""
        said = statement(fact)
        if said is not None:
            self.parts.ledger.append(*said, sync=False)
