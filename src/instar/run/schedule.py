"""What a free slot does next. A slot never waits for a generation to end: there is always one more proposal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from instar.contracts.abilities import SelfTeaching
from instar.contracts.archive import Reservation
from instar.contracts.builder import Editing
from instar.contracts.errors import ArtefactError, LabError
from instar.contracts.exam import Priced, Probing, Stage
from instar.contracts.lab import TrainRequest
from instar.contracts.oversight import Right
from instar.contracts.records import Outcome, OutcomeState, Proposal, Score, TrialState
from instar.exams import selftest
from instar.executors.artefacts import digest_files, write_arrays
from instar.run import decisions, experience, intake, merging, novelty, trials
from instar.run.examination import Examination
from instar.run.promotion import found
from instar.run.state import Candidate, Run, Screen

_PATIENCE = 3  # attempts at what a run can't do without
_AHEAD = 12  # designs per slot that are trained before there is a score to hold them against


def plan(run: Run) -> None:
    """Queue the most useful work there is: the first of these that applies, nearest to a decision first."""
    run.held = ""
    for step in (
        founder,
        incumbent_score,
        decisions.hold_after_promotion,
        _exam,
        _replicas,
        _experience,
        _climb,
        _propose,
    ):
        step(run)
        if run.ready or run.stopping or run.held:
            return


# --- what everything else needs -------------------------------------------------------------------------------------


def founder(run: Run) -> None:
    """Train generation 0 from the lab's seed design."""
    if run.generations or _under_way(run, "found", "incumbent:"):
        return
    _train_founder(run, attempt=1)


def _train_founder(run: Run, attempt: int) -> None:
    """Queue the founder's training; a failed one is repeated, then it is the lab's fault."""
    lab, scratch = run.parts.lab, run.parts.scratch
    key = f"found:{attempt}{run.life}" if attempt > 1 else f"found{run.life}"
    limits = run.limits(whole=True)  # nothing else can be promoted before it
    request = TrainRequest(key, lab.seed_design(), run.seed("found"), 0.0, None, limits)
    run.staged.reserve.append(Reservation(key, "improve", 1.0))

    def trained(outcome: Outcome) -> None:
        run.staged.settle[key] = outcome.usage
        if outcome.state is OutcomeState.CANCELLED:
            return
        if outcome.state is OutcomeState.CRASHED and attempt < _PATIENCE:
            _train_founder(run, attempt + 1)
            return
        if outcome.state is not OutcomeState.DONE:
            raise LabError(
                f"lab '{lab.name}': the founder was not made: {outcome.reason}", "Run the seed design alone."
            )
        intake.take_over(lab, outcome, scratch / "founder")
        screen = _question_set(run, scratch / "founder")
        _evaluate(run, screen, scratch / "founder", lambda score: found(run, scratch / "founder", score))

    run.ready.append((lab.train(request), "the founder", trained))


def incumbent_score(run: Run) -> None:
    """Set this generation's screening question set and let the incumbent sit it."""
    if not run.generations or run.screen is not None:
        return
    artefact = run.artefact(run.incumbent)
    run.screen = screen = _question_set(run, artefact)

    def note(score: Score) -> None:
        screen.incumbent_score = score
        trials.see(run)

    _evaluate(run, screen, artefact, note)


def _question_set(run: Run, artefact: Path) -> Screen:
    """Draw a screening question set that could not be known before this artefact existed."""
    seed = run.parts.seal.seed(digest_files(artefact, run.parts.lab.artefact_files), f"screen:{len(run.generations)}")
    question_set = run.parts.lab.exam.set(seed, Stage.SCREEN)
    questions = run.scratch_file("screen")
    write_arrays(questions, question_set.questions, sync=False)
    return Screen(question_set, questions)


def _evaluate(run: Run, screen: Screen, artefact: Path, then: Callable[[Score], None]) -> None:
    """Queue a sitting of the screen by a generation; a failed one is repeated, then it is the lab's fault."""
    screen.attempts += 1
    key = f"incumbent:{len(run.generations)}:{screen.attempts}{run.life}"
    run.staged.reserve.append(Reservation(key, "examine", 1.0))

    def evaluated(outcome: Outcome) -> None:
        run.staged.settle[key] = outcome.usage
        try:
            score = run.mark(screen.question_set, outcome, artefact)
            _bend(run, screen, outcome)
        except ArtefactError as error:
            if outcome.state is OutcomeState.CANCELLED:
                return
            if screen.attempts >= _PATIENCE:
                raise LabError(
                    f"the incumbent did not sit the screening exam: {error}", "See the run's logs."
                ) from None
            _evaluate(run, screen, artefact, then)
            return
        then(score)

    run.ready.append(
        (run.parts.lab.exam.evaluate(key, artefact, screen.questions, run.limits()), "the incumbent sits", evaluated)
    )


def _bend(run: Run, screen: Screen, outcome: Outcome) -> None:
    """Test the exam with the founder's answers, where it could not test itself before. Raises `LabError`."""
    lab = run.parts.lab
    if not run.generations and not isinstance(lab.exam, Probing):
        selftest.demand_of(lab, screen.question_set, intake.answers(outcome))


def _under_way(run: Run, *prefixes: str) -> bool:
    return any(key.startswith(prefixes) for key in run.tasks)


# --- what brings a candidate on -------------------------------------------------------------------------------------


def _finalists(run: Run) -> list[Candidate]:
    top = run.settings.rungs - 1
    scored = [c for c in run.candidates.values() if (top, 0) in c.trials and not c.under_exam]
    return [c for c in scored if c.trials[top, 0].state is TrialState.SCORED]


def _exam(run: Run) -> None:
    """Merge the replicas of a finalist once all are in, where the lab can, and examine it."""
    top = run.settings.rungs - 1
    for candidate in _finalists(run):
        replicas = [candidate.trials.get((top, replica)) for replica in range(run.settings.replicas)]
        if not all(trial is not None and trial.state is TrialState.SCORED for trial in replicas):
            continue
        if merging.wanted(run, candidate):
            merging.merge(run, candidate)
            return
        if candidate.merged is None or candidate.merged.done:
            Examination(run, candidate).begin()
            return


def _replicas(run: Run) -> None:
    """Repeat a finalist with further training seeds, so that a lucky seed is not a gain.

    A clear winner is all but a finalist already: its seeds need not wait for one another.
    """
    top = run.settings.rungs - 1
    clear = [c for c in run.candidates.values() if c.clear and (top, 0) in c.trials and not c.under_exam]
    finalists = sorted(_finalists(run), key=lambda c: -(c.trials[top, 0].gain or 0.0))
    for candidate in [*finalists, *clear]:
        missing = [replica for replica in range(run.settings.replicas) if (top, replica) not in candidate.trials]
        for replica in missing:
            trials.start(run, candidate, top, replica)
        if missing:
            return


def _experience(run: Run) -> None:
    if run.generations and experience.due(run) and decisions.goal_is_set(run):
        experience.collect(run)


def _climb(run: Run) -> None:
    """Raise the best waiting trial to its next rung.

    A generation's first climber need not wait for others to compare with if its gain is beyond doubt: early on,
    when every successor is far better than its parent, choosing among them costs more than it brings.
    """
    if run.screen is None or run.screen.incumbent_score is None:
        return
    for rung in reversed(range(run.settings.rungs - 1)):
        below, first = run.rungs[rung], not run.rungs[rung].climbed
        number = below.climber(run.settings.eta) or below.clear_winner()
        if number is not None:
            run.candidates[number].clear = first and number in below.clear and not _extrapolated(run)
            trials.start(run, run.candidates[number], rung + 1, 0)
            return


def _extrapolated(run: Run) -> bool:
    """Whether a lower rung says what a design would come to: then the noise is not all of the doubt."""
    return isinstance(run.parts.lab.exam, Priced)


def _propose(run: Run) -> None:
    """Ask the builder for one more proposal, commit to its forecast, and start it on the lowest rung.

    A builder that has none yet leaves the slot free; `loop.fill` notes what for.
    """
    seen = run.screen is not None and run.screen.incumbent_score is not None
    if not (seen or _ahead(run)) or decisions.hold_proposing(run):
        return
    goal = run.experience[-1].goal if run.experience else None
    while not run.stopping and (seen or _ahead(run)):
        proposals = run.parts.builder.propose(experience.brief(run, 1, goal))
        if not proposals and run.approvals.persons(Right.PROPOSE):
            decisions.ask(run, Right.PROPOSE, run.incumbent.number)
        if [_take_up(run, proposal) for proposal in proposals].count(True) == len(proposals):
            return


def _ahead(run: Run) -> bool:
    """Whether designs may be trained while the founder still is: where nothing of it goes into their training.

    They wait for its score, unexamined, and those that have failed count as well: more than a first look around would
    be guesswork. Not of a builder that writes files: what a candidate wrote must not run beside the founder while that
    one's price is metered, and it would be thought up, and paid for, without any result.
    """
    lab, builder = run.parts.lab, run.parts.builder
    writes = isinstance(builder, Editing) and builder.edits_files
    if run.incumbent.number or run.settings.baseline != "loop" or writes or isinstance(lab, SelfTeaching):
        return False
    return not lab.profile.inherits and run.next_proposal <= _AHEAD * run.parts.executor.slots


def _take_up(run: Run, proposal: Proposal) -> bool:
    """Record a proposal and start it; return False where it is a near-duplicate, which costs nothing but its record."""
    run.next_proposal = proposal.number + 1
    run.stage(proposal)
    twin = run.tried.twin(proposal)
    if twin is None:
        candidate = Candidate(proposal)
        run.candidates[proposal.number] = candidate
        decisions.begin(run, candidate)
        return True
    trials.refuse(run, proposal, twin)
    if run.tried.refused >= novelty.PATIENCE:
        run.stopping = f"only near-duplicates are proposed ({novelty.PATIENCE} in a row)"
    return False
