"""`instar lab check`: a lab's exam examines itself, with the founder's own answers where it knows no better ones."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from instar.contracts import plugins
from instar.contracts.errors import ArtefactError, InstarError
from instar.contracts.exam import Arrays, Probing, QuestionSet, Stage
from instar.contracts.executor import Executor
from instar.contracts.lab import Lab, TrainRequest
from instar.contracts.records import Job, Limits, OutcomeState
from instar.exams import selftest
from instar.executors.artefacts import read_arrays, take, write_arrays

_LIMITS = Limits(wall_seconds=120.0, cpu_seconds=130.0, memory_bytes=4 * 2**30)
_SEED = 1


def check(lab: Lab, executor: str = "local") -> dict[str, Any]:
    """Test a lab's exam; return `lab`, `holds`, `wall_seconds` and `findings`, as strict JSON.

    A `Probing` exam takes well under a second. Of any other lab a founder is made, which sits one screen.
    """
    began = time.monotonic()
    findings = selftest.examine(lab)
    if all(finding.passed for finding in findings) and not isinstance(lab.exam, Probing):
        try:
            question_set, answers = _founded(lab, executor)
        except InstarError as error:
            findings.append(selftest.Finding("the founder sits", False, str(error)))
        else:
            findings += selftest.with_answers(lab.exam, question_set, answers, None, good=False)
    return {
        "lab": lab.name,
        "holds": all(finding.passed for finding in findings),
        "wall_seconds": time.monotonic() - began,
        "findings": [asdict(finding) for finding in findings],
    }


def words(found: dict[str, Any]) -> str:
    """Return what was found: the failures, and how much was tried."""
    failed = [finding for finding in found["findings"] if not finding["passed"]]
    lines = [f"FAILED  {finding['name']}: {finding['said']}" for finding in failed]
    verdict = "no run starts with it" if failed else "the exam holds"
    tried = len(found["findings"])
    lines.append(f"lab {found['lab']}: {tried - len(failed)} of {tried} checks passed in "
                 f"{found['wall_seconds']:.2f} s; {verdict}")  # fmt: skip
    return "\n".join(lines)


def _founded(lab: Lab, executor: str) -> tuple[QuestionSet, Arrays]:
    """Return a screen and a fresh founder's answers to it. Raises `ArtefactError`."""
    with tempfile.TemporaryDirectory(prefix="instar-check-") as directory:
        place = Path(directory)
        job_dirs: Executor = plugins.find("executors", executor)(1, place / "jobs", list(lab.preload))
        try:
            request = TrainRequest("found", lab.seed_design(), _SEED, 0.0, None, _LIMITS)
            take(_run(job_dirs, lab.train(request)), place / "founder", lab.artefact_files)
            lab.check(place / "founder")
            question_set = lab.exam.set(_SEED, Stage.SCREEN)
            write_arrays(place / "questions.safetensors", question_set.questions, sync=False)
            job = lab.exam.evaluate("evaluate", place / "founder", place / "questions.safetensors", _LIMITS)
            return question_set, read_arrays(_run(job_dirs, job) / "answers.safetensors")
        finally:
            job_dirs.close()


def _run(job_dirs: Executor, job: Job) -> Path:
    """Return the output of one job. Raises `ArtefactError` where it ended in another way."""
    job_dirs.submit(job)
    while not (outcomes := job_dirs.wait(None)):
        pass
    (outcome,) = outcomes
    if outcome.state is not OutcomeState.DONE:
        raise ArtefactError(f"{job.key}: {outcome.reason or outcome.state.value}", "See `instar doctor`.")
    return outcome.output
