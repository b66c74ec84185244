"""How much code a candidate has against the incumbent, and whether it is worth an exam although it shows no gain."""

from __future__ import annotations

from collections.abc import Mapping

from instar.builders.code.normal import size
from instar.contracts.evidence import CodeSize, Score
from instar.contracts.records import Design
from instar.gates.simplification import LEAST_SAVED
from instar.run.candidates import Candidate
from instar.run.state import Run

_REACH = 3.0  # so many standard errors, or steps of the exam, below the incumbent may be noise
_LEAST = 0.003


def of(run: Run, candidate: Candidate) -> CodeSize | None:
    """Return the code's size against the incumbent's; None where designs have no files."""
    if not candidate.proposal.design.files:
        return None
    return CodeSize(
        size(_sources(run, candidate.proposal.design)), size(_sources(run, run.incumbent.design)), in_a_row(run)
    )


def in_a_row(run: Run) -> int:
    """Return how many simplifications led to the incumbent since something last improved."""
    count = 0
    for generation in reversed(run.generations):
        if not generation.simplified:
            break
        count += 1
    return count


def worth_a_look(run: Run, candidate: Candidate, score: Score, incumbent_score: Score) -> bool:
    """Whether a candidate with less code is near enough to the incumbent on the screen to be judged for it alone.

    On a fixed exam that tells a builder one bit beside what the Ladder shows; the look is counted as any other.
    """
    code = of(run, candidate)
    if code is None or code.size > (1.0 - LEAST_SAVED) * code.incumbent_size:
        return False
    difference = score.values - incumbent_score.values
    step = run.parts.lab.profile.step or 0.0
    noise = float(difference.std() / difference.size**0.5)
    return float(difference.mean()) > -_REACH * max(noise, step, _LEAST)


def _sources(run: Run, design: Design) -> Mapping[str, str]:
    return run.parts.lab.sources(design)
