"""START HERE: how one generation comes about.

    brief -> builder.propose -> commitment -> train (training sandbox) -> screen (exam sandbox) -> climb the rungs
          -> replicas with other seeds -> sealed exam -> gate -> the next generation, which builds the next

The loop is a turn that repeats: take in what has finished, fill the free slots, write everything down in one
transaction, start what was written down. `schedule.plan` says what a free slot does; every piece of work knows what
follows from its outcome (`trials`, `teaching`, `examination`, `promotion`). Nothing here knows what a lab is about.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from instar.contracts.archive import Fact
from instar.contracts.errors import ArchiveError, ArtefactError, LabError
from instar.contracts.records import Outcome, OutcomeState
from instar.executors import job_directory
from instar.executors.artefacts import read_bytes, write_bytes
from instar.run import decisions, intake, schedule, trials
from instar.run.conduct.watch import PAUSED
from instar.run.state import Run, Task

_LOG_BYTES = 2**16
_LEAST_BYTES = 2**20  # of scratch
Watcher = Callable[[Run, Sequence[Fact]], None]


def run_loop(run: Run, watch: Watcher) -> str:
    """Run until the budget, the goal or the lab is exhausted, or a person stops it; return why it ended.

    Args:
        run: fresh, or rebuilt by `resume.resume`.
        watch: told after every turn what was durably recorded; it may draw, but not change anything.
    """
    while True:
        why = reason_to_stop(run)
        if why and not run.stopping:  # a signal may have set it meanwhile
            run.stopping = why
        if run.conduct.paused:
            stop_now(run)
        decisions.hear(run)
        fill(run)
        run.commit()
        tell(run, watch)
        if not run.tasks:
            if run.stopping:
                trials.dismiss(run)
                run.commit(last=True)
                tell(run, watch)
                return run.stopping
            if run.waits_for == "loop" and not _asked_again(run):
                raise LabError(
                    f"lab '{run.parts.lab.name}' leaves nothing to do", "This is a bug in its plugin or in Instar."
                )
        for outcome in _wait(run):
            finish(run, outcome)
        if run.time_left <= run.closing_seconds or run.cpu_left <= 0:
            stop_now(run)


def fill(run: Run) -> None:
    """Give every free slot something to do; once the run is stopping, only what was begun is finished."""
    while len(run.tasks) < run.parts.executor.slots:
        if not run.ready and not run.stopping:
            schedule.plan(run)
        if not run.ready:
            return
        job, what, then = run.ready.popleft()
        run.commit()  # what is started stands in the archive first
        run.tasks[job.key] = Task(job, what, then, run.clock(), run.fingerprint_inputs(job))
        run.parts.executor.submit(job)


def _asked_again(run: Run) -> bool:
    """Fill once more: a proposal may have come in since the builder was asked. Return whether there is work now."""
    fill(run)
    return bool(run.tasks) or run.waits_for != "loop"


def finish(run: Run, outcome: Outcome) -> None:
    """Hand an outcome to the one who waits for it, and clear its room."""
    task = run.tasks.pop(outcome.key, None)
    run.usage += outcome.usage
    outcome = intake.received(outcome)
    if outcome.state not in (OutcomeState.DONE, OutcomeState.CANCELLED):
        outcome = keep_log(run, outcome)
    run.note_end(outcome, task.fingerprints if task else {})
    if outcome.state not in (OutcomeState.DONE, OutcomeState.CANCELLED):
        job_directory.clear(outcome.output.parent)  # it counts for nothing, and may be what fills the disk
        check_space(run)
    if task is not None:
        task.then(outcome)
    job_directory.clear(outcome.output.parent)


def check_space(run: Run) -> None:
    """Raise where there is no space for any job: a failure then is not the candidate's, and is not recorded as such."""
    if shutil.disk_usage(run.parts.scratch).free < _LEAST_BYTES:
        raise ArchiveError(
            f"{run.parts.scratch}: the disk is full: no trial can run",
            "Free some space and run the same command again: it goes on from the last record.",
        )


def keep_log(run: Run, outcome: Outcome) -> Outcome:
    """Save the end of a failed job's log from its room, and say in the reason where it is."""
    log = outcome.output.parent / job_directory.LOG
    try:
        end = read_bytes(log, limit=2**25)[-_LOG_BYTES:]
    except ArtefactError:
        return outcome
    kept = run.parts.home / "logs" / f"{log.parent.name}.txt"
    try:
        kept.parent.mkdir(exist_ok=True)
        write_bytes(kept, end, sync=False)
    except OSError:
        return replace(outcome, reason=outcome.reason.replace(f" (log: {log})", ""))  # the rest stands in the archive
    return replace(outcome, reason=outcome.reason.replace(str(log), str(kept)))


def stop_now(run: Run) -> None:
    """End everything that is under way: a budget is a hard stop, and so is a pause."""
    run.stopping = run.stopping or reason_to_stop(run) or "budget used"
    run.drop_ready(run.stopping)
    for key in run.tasks:
        run.parts.executor.cancel(key)


def reason_to_stop(run: Run) -> str | None:
    """Return why no new work should begin, or None."""
    settings = run.settings
    if run.conduct.paused:
        return f"{PAUSED}: {run.conduct.paused}"
    if run.time_left <= run.closing_seconds:
        return "budget used"
    if run.cpu_left <= 0:
        return "CPU budget used"
    if run.meter is not None and (used := run.meter()):
        return used
    if settings.generations is not None and len(run.generations) > settings.generations:
        return "generations reached"
    if run.disk_full:
        return "disk budget used"
    if run.failures >= settings.patience and run.saturated:
        return "exhausted"
    return None


def tell(run: Run, watch: Watcher) -> None:
    """Report what has been written since the last turn."""
    written, run.written = run.written, []
    watch(run, written)


def _wait(run: Run) -> Sequence[Outcome]:
    """Return what has finished, after a while; and note what free slots waited for meanwhile."""
    free, cause, began = run.parts.executor.slots - len(run.tasks), run.waits_for, run.clock()
    patience = _patience(run, thinking=free > 0 and cause not in ("loop", "ending"))
    outcomes = run.parts.executor.wait(patience)
    if not run.tasks:
        time.sleep(patience)  # there is nothing for the executor to wait for
    if free:
        run.idle[cause] += free * (run.clock() - began)
    return outcomes


def _patience(run: Run, thinking: bool) -> float:
    """Return how long to wait for an outcome: until the closing time, and at most so long that the view stays alive.

    Where the builder is thinking, its proposal may come any moment; past the closing time all that was cancelled will.
    """
    left = run.time_left - run.closing_seconds
    return min(0.05 if thinking or left <= 0 else 0.5, left if left > 0 else math.inf)
