"""`instar verify-claim`: the reference and a run's winner once more, in turn, with training seeds that no one has seen.

Only for labs whose exam has a price (`interfaces.Priced`): their score says how much cheaper than generation 0 an
artefact is. Here both are trained anew on an otherwise idle executor of one slot, one after the other, seed by seed,
and sit a question set that is drawn afterwards. A seed's figure is the ratio of both headline figures, each priced
against that seed's reference: the ratio of CPU seconds, corrected for what the two losses differ. What counts in the
end is its geometric mean over the seeds, with Student's t interval of the logarithms.

A claim verifies if every training ended by itself, every safeguard is held by its margin for every seed, and the
lower end of the interval is above what was claimed (1 unless it is given).
"""

from __future__ import annotations

import math
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from instar.archive import read_archive
from instar.contracts.errors import ArtefactError, BadInput
from instar.contracts.exam import Priced, QuestionSet, Stage
from instar.contracts.executor import Executor
from instar.contracts.lab import Lab, Safeguarded, TrainRequest
from instar.contracts.records import Design, Estimate, Generation, Job, Limits, Outcome, OutcomeState, Score
from instar.executors.artefacts import read_arrays, read_json, take, write_arrays
from instar.run import intake
from instar.run.parts import make_executor, make_lab, sealed

_WINNER = "winner"
_LIMITS = Limits(wall_seconds=7200.0, cpu_seconds=3600.0, memory_bytes=2**31)


@dataclass(frozen=True)
class Plan:
    """What is run again.

    Attributes:
        seeds: training seeds, the same for both.
        generation: whose design is held against generation 0's; None for the newest.
        options: of the lab, in place of the run's, such as another corpus.
        at_least: what the lower end of the interval must be above.
    """

    seeds: Sequence[int]
    generation: int | None = None
    options: Mapping[str, str] | None = None
    at_least: float = 1.0
    executor: str = "local"

    def __post_init__(self) -> None:
        if len(self.seeds) < 2 or len(set(self.seeds)) != len(self.seeds):
            raise BadInput("a claim needs two different training seeds or more", "Give --seeds 11,12,13.")
        if not 0.0 < self.at_least < math.inf:
            raise BadInput(f"no claim of {self.at_least:g}", "Give a number above 0.")


@dataclass(frozen=True)
class Trained:
    """One training, metered, and its marked and priced exam; `problem` where it came to neither."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    score: Score | None = None
    said: Mapping[str, Any] | None = None
    problem: str = ""


def verified(home: Path, plan: Plan, say: Callable[[str], object] = str) -> dict[str, Any]:
    """Run both again and return the object of `instar verify-claim --json`.

    Raises:
        ArchiveError: there is no run in `home`.
        BadInput: the run has no winner, or its lab's exam has no price.
    """
    with closing(read_archive(home / "archive.db")) as archive:
        identity, generations = dict(archive.identity), list(archive.history(Generation))
    winner = _winner(home, generations, plan.generation)
    lab = make_lab(identity["lab"], {**identity["options"], **(plan.options or {})})
    if not isinstance(lab.exam, Priced):
        raise BadInput(f"lab '{lab.name}': its exam has no price", "Its promotions stand by their sealed exams.")
    unsafe = bool(identity.get("unsafe_no_sandbox", False))
    rows = []
    with tempfile.TemporaryDirectory(prefix="instar-claim-") as place:
        executor = make_executor(
            plan.executor, 1, Path(place) / "jobs", list(lab.preload),
            hidden=[home, *sealed(lab)], unsafe_no_sandbox=unsafe,
        )  # fmt: skip
        with closing(executor):
            bench = Bench(lab, executor, Path(place))
            for seed in plan.seeds:
                reference, evaluated = bench.beside_reference({_WINNER: winner.design}, seed)
                rows.append((reference, evaluated[_WINNER]))
                say(_line(lab, seed, *rows[-1]))
    return _result(home, lab, winner, plan, rows)


def words(found: Mapping[str, Any]) -> str:
    """Return the verdict for people."""
    speedup, problems = found["speedup"], found["problems"]
    if speedup["value"] is None:
        return f"The claim does not verify: {'; '.join(problems)}."
    figure = f"{speedup['value']:.2f} times ({speedup['low']:.2f} to {speedup['high']:.2f}, {speedup['n']} seeds)"
    verdict = "verifies" if found["verifies"] else f"does not verify: {'; '.join(problems)}"
    return f"Generation {found['generation']} of {found['lab']}: {figure} cheaper than the reference. It {verdict}."


def _winner(home: Path, generations: Sequence[Generation], number: int | None) -> Generation:
    known = {generation.number: generation for generation in generations}
    chosen = max(known, default=0) if number is None else number
    if chosen not in known or chosen == 0:
        what = "nothing was promoted yet" if number is None else f"no generation {number} that was promoted"
        raise BadInput(f"{home}: {what}", "There is nothing to hold against the reference.")
    return known[chosen]


class Bench:
    """Trains, and lets sit, one job after the other."""

    def __init__(self, lab: Lab, executor: Executor, place: Path) -> None:
        self.lab, self.executor, self.place = lab, executor, place

    def beside_reference(
        self, designs: Mapping[str, Design], seed: int, effort: float = 1.0
    ) -> tuple[Trained, dict[str, Trained]]:
        """Train the reference and then each design with one seed; all sit a question set that is drawn after that.

        Args:
            designs: by a name of letters, digits and dashes.
            seed: of every training.
            effort: of the designs' trainings; with 0 they may take as long as the reference.

        Returns:
            What the reference came to, and each design by its name.
        """
        reference = f"reference-{seed}"
        requests = {"": TrainRequest(reference, self.lab.seed_design(), seed, 0.0, None, _LIMITS)}
        for name, design in designs.items():
            requests[name] = TrainRequest(f"{name}-{seed}", design, seed, effort, None, _LIMITS)
        made = {name: self._trained(request) for name, request in requests.items()}
        question_set = self.lab.exam.set(secrets.randbits(62), Stage.PROMOTION)
        questions = self.place / f"questions-{seed}.safetensors"
        write_arrays(questions, question_set.questions, sync=False)
        evaluated = {
            name: one if one.problem else self._evaluated(one, requests[name].key, reference, question_set, questions)
            for name, one in made.items()
        }
        return evaluated.pop(""), evaluated

    def _trained(self, request: TrainRequest) -> Trained:
        outcome = self._run(self.lab.train(request))
        used = outcome.usage.cpu_seconds, outcome.usage.wall_seconds
        if outcome.state is not OutcomeState.DONE:
            return Trained(*used, problem=f"{request.key}: {outcome.reason or outcome.state.value}")
        try:
            take(outcome.output, self.place / request.key, self.lab.artefact_files)
            intake.seal(self.lab, self.place / request.key, outcome.usage)
            self.lab.check(self.place / request.key)
            config = read_json(self.place / request.key / "config.json")
        except ArtefactError as error:
            return Trained(*used, problem=f"{request.key}: {error}")
        return Trained(*used, said=config.get("said") if isinstance(config, dict) else None)

    def _evaluated(
        self, made: Trained, name: str, reference: str, question_set: QuestionSet, questions: Path
    ) -> Trained:
        exam = self.lab.exam
        outcome = self._run(exam.evaluate(f"sit-{name}", self.place / name, questions, _LIMITS))
        try:
            if outcome.state is not OutcomeState.DONE:
                raise ArtefactError(outcome.reason or outcome.state.value)
            marked = exam.mark(question_set, read_arrays(outcome.output / "answers.safetensors"))
            score = intake.priced(exam, marked, self.place / name, self.place / reference)
        except ArtefactError as error:
            return Trained(made.cpu_seconds, made.wall_seconds, problem=f"{name} did not sit the exam: {error}")
        return Trained(made.cpu_seconds, made.wall_seconds, score, made.said)

    def _run(self, job: Job) -> Outcome:
        self.executor.submit(job)
        while not (outcomes := self.executor.wait(None)):
            pass
        return outcomes[0]


def ratio_of(lab: Lab, reference: Trained, winner: Trained) -> float | None:
    """Return how many times cheaper the winner is at equal loss; None where that was not measured."""
    if reference.score is None or winner.score is None:
        return None
    name = lab.metric.headline
    return winner.score.metrics[name] / reference.score.metrics[name]


def geometric(ratios: Sequence[float]) -> Estimate:
    """Return the geometric mean with Student's t interval of the logarithms; no interval for fewer than two."""
    if len(ratios) < 2:
        return Estimate(ratios[0] if ratios else None, None, None, len(ratios))
    logs = np.log(np.asarray(ratios, dtype=np.float64))
    half = float(special.stdtrit(logs.size - 1, 0.975)) * float(logs.std(ddof=1)) / math.sqrt(logs.size)
    mean = float(logs.mean())
    return Estimate(math.exp(mean), math.exp(mean - half), math.exp(mean + half), logs.size)


def _lost(lab: Lab, reference: Trained, winner: Trained) -> list[str]:
    """Return which safeguards the winner does not hold, by their means."""
    lost = []
    for safeguard in lab.safeguards if isinstance(lab, Safeguarded) else ():
        if reference.score is None or winner.score is None:
            continue
        had, has = (float(np.mean(one.score.safeguards[safeguard.name])) for one in (reference, winner) if one.score)
        change = has - had if safeguard.higher_is_better else had - has
        if change < -safeguard.margin:
            lost.append(f"{safeguard.name}: {has:.3f} against {had:.3f}, a loss of {safeguard.margin:.3f} is allowed")
    return lost


def _result(
    home: Path, lab: Lab, winner: Generation, plan: Plan, rows: Sequence[tuple[Trained, Trained]]
) -> dict[str, Any]:
    problems = [one.problem for pair in rows for one in pair if one.problem]
    for seed, pair in zip(plan.seeds, rows, strict=True):
        problems += [f"seed {seed}: {lost}" for lost in _lost(lab, *pair)]
    ratios = [ratio for pair in rows if (ratio := ratio_of(lab, *pair)) is not None]
    speedup = geometric(ratios)
    if len(ratios) == len(rows) and (speedup.low is None or speedup.low <= plan.at_least):
        problems.append(f"the interval is not above {plan.at_least:g}")
    costs = [reference.cpu_seconds / one.cpu_seconds for reference, one in rows if one.cpu_seconds]
    return {
        "lab": lab.name,
        "run_directory": str(home.absolute()),
        "generation": winner.number,
        "options": dict(plan.options or {}),
        "verifies": not problems,
        "problems": problems,
        "at_least": plan.at_least,
        "speedup": speedup.to_json(),
        "cpu_ratio": geometric(costs).to_json(),
        "seeds": [
            {"seed": seed, "ratio": ratio_of(lab, *pair), "reference": _shown(pair[0]), "winner": _shown(pair[1])}
            for seed, pair in zip(plan.seeds, rows, strict=True)
        ],
    }


def _shown(one: Trained) -> dict[str, Any]:
    return {
        "cpu_seconds": one.cpu_seconds,
        "wall_seconds": one.wall_seconds,
        "metrics": dict(one.score.metrics) if one.score else {},
        "claimed": dict(one.said) if isinstance(one.said, Mapping) else {},
        "problem": one.problem,
    }


def _line(lab: Lab, seed: int, reference: Trained, winner: Trained) -> str:
    ratio = ratio_of(lab, reference, winner)
    if ratio is None:
        return f"seed {seed}: {reference.problem or winner.problem}"
    return f"seed {seed}: {reference.cpu_seconds:.1f} against {winner.cpu_seconds:.1f} CPU s, {ratio:.2f} at equal loss"
