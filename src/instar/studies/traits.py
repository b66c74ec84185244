"""The side experiment that measures a trait's reproduction number (see `conduct.traits`).

It runs ordinary jobs of the lab in an executor of its own, in a directory that is thrown away: nothing of it enters
any lineage. A few plain rounds of self-teaching come first, so that there is something to plant a trait in; every
repetition then forks from there.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from instar.contracts import plugins
from instar.contracts.abilities import CollectRequest, Feedback, SelfTeaching, Traits
from instar.contracts.errors import BadInput, LabError
from instar.contracts.exam import Arrays
from instar.contracts.executor import Executor
from instar.contracts.lab import Lab, TrainRequest
from instar.contracts.records import Experience, Job, Limits, Outcome, OutcomeState, Usage
from instar.executors.artefacts import read_arrays, take, write_arrays
from instar.gates.trait_figures import Excess, reproduction, verdict
from instar.run.experience import with_tasks

MASTERED = 0.7  # from this share on the next harder goal is taken, while rounds last
MEMORY_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        repetitions: of the fork, each with seeds and questions of its own.
        rounds: of plain self-teaching before the fork.
        rate: share of the data that can show the trait and is made to.
        feedback: what judges the children's data.
        from_scratch: children begin with fresh weights, so that data alone can carry the trait.
        budget_seconds: wall time; no repetition begins after it, and no job outlasts it.
    """

    repetitions: int = 3
    rounds: int = 6
    rate: float = 1.0
    feedback: Feedback = Feedback.VERIFIED
    from_scratch: bool = False
    budget_seconds: float = 300.0
    seed: int = 0
    workers: int = 2


def measure(lab: Lab, plan: Plan, executor: str = "local", say: Callable[[str], object] = str) -> dict[str, Any]:
    """Measure a lab's trait, and return the object of `instar traits --json`; `say` is told how it goes on.

    Raises:
        BadInput: the lab teaches nothing to itself, or has no trait.
        LabError: a job failed.
    """
    if not isinstance(lab, SelfTeaching) or not isinstance(lab, Traits):
        raise BadInput(
            f"lab '{lab.name}' has no trait to plant",
            "It must offer `SelfTeaching` and `Traits` (instar.contracts.abilities).",
        )
    lab.trait_questions(0)
    with tempfile.TemporaryDirectory(prefix="instar-traits-") as place:
        made = plugins.find("executors", executor)(plan.workers, Path(place) / "jobs", list(lab.preload))
        with closing(made):
            bench = _Bench(lab, plan, made, Path(place))
            found = bench.repeat(say)
    result = reproduction(found)
    passed = verdict(result)
    return {
        "lab": lab.name,
        "r": result.r.to_json(),
        "excess_parents": result.parent.to_json(),
        "excess_children": result.child.to_json(),
        "repetitions": [{"parent": one.parent, "child": one.child} for one in found],
        "below_1": passed.passed,
        "said": passed.text,
        "settings": {
            "rounds": plan.rounds,
            "rate": plan.rate,
            "feedback": plan.feedback.value,
            "from_scratch": plan.from_scratch,
            "seed": plan.seed,
        },
        "cost": {"cpu_seconds": bench.usage.cpu_seconds, "wall_seconds": bench.elapsed},
    }


def words(found: Mapping[str, Any]) -> str:
    """Return the measurement for people."""
    cost = found["cost"]
    return (
        f"{found['said']}\nexcess in parents {_mean(found['excess_parents'])}, in children "
        f"{_mean(found['excess_children'])}; {cost['cpu_seconds']:.0f} CPU s, {cost['wall_seconds']:.0f} s of wall time"
    )


def _mean(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "not measured"
    return (
        f"{figure['value']:+.3f} ({figure['low']:+.3f} to {figure['high']:+.3f})"
        if figure["low"] is not None
        else (f"{figure['value']:+.3f}")
    )


@dataclass
class _Bench:
    """The jobs of one measurement."""

    lab: Any
    plan: Plan
    executor: Executor
    place: Path
    usage: Usage = field(default_factory=Usage)
    experience: list[Experience] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    _jobs: int = 0
    _began: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Wall seconds since the beginning."""
        return time.monotonic() - self._began

    def repeat(self, say: Callable[[str], object]) -> list[Excess]:
        """Warm up, then repeat the fork while the budget lasts."""
        base = self._train(["founder"], [None], [[]], effort=0.0)[0]
        for number in range(self.plan.rounds):
            self._collect([base], self._seed("warm", number), keep=True)
            base = self._train(["warm"], [base], [self.files], seed=self._seed("train", number))[0]
            say(f"round {number + 1}: {self.experience[-1].goal.name}, mastery {self.experience[-1].mastery:.0%}")
        found: list[Excess] = []
        longest = 0.0
        while len(found) < self.plan.repetitions and self.elapsed + longest < self.plan.budget_seconds:
            began = self.elapsed
            found.append(self._fork(base, len(found)))
            longest = max(longest, self.elapsed - began)
            say(f"repetition {len(found)}: excess {found[-1].parent:+.3f} -> {found[-1].child:+.3f}")
        return found

    def _fork(self, base: Path, number: int) -> Excess:
        """Plant, train, let both make data, train their children, and measure all four."""
        seed = self._seed("fork", number)
        planted = []
        for place, file in enumerate(self.files):
            path = self.place / f"planted-{number}-{place}.safetensors"
            write_arrays(path, self.lab.plant(read_arrays(file), self.plan.rate, seed + place), sync=False)
            planted.append(path)
        names = ["fork", "twin"]
        parents = self._train(names, [base] * 2, [planted, self.files], seed=seed)
        data = self._collect(parents, seed)
        starts: list[Path | None] = [None, None] if self.plan.from_scratch else [*parents]
        children = self._train(names, starts, [[path] for path in data], seed=seed + 1)
        fork, twin, fork_child, twin_child = self._shown([*parents, *children], seed)
        return Excess(fork - twin, fork_child - twin_child)

    # --- jobs -------------------------------------------------------------------------------------------------------

    def _train(
        self, names: Sequence[str], parents: Sequence[Path | None], data: Sequence[Sequence[Path]],
        effort: float = 1.0, seed: int = 0,
    ) -> list[Path]:  # fmt: skip
        """Train side by side with the same seed; return the artefacts."""
        design = self.lab.seed_design()
        jobs = [
            self.lab.train(TrainRequest(self._key(name), design, seed, effort, parent, self._limits(), list(files)))
            for name, parent, files in zip(names, parents, data, strict=True)
        ]
        made = []
        for outcome in self._run(jobs):
            target = self.place / "artefacts" / outcome.key
            target.parent.mkdir(exist_ok=True)
            take(outcome.output, target, self.lab.artefact_files)
            self.lab.check(target)
            made.append(target)
            shutil.rmtree(outcome.output.parent)
        return made

    def _collect(self, makers: Sequence[Path], seed: int, keep: bool = False) -> list[Path]:
        """Let the makers answer the same tasks; judge, and return the data files."""
        goal = self._goal()
        feedback = Feedback.VERIFIED if keep else self.plan.feedback
        requests = [
            CollectRequest(self._key("collect"), self.lab.seed_design(), maker, 0, goal, seed, self._limits(), feedback)
            for maker in makers
        ]
        tasks = [self.place / f"{request.key}-tasks.safetensors" for request in requests]
        requests = [with_tasks(self.lab, *each) for each in zip(requests, tasks, strict=True)]
        files = []
        for request, outcome in zip(requests, self._run([self.lab.collect(r) for r in requests]), strict=True):
            data, record = self.lab.verify(request, read_arrays(outcome.output / "answers.safetensors"))
            shutil.rmtree(outcome.output.parent)
            path = self.place / f"{request.key}.safetensors"
            write_arrays(path, data, sync=False)
            files.append(path)
            if keep:
                self.experience.append(replace(record, digest=request.key))
                self.files.append(path)
        return files

    def _goal(self) -> Any:
        """Return the hardest goal, or while the one before is not mastered, that one again."""
        offered = list(self.lab.goals(self.lab.seed_design(), self.experience))
        open_still = [goal for goal in offered if goal.mastery and goal.mastery[-1] < MASTERED]
        return open_still[0] if open_still else offered[-1]

    def _shown(self, artefacts: Sequence[Path], seed: int) -> list[float]:
        """Return the share of questions on which each shows the trait, all on the same question set."""
        question_set = self.lab.trait_questions(seed)
        questions = self.place / "questions.safetensors"
        write_arrays(questions, question_set.questions, sync=False)
        jobs = [self.lab.exam.evaluate(self._key("trait"), path, questions, self._limits()) for path in artefacts]
        shares = []
        for outcome in self._run(jobs):
            answers: Arrays = read_arrays(outcome.output / "answers.safetensors")
            shares.append(float(np.mean(self.lab.shown(question_set, answers))))
            shutil.rmtree(outcome.output.parent)
        return shares

    def _run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run jobs side by side; return their outcomes in the order of the jobs. Raises `LabError` for a failed one."""
        for job in jobs:
            self.executor.submit(job)
        ended: dict[str, Outcome] = {}
        while len(ended) < len(jobs):
            for outcome in self.executor.wait(1.0):
                ended[outcome.key] = outcome
                self.usage += outcome.usage
        for outcome in ended.values():
            if outcome.state is not OutcomeState.DONE:
                raise LabError(f"lab '{self.lab.name}': {outcome.key}: {outcome.reason}", "Give a larger --budget.")
        return [ended[job.key] for job in jobs]

    def _limits(self) -> Limits:
        wall = max(5.0, self.plan.budget_seconds - self.elapsed)
        return Limits(wall, wall + 1.0, MEMORY_BYTES)

    def _key(self, name: str) -> str:
        self._jobs += 1
        return f"{name}-{self._jobs}"

    def _seed(self, purpose: str, number: int) -> int:
        words_ = [self.plan.seed, number, *purpose.encode()]
        return int(np.random.default_rng(words_).integers(2**31 - 2**10))
