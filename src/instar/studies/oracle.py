"""The real oracle: every proposal of a round is trained again, with several seeds, and evaluated on one set.

A round is all proposals that were made against one incumbent. Nothing in the archive changes. What is measured is
written to the run directory after every job, so that a run of this that is cut short goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instar.archive import read_archive
from instar.contracts.errors import ArtefactError, BadInput
from instar.contracts.exam import QuestionSet, Stage
from instar.contracts.executor import Executor
from instar.contracts.lab import Lab, TrainRequest
from instar.contracts.records import Experience, Generation, Job, Limits, Outcome, OutcomeState, Proposal, Trial
from instar.executors.artefacts import read_arrays, take, write_arrays, write_json
from instar.run import intake
from instar.run.parts import lab_of, make_executor, sealed

KEPT = Path("report") / "judgement.json"
FAILED = 0.0
"""What a design is worth that fails to train or to answer: the lowest score there is."""

_MOST_DATA = 64  # files, as in the run
_MEMORY_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Past:
    """A run as its archive tells it."""

    home: Path
    lab: Lab
    identity: Mapping[str, Any]
    proposals: Sequence[Proposal]
    trials: Sequence[Trial]
    generations: Sequence[Generation]
    experience: Sequence[Experience]

    @property
    def rounds(self) -> dict[int, list[Proposal]]:
        """All proposals by the incumbent that they were made against, where there are two at least to choose from."""
        found: dict[int, list[Proposal]] = {}
        for proposal in self.proposals:
            found.setdefault(proposal.parent, []).append(proposal)
        return {parent: made for parent, made in sorted(found.items()) if len(made) > 1}


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        rounds: numbers of the incumbents whose rounds are run; None for all, the newest first.
        share: of the rounds, in (0, 1]; which ones are in it follows from the run's seed and the round's number alone,
            so that a later command, and a run that went on, sample the same ones.
        seeds: training seeds of every proposal.
        budget_seconds: wall time; no job begins after it, and none outlasts it.
    """

    rounds: tuple[int, ...] | None = None
    seeds: int = 2
    budget_seconds: float = 300.0
    workers: int = 2
    executor: str = "local"
    share: float = 1.0

    def sampled(self, past_: Past) -> list[int]:
        """Return the rounds to run, the newest first. Raises `BadInput` where one is unknown or the share is none."""
        if not 0.0 < self.share <= 1.0:
            raise BadInput(f"a share of {self.share:g} of the rounds", "Give --share above 0, 1 at the most.")
        if self.rounds is None:
            drawn = [number for number in past_.rounds if _draw(past_, "round", number) < self.share * 2**31]
            return list(reversed(drawn))
        if unknown := [number for number in self.rounds if number not in past_.rounds]:
            raise BadInput(f"no round {unknown[0]} in {past_.home}", f"Rounds: {', '.join(map(str, past_.rounds))}.")
        return list(self.rounds)


def _draw(past_: Past, *purpose: object) -> int:
    """Return a 31-bit number that depends on the run's seed and the purpose alone, and is no trial's seed."""
    text = "|".join(map(str, ("judge", past_.identity.get("seed"), *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def past(home: Path) -> Past:
    """Read a run. Raises `ArchiveError` where there is none, `BadInput` where it has no round to judge."""
    with read_archive(home / "archive.db") as archive:
        found = Past(
            home, lab_of(archive.identity), archive.identity, list(archive.history(Proposal)),
            list(archive.history(Trial)), list(archive.history(Generation)), list(archive.history(Experience)),
        )  # fmt: skip
    if not found.rounds or not found.generations:
        raise BadInput(f"{home}: no round with two proposals to choose from", "Let the run go on for longer.")
    return found


def kept(home: Path) -> dict[str, Any]:
    """Return what was measured so far. Raises `BadInput` where the file is damaged."""
    place = home / KEPT
    try:
        found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        rounds = found["rounds"]
        for measured in rounds.values():
            float(measured["baseline"])
            assert all(isinstance(metric, float) for row in measured["outcomes"].values() for metric in row.values())
    except FileNotFoundError:
        return {"rounds": {}, "cpu_seconds": 0.0}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise BadInput(f"{place} cannot be read ({error!r})", "Remove it: it is measured anew.") from None
    return found


def run_rounds(past_: Past, plan: Plan, say: Callable[[str], object] = str) -> dict[str, Any]:
    """Run what is missing of the rounds while the budget lasts; return all that was ever measured.

    Raises:
        BadInput: no such round, or too few seeds.
    """
    rounds = past_.rounds
    wanted = plan.sampled(past_)
    if plan.seeds < 2:
        raise BadInput("one seed tells no two designs apart", "Give --seeds 2 or more.")
    measured = kept(past_.home)
    with tempfile.TemporaryDirectory(prefix="instar-judge-") as place:
        unsafe = bool(past_.identity.get("unsafe_no_sandbox", False))
        executor = make_executor(
            plan.executor, plan.workers, Path(place) / "jobs", list(past_.lab.preload),
            hidden=[past_.home, *sealed(past_.lab)], unsafe_no_sandbox=unsafe,
        )  # fmt: skip
        with closing(executor):
            work = _Work(past_, plan, executor, Path(place), measured)
            for number in wanted:
                if not work.round(number):
                    say(f"round {number}: the budget is used up; the same command goes on")
                    break
                say(f"round {number}: {len(rounds[number])} proposals, {plan.seeds} seeds each")
    return measured


class _Work:
    """The jobs of one command."""

    def __init__(self, past_: Past, plan: Plan, executor: Executor, place: Path, measured: dict[str, Any]) -> None:
        self._past, self._plan, self._executor, self._place, self._measured = past_, plan, executor, place, measured
        self._ends = time.monotonic() + plan.budget_seconds

    def round(self, number: int) -> bool:
        """Run what is missing of a round; whether it is complete."""
        question_set = self._past.lab.exam.set(self._seed("paper", number), Stage.SCREEN)
        questions = self._place / f"questions-{number}.safetensors"
        write_arrays(questions, question_set.questions, sync=False)
        found = self._measured["rounds"].get(str(number))
        if found is None:
            metric = self._incumbent(number, question_set, questions)
            if metric is None:
                return False
            found = self._measured["rounds"].setdefault(str(number), {"baseline": metric, "outcomes": {}})
            self._save()
        missing = deque(
            (proposal, seed)
            for seed in range(self._plan.seeds)
            for proposal in self._past.rounds[number]
            if str(seed) not in found["outcomes"].get(str(proposal.number), {})
        )
        self._side_by_side(missing, found["outcomes"], question_set, questions)
        return not missing

    def _incumbent(self, number: int, question_set: QuestionSet, questions: Path) -> float | None:
        if self._over:
            return None
        job = self._past.lab.exam.evaluate(f"incumbent-{number}", self._parent(number), questions, self._limits())
        self._executor.submit(job)
        (outcome,) = self._executor.wait(None)
        if outcome.state is not OutcomeState.DONE:
            if time.monotonic() >= self._ends:
                return None
            raise ArtefactError(
                f"generation {number} did not sit the question set: {outcome.reason}", "See `instar doctor`."
            )
        return self._marked(question_set, outcome, self._parent(number))

    def _side_by_side(
        self, missing: deque[tuple[Proposal, int]], outcomes: dict[str, Any], question_set: QuestionSet, questions: Path
    ) -> None:
        """Keep every slot busy until nothing is missing, or the budget is used up; what was cut off stays missing."""
        under_way: dict[str, tuple[Proposal, int]] = {}
        while under_way or (missing and not self._over):
            while missing and len(under_way) < self._executor.slots and not self._over:
                proposal, seed = missing.popleft()
                job = self._training(proposal, seed)
                under_way[job.key] = (proposal, seed)
                self._executor.submit(job)
            for outcome in self._executor.wait(0.5):
                name, _, rest = outcome.key.partition("-")
                proposal, seed = under_way.pop(outcome.key)
                self._measured["cpu_seconds"] += outcome.usage.cpu_seconds
                if self._over and outcome.state is not OutcomeState.DONE:
                    missing.append((proposal, seed))
                    continue
                following = self._follow(name, rest, outcome, questions)
                if following is not None:
                    under_way[following.key] = (proposal, seed)
                    self._executor.submit(following)
                    continue
                metric = self._marked(question_set, outcome, self._artefact(rest)) if name == "evaluate" else FAILED
                outcomes.setdefault(str(proposal.number), {})[str(seed)] = metric
                self._save()

    def _training(self, proposal: Proposal, seed: int) -> Job:
        data = [fact.digest for fact in self._past.experience if fact.maker <= proposal.parent][-_MOST_DATA:]
        files = [self._past.home / "experience" / f"{digest}.safetensors" for digest in data]
        request = TrainRequest(
            f"train-{proposal.number}.{seed}", proposal.design, self._seed("train", proposal.number, seed), 1.0,
            self._parent(proposal.parent), self._limits(), files,
            parent_cpu_seconds=intake.spent(self._past.lab, self._parent(proposal.parent)),
        )  # fmt: skip
        return self._past.lab.train(request)

    def _follow(self, name: str, rest: str, outcome: Outcome, questions: Path) -> Job | None:
        """Return the exam that follows a training that left a good artefact; clear the room of one that did not."""
        if name != "train" or outcome.state is not OutcomeState.DONE:
            return None
        target = self._artefact(rest)
        target.parent.mkdir(exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        try:
            take(outcome.output, target, self._past.lab.artefact_files)
            intake.seal(self._past.lab, target, outcome.usage)
            self._past.lab.check(target)
        except ArtefactError:
            return None
        finally:
            shutil.rmtree(outcome.output.parent, ignore_errors=True)
        return self._past.lab.exam.evaluate(f"sit-{rest}", target, questions, self._limits())

    def _marked(self, question_set: QuestionSet, outcome: Outcome, artefact: Path) -> float:
        exam = self._past.lab.exam
        try:
            if outcome.state is not OutcomeState.DONE:
                return FAILED
            score = exam.mark(question_set, read_arrays(outcome.output / "answers.safetensors"))
            return intake.priced(exam, score, artefact, self._parent(0)).metric
        except ArtefactError:
            return FAILED
        finally:
            shutil.rmtree(outcome.output.parent, ignore_errors=True)

    def _artefact(self, rest: str) -> Path:
        return self._place / "artefacts" / rest

    def _parent(self, number: int) -> Path:
        return self._past.home / "generations" / f"{number:04d}"

    @property
    def _over(self) -> bool:
        return time.monotonic() >= self._ends

    def _limits(self) -> Limits:
        wall = max(1.0, self._ends - time.monotonic())
        return Limits(wall, wall + 1.0, _MEMORY_BYTES)

    def _seed(self, *purpose: object) -> int:
        """Return a seed that no trial of the run had."""
        return _draw(self._past, *purpose)

    def _save(self) -> None:
        place = self._past.home / KEPT
        place.parent.mkdir(exist_ok=True)
        write_json(place, self._measured, sync=False)
