"""One artefact of several replicas: their average stands for the candidate if the screen says that it is better.

Replicas are trained anyway, so that a lucky seed is not a gain. Fine-tuned from the same parent they can be averaged
("model soups", Wortsman et al. 2022, arXiv:2203.05482). In a prototype on 4x4 (one parent, three replicas) the average
was better than any replica and than one trained three times as long; its estimate of the moves left was not.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from instar.contracts.abilities import Merging
from instar.contracts.archive import Reservation
from instar.contracts.errors import ArtefactError
from instar.contracts.records import Outcome, OutcomeState
from instar.run import intake
from instar.run.conduct.causes import BAD_ARTEFACT
from instar.run.state import Candidate, Merged, Run


def wanted(run: Run, candidate: Candidate) -> bool:
    """Whether the replicas are still to be merged."""
    return isinstance(run.parts.lab, Merging) and run.settings.replicas > 1 and candidate.merged is None


def merge(run: Run, candidate: Candidate) -> None:
    """Queue the merging of a finalist's replicas, and then its sitting of the screen."""
    lab = run.parts.lab
    if not isinstance(lab, Merging):
        raise TypeError(f"lab {lab.name} cannot merge")
    key = f"merge:{candidate.proposal.number}:{run.next_trial}{run.life}"
    candidate.merged = Merged()
    run.staged.reserve.append(Reservation(key, "improve", 1.0))
    job = lab.merge(key, _replicas(run, candidate), run.limits())
    run.ready.append((job, f"merging proposal {candidate.proposal.number}", partial(_merged, run, candidate)))


def _replicas(run: Run, candidate: Candidate) -> list[Path]:
    top = run.settings.rungs - 1
    return [run.trial_directory(candidate.trials[top, replica]) for replica in range(run.settings.replicas)]


def _merged(run: Run, candidate: Candidate, outcome: Outcome) -> None:
    candidate.incidents += outcome.incidents
    run.staged.settle[outcome.key] = outcome.usage
    directory, lab = run.merged_directory(candidate.proposal), run.parts.lab
    screen = run.screen if candidate.proposal.parent == run.incumbent.number else None
    try:
        if outcome.state is not OutcomeState.DONE or screen is None:
            raise ArtefactError(outcome.reason)
        digest = intake.take_over(lab, outcome, directory, made_of=_replicas(run, candidate))
    except ArtefactError as error:
        if outcome.state is OutcomeState.DONE and screen is not None:
            run.note(outcome.key, BAD_ARTEFACT, str(error))
        candidate.merged = Merged(done=True)
        return
    candidate.merged = Merged(digest)
    key = f"screen:{outcome.key}"
    run.staged.reserve.append(Reservation(key, "improve", 1.0))
    job = lab.exam.evaluate(key, directory, screen.questions, run.limits())
    run.ready.appendleft((job, "the merged replicas sit the screen", partial(_screened, run, candidate)))


def _screened(run: Run, candidate: Candidate, outcome: Outcome) -> None:
    candidate.incidents += outcome.incidents
    run.staged.settle[outcome.key] = outcome.usage
    screen = run.screen if candidate.proposal.parent == run.incumbent.number else None
    metric, artefact = None, candidate.merged.artefact if candidate.merged else ""
    directory = run.merged_directory(candidate.proposal)
    try:
        if screen is not None:
            metric = run.mark(screen.question_set, outcome, directory).metric
    except ArtefactError:
        artefact = ""
    candidate.merged = Merged(artefact, metric, done=True)
