"""What a restart does: the state of a run is rebuilt from its archive, and the ledger catches up.

The archive is the source of truth. Trials that were cut off begin again under their own number and reservation, so
that none is lost and none is counted twice; what the cut-off attempt had used is unknown and not charged.
"""

from __future__ import annotations

from dataclasses import replace

from instar import trials
from instar.artefacts import digest_files, read_json
from instar.errors import ArchiveError
from instar.interfaces import Heritable, Verdict
from instar.promotion import point, seal_in_ledger
from instar.records import Experience, Generation, Observation, Proposal, Trial, TrialState
from instar.state import Candidate, Run


def resume(run: Run) -> None:
    """Rebuild `run` from its archive; on a fresh archive this changes nothing but the ledger's first entry.

    Raises:
        ArchiveError: a generation's files are missing or differ from what the archive recorded.
    """
    archive = run.parts.archive
    run.earlier_seconds = archive.account().wall_seconds
    run.generations = sorted(archive.history(Generation), key=lambda generation: generation.number)
    run.experience = list(archive.history(Experience))
    _begin_ledger(run)
    for generation in list(run.generations):
        _check(run, generation)
        if generation.ledger_index < 0:
            seal_in_ledger(run, generation)
    verdicts = {verdict.proposal: verdict for verdict in archive.history(Verdict)}
    run.next_verdict = len(verdicts) + 1
    _reopen(run, verdicts)
    if run.generations:
        point(run)
        _restore_builder(run)
        incumbent = run.incumbent.number
        run.collects = sum(record.maker == run.maker.number for record in run.experience[-64:])
        run.failures = sum(verdict.incumbent == incumbent for verdict in verdicts.values())


def _begin_ledger(run: Run) -> None:
    """Let the first entry say what this run is, and commit to its sealed key."""
    statement = {"kind": "run", "identity": dict(run.parts.archive.identity), "seal": run.parts.seal.commitment}
    run.parts.ledger.append("run", statement, sync=True)


def _check(run: Run, generation: Generation) -> None:
    directory = run.artefact(generation)
    hint = "Restore it from a copy, or start a new run directory."
    names = run.parts.lab.artefact_files
    if not all((directory / name).is_file() for name in names):
        raise ArchiveError(f"{directory}: files of generation {generation.number} are missing", hint)
    if digest_artefact(run, generation) != generation.artefact:
        raise ArchiveError(f"{directory}: files of generation {generation.number} were changed", hint)


def digest_artefact(run: Run, generation: Generation) -> str:
    """Return the digest over the artefact's own files, leaving out the card and its neighbours."""
    return digest_files(run.artefact(generation), run.parts.lab.artefact_files)


def _reopen(run: Run, verdicts: dict[int, Verdict]) -> None:
    """Find the open candidates of the incumbent, and begin again what was cut off."""
    proposals: dict[int, Proposal] = {}
    for proposal in run.parts.archive.history(Proposal):
        run.next_proposal = proposal.number + 1
        if run.generations and proposal.parent == run.incumbent.number and proposal.number not in verdicts:
            proposals[proposal.number] = proposal
    for trial in run.parts.archive.history(Trial):
        run.next_trial = trial.number + 1
        if trial.proposal in proposals:
            candidate = run.candidates.setdefault(trial.proposal, Candidate(proposals[trial.proposal]))
            candidate.trials[trial.rung, trial.replica] = trial
            if trial.usage.cpu_seconds:
                run.remember_seconds(trial)
        elif trial.state is TrialState.RUNNING:
            ended = _cancelled(trial)
            run.stage(ended)
            run.staged.settle[f"trial:{trial.number}"] = ended.usage
    for candidate in list(run.candidates.values()):
        _continue(run, candidate)


def _cancelled(trial: Trial) -> Trial:
    return replace(trial, state=TrialState.CANCELLED, why="its parent was succeeded before the restart")


def _continue(run: Run, candidate: Candidate) -> None:
    """Put one open candidate back where it stood."""
    top = run.settings.rungs - 1
    for (rung, replica), trial in sorted(candidate.trials.items()):
        missing = rung == top and not run.trial_directory(trial).is_dir()
        if trial.state is TrialState.RUNNING or (trial.state is TrialState.SCORED and missing and _wanted(trial)):
            trials.train(run, candidate, trial)
        elif trial.state is not TrialState.SCORED or (rung == top and not replica and (trial.gain or 0.0) <= 0):
            trials.close(run, candidate)
            return
        elif rung < top and trial.metric is not None:
            run.rungs[rung].add(trial.metric, trial.proposal)
            if (rung + 1, 0) in candidate.trials:
                run.rungs[rung].waiting.remove((trial.metric, trial.proposal))


def _wanted(trial: Trial) -> bool:
    return bool(trial.replica) or (trial.gain or 0.0) > 0


def _restore_builder(run: Run) -> None:
    """Let the builder take up the maker's state, then see its history again."""
    builder = run.parts.builder
    state = run.artefact(run.maker) / "designer.json"
    if isinstance(builder, Heritable) and state.is_file():
        builder.restore(read_json(state, limit=2**24))
    proposals = {proposal.number: proposal for proposal in run.parts.archive.history(Proposal)}
    for trial in run.parts.archive.history(Trial):
        frozen = run.settings.builder_frozen_at is not None and trial.parent >= run.settings.builder_frozen_at
        if trial.state in (TrialState.RUNNING, TrialState.CANCELLED) or frozen:
            continue
        baseline = (trial.metric or 0.0) - (trial.gain or 0.0)
        builder.observe(Observation(proposals[trial.proposal], trial, baseline))
