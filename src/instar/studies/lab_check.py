"""`instar lab check`: a lab's exam tests itself, with the founder's own answers where it knows no better ones."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from instar.contracts.errors import InstarError
from instar.contracts.exam import Arrays, Probing, QuestionSet, Stage
from instar.contracts.lab import Lab, TrainRequest
from instar.contracts.records import Limits
from instar.exams import selftest
from instar.run import intake
from instar.studies.bench import opened

_LIMITS = Limits(wall_seconds=120.0, cpu_seconds=130.0, memory_bytes=4 * 2**30)
_SEED = 1


def check(lab: Lab, executor: str = "local") -> dict[str, Any]:
    """Test a lab's exam; return `lab`, `holds`, `wall_seconds` and `findings`, as strict JSON.

    A `Probing` exam takes well under a second. Of any other lab a founder is made and evaluated on one screen.
    """
    began = time.monotonic()
    findings = selftest.examine(lab)
    if all(finding.passed for finding in findings) and not isinstance(lab.exam, Probing):
        try:
            question_set, answers = _founded(lab, executor)
        except InstarError as error:
            findings.append(selftest.Finding("the founder is evaluated", False, str(error)))
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
    with opened(lab, executor) as bench:
        request = TrainRequest("found", lab.seed_design(), _SEED, 0.0, None, _LIMITS)
        (founder,) = bench.each([lab.train(request)], bench.artefact)
        question_set = lab.exam.set(_SEED, Stage.SCREEN)
        job = lab.exam.evaluate("evaluate", founder, bench.questions(question_set), _LIMITS)
        (answers,) = bench.each([job], intake.answers)
        return question_set, answers
