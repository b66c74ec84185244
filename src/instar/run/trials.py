"""One trial: train in the training sandbox, sit the screening exam in the exam sandbox, be marked in the conductor."""

from __future__ import annotations

import shutil
from collections import deque
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from instar.contracts.archive import Reservation
from instar.contracts.errors import ArtefactError
from instar.contracts.gate import Foreseeing
from instar.contracts.lab import TrainRequest
from instar.contracts.records import Fate, Observation, Outcome, OutcomeState, Proposal, Score, Sizes, Trial, TrialState
from instar.exams.ladder import Ladder
from instar.run import intake, replicas, simplicity
from instar.run.conduct.causes import BAD_ARTEFACT
from instar.run.state import Candidate, Run, Screen

_SUCCEEDED = "its parent was succeeded"
CLEAR = 3.0  # a gain of so many standard errors needs no company on its rung

_ENDED = {
    OutcomeState.CRASHED: TrialState.CRASHED,
    OutcomeState.TIMED_OUT: TrialState.TIMED_OUT,
    OutcomeState.OUT_OF_MEMORY: TrialState.OUT_OF_MEMORY,
    OutcomeState.CANCELLED: TrialState.CANCELLED,
}


def effort(run: Run, rung: int) -> float:
    """Return the share of the full training budget that a rung gets: 1 at the top, 1/eta of it below, and so on."""
    return float(run.settings.eta ** (rung + 1 - run.settings.rungs))


def start(run: Run, candidate: Candidate, rung: int, replica: int) -> None:
    """Record a new trial and begin it."""
    proposal = candidate.proposal
    seed = run.seed("train", proposal.design.digest, proposal.number, replica)
    known = len(run.experience)
    trial = Trial(run.next_trial, proposal.number, proposal.parent, rung, replica, seed, experience=known)
    run.next_trial += 1
    run.stage(trial)
    train(run, candidate, trial)


def refuse(run: Run, proposal: Proposal, why: str) -> None:
    """Record that a proposal is not tried, before any compute is spent on it, and tell the builder."""
    trial = Trial(run.next_trial, proposal.number, proposal.parent, 0, 0, 0, state=TrialState.DUPLICATE, why=why)
    run.next_trial += 1
    run.stage(trial)
    _teach(run, Candidate(proposal), trial)


def train(run: Run, candidate: Candidate, trial: Trial) -> None:
    """Reserve compute for a recorded trial and queue its training; also used to begin it again after a crash."""
    run.staged.reserve.append(Reservation(_key(trial), "improve", run.expected_seconds(trial.rung)))
    candidate.trials[trial.rung, trial.replica] = trial
    candidate.experience = run.data()
    request = TrainRequest(
        key=_key(trial),
        design=candidate.proposal.design,
        seed=trial.seed,
        effort=effort(run, trial.rung),
        parent=run.artefact(run.incumbent) if run.generations else None,
        limits=run.limits(),
        experience=run.experience_files(),
        parent_cpu_seconds=intake.spent(run.parts.lab, run.artefact(run.incumbent)),
    )
    what = f"trial {trial.number}, rung {trial.rung}" + (f", replica {trial.replica}" if trial.replica else "")
    run.ready.append((run.parts.lab.train(request), what, partial(_trained, run, candidate, trial)))


def _trained(run: Run, candidate: Candidate, trial: Trial, outcome: Outcome) -> None:
    """Take over the artefact and send it to the screening exam, now or once the incumbent has sat it."""
    trial = replace(trial, usage=outcome.usage)
    candidate.incidents += outcome.incidents
    if outcome.state is not OutcomeState.DONE:
        _end(run, candidate, replace(trial, state=_ENDED[outcome.state], why=outcome.reason))
        return
    if candidate.proposal.parent != run.incumbent.number:
        _end(run, candidate, replace(trial, state=TrialState.CANCELLED, why=_SUCCEEDED))
        return
    directory = run.trial_directory(trial)
    try:
        digest = intake.take_over(run.parts.lab, outcome, directory)
    except ArtefactError as error:
        run.note(outcome.key, BAD_ARTEFACT, str(error))
        _end(run, candidate, replace(trial, state=TrialState.REFUSED, why=str(error)))
        return
    run.unseen.append((candidate, replace(trial, artefact=digest)))
    see(run)


def see(run: Run) -> None:
    """Once the incumbent's score is there, let what was trained sit the screening exam, and tell of what had failed."""
    while run.unseen and run.screen is not None and run.screen.incumbent_score is not None:
        candidate, trial = run.unseen.popleft()
        succeeded = trial.parent != run.incumbent.number
        if trial.state is TrialState.RUNNING and succeeded:
            _end(run, candidate, replace(trial, state=TrialState.CANCELLED, why=_SUCCEEDED))
        elif trial.state is TrialState.RUNNING:
            _evaluate(run, candidate, trial)
        elif not succeeded:
            _teach(run, candidate, trial)


def dismiss(run: Run) -> None:
    """End as cancelled what was trained and will not be seen: the run ends before the incumbent's score is there."""
    unseen, run.unseen = run.unseen, deque()
    for candidate, trial in unseen:
        if trial.state is TrialState.RUNNING:
            _end(run, candidate, replace(trial, state=TrialState.CANCELLED, why=f"not examined: {run.stopping}"))


def _teach(run: Run, candidate: Candidate, trial: Trial) -> None:
    """Let the builder learn from a trial that has ended, at once or when the incumbent's score is there."""
    if not run.learning:
        return
    if run.screen is not None and run.screen.incumbent_score is not None:
        run.parts.builder.observe(Observation(candidate.proposal, trial, run.screen.incumbent_score.metric))
    elif trial.state is not TrialState.CANCELLED and trial.parent == run.incumbent.number:
        run.unseen.append((candidate, trial))


def _evaluate(run: Run, candidate: Candidate, trial: Trial) -> None:
    """Send an artefact to the screening exam, ahead of everything else, unless no exam could let it pass."""
    assert run.screen is not None
    directory = run.trial_directory(trial)
    if why := _foreseen(run, directory):
        return _end(run, candidate, replace(trial, state=TrialState.REFUSED, why=why))
    job = run.parts.lab.exam.evaluate(f"screen:{trial.number}", directory, run.screen.questions, run.limits())
    then = partial(_screened, run, candidate, trial)
    return run.ready.appendleft((job, f"trial {trial.number} sits the screen", then))


def _foreseen(run: Run, directory: Path) -> str:
    """Return why the gates refuse an artefact for its size whatever it answers, or ""."""
    gate = run.parts.gate
    if not isinstance(gate, Foreseeing):
        return ""
    sizes = (
        replicas.artefact_bytes(run, place) for place in (directory, *map(run.artefact, (run.incumbent, run.founder)))
    )
    reason = gate.foresee(Sizes(*sizes))
    return "" if reason is None else f"{reason.gate}: {reason.text}"


def _screened(run: Run, candidate: Candidate, trial: Trial, outcome: Outcome) -> None:
    """Mark the screening exam against the incumbent's answers to the same questions."""
    trial = replace(trial, usage=trial.usage + outcome.usage)
    candidate.incidents += outcome.incidents
    screen = run.screen
    if candidate.proposal.parent != run.incumbent.number or screen is None or screen.incumbent_score is None:
        return _end(run, candidate, replace(trial, state=TrialState.CANCELLED, why=_SUCCEEDED))
    if outcome.state is not OutcomeState.DONE:
        return _end(run, candidate, replace(trial, state=_ENDED[outcome.state], why=f"in the exam: {outcome.reason}"))
    try:
        score = run.mark(screen.question_set, outcome, run.trial_directory(trial))
    except ArtefactError as error:
        return _end(run, candidate, replace(trial, state=TrialState.REFUSED, why=str(error)))
    shown = look(run, screen, score)
    if shown is None:
        run.stopping = run.stopping or "looks used up"
        return _end(run, candidate, replace(trial, state=TrialState.CANCELLED, why="no look at the exam is left"))
    if trial.rung + 1 == run.settings.rungs and not trial.replica:
        candidate.simpler = simplicity.worth_a_look(run, candidate, score, screen.incumbent_score)
    return _end(run, candidate, _scored(run, trial, shown, screen.incumbent_score, candidate.simpler))


def hopeless(trial: Trial) -> bool:
    """Whether a finalist's first trial says that the sealed exam need not be asked."""
    return trial.fate in (Fate.DROPPED, Fate.LOST)


def _lost(run: Run, score: Score, incumbent_score: Score) -> str:
    """Return the name of a safeguard that is beyond doubt lost on the screen, or "".

    Of those that are figures per question and to be kept against the incumbent: whose margin the paired difference
    passes by `CLEAR` standard errors. The sealed exam would refuse such a candidate, after all its trainings.
    """
    lab, founder = run.parts.lab, run.incumbent.number == 0
    for safeguard in lab.profile.safeguards:
        if safeguard.against == "founder" and not founder:
            continue
        new, old = score.safeguards.get(safeguard.name), incumbent_score.safeguards.get(safeguard.name)
        if not isinstance(new, np.ndarray) or not isinstance(old, np.ndarray) or new.shape != old.shape:
            continue
        change = (new - old) * (1.0 if safeguard.higher_is_better else -1.0)
        if float(change.mean()) < -safeguard.margin - CLEAR * float(change.std()) / change.size**0.5:
            return safeguard.name
    return ""


def look(run: Run, screen: Screen, score: Score) -> Score | None:
    """Return what may be seen of a screening score: all of a fresh exam, the Ladder's answer of a fixed one.

    None where the looks are spent. No step up is shown as the incumbent's own score: that it was none is all that a
    look tells then.
    """
    if run.queries is None or screen.incumbent_score is None:
        return score
    if not run.queries.spend():
        return None
    screen.ladder = screen.ladder or Ladder(run.parts.lab.profile.step, start=screen.incumbent_score.values)
    before = screen.ladder.best
    return score if screen.ladder.look(score.values) != before else screen.incumbent_score


def _scored(run: Run, trial: Trial, score: Score, incumbent_score: Score, simpler: bool = False) -> Trial:
    """Return the trial with its paired gain, and what follows from it in words."""
    difference = score.values - incumbent_score.values
    gain, noise = float(difference.mean()), float(difference.std() / np.sqrt(difference.size))
    if trial.replica:
        fate, why = Fate.REPLICA, f"replica {trial.replica} of the finalist"
    elif trial.rung + 1 < run.settings.rungs:
        for worst in run.rungs[trial.rung].add(score.metric, trial.proposal, clear=gain > CLEAR * noise):
            close(run, run.candidates[worst])
        ahead = sum(metric > score.metric for metric in run.rungs[trial.rung].metrics[-8:])
        place = f"place {ahead + 1}" if ahead < 8 else "past place 8"
        fate, why = Fate.WAITS, f"{place} of {len(run.rungs[trial.rung].metrics)}; the best 1/{run.settings.eta} climb"
    elif gain > 0 and (name := _lost(run, score, incumbent_score)):
        fate, why = Fate.LOST, f"dropped: better on the screen, but {name} has fallen by more than its margin"
    elif gain > 0:
        fate, why = Fate.FINALIST, "finalist: better on the screen, goes on to replicas and the sealed exam"
    elif simpler:
        fate, why = Fate.SIMPLER, "finalist: no gain on the screen, but less code: goes on as a simplification"
    else:
        fate, why = Fate.DROPPED, "dropped: not better than the incumbent on the screen"
    return replace(trial, state=TrialState.SCORED, metric=score.metric, gain=gain, noise=noise, why=why, fate=fate)


def _end(run: Run, candidate: Candidate, trial: Trial) -> None:
    """Record how the trial ended, settle its compute, let the builder learn from it."""
    if trial.state is TrialState.CANCELLED:
        run.tried.forget(trial.proposal)
    candidate.trials[trial.rung, trial.replica] = trial
    if trial.rung + 1 < run.settings.rungs:  # the next rung trains anew, so this artefact has served
        shutil.rmtree(run.trial_directory(trial), ignore_errors=True)
    run.stage(trial)
    run.staged.settle[_key(trial)] = trial.usage
    run.remember_seconds(trial)
    _teach(run, candidate, trial)
    closed = candidate.proposal.number not in run.candidates  # by another of its training seeds
    if closed or trial.state is not TrialState.SCORED or not _open_after(run, trial):
        close(run, candidate)


def _open_after(run: Run, trial: Trial) -> bool:
    """Whether the candidate may still come to something after this scored trial."""
    at_top = trial.rung + 1 == run.settings.rungs
    open_still = not at_top or trial.replica > 0 or not hopeless(trial)
    if at_top and not open_still:
        run.failures += 1
    return open_still


def close(run: Run, candidate: Candidate) -> None:
    """Forget a candidate that comes to nothing (the archive keeps it) and its artefacts."""
    run.candidates.pop(candidate.proposal.number, None)
    run.remove_artefacts(candidate)


def _key(trial: Trial) -> str:
    return f"trial:{trial.number}"
