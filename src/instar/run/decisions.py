"""What persons decide in a run: questions are put on record, answers taken from the mailbox and acted on.

An answer and what follows from it are one transaction; only then is its message claimed. So a kill at any moment
neither loses an answer nor acts on it twice. The gates are never asked less: a person may refuse
what they passed, and is not asked about what they refused.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instar.builders import mailbox
from instar.contracts.abilities import SelfTeaching
from instar.contracts.archive import Verdict
from instar.contracts.errors import ArtefactError
from instar.contracts.evidence import Score
from instar.contracts.oversight import Answer, Approval, Holder, Right
from instar.contracts.records import Proposal
from instar.contracts.text import printable
from instar.executors.artefacts import digest_files, read_json, take, write_json
from instar.run import rights, trials
from instar.run.candidates import Candidate
from instar.run.endings import EndReason
from instar.run.experience import set_goal
from instar.run.promotion import promote
from instar.run.state import Run

LOOP = "loop"  # who answers where the machine has got a right, or nothing is left to decide
_RELEASE = (Right.JUDGE, Right.PROMOTE)  # in this order
_KEPT = "kept.json"
_MOST_WHO, _MOST_SAID = 100, 2000  # characters


def box_of(home: Path) -> Path:
    """Return the mailbox for answers to a run's questions."""
    return home / "mail"


def ask(run: Run, right: Right, subject: int) -> None:
    """Put a question to a person on record, unless it is open already, and say that a free slot waits for it."""
    run.hold(right)
    question = run.approvals.ask(right, subject, time.time())
    if question is not None:
        run.transaction.stage(question)


# --- before anything is tried ---------------------------------------------------------------------------------------


def goal_is_set(run: Run) -> bool:
    """Whether experience may be collected: a person's goal is there and still on offer, or the machine chooses."""
    return not run.approvals.persons(Right.GOAL) or set_goal(run) is not None


def hold_proposing(run: Run) -> bool:
    """Whether proposing waits for a person: for the first goal, or for the word to start what was proposed before."""
    if not goal_is_set(run) and isinstance(run.parts.lab, SelfTeaching):
        ask(run, Right.GOAL, run.incumbent.number)
        if not run.experience:
            return True
        run.hold(None)  # what is there can be worked with meanwhile
    started = list(run.approvals.asked(Right.START))
    if len(started) >= run.parts.executor.slots:
        run.hold(Right.START)
        return True
    return False


def begin(run: Run, candidate: Candidate) -> None:
    """Put who proposed on record where it was a person, and start the first trial or ask whether it may."""
    proposal, now = candidate.proposal, time.time()
    name, who = proposal.author.name, proposal.author.detail
    if name == rights.HUMAN:
        run.transaction.stage(_proposed(run, proposal, who, now))
    if not run.approvals.persons(Right.START):
        trials.start(run, candidate, 0, 0)
    elif name == rights.HUMAN:  # who hands in a design to be tried has said that it may start
        run.transaction.stage(run.approvals.volunteer(Right.START, proposal.number, who, now, "with the proposal"))
        trials.start(run, candidate, 0, 0)
    else:
        ask(run, Right.START, proposal.number)


def _proposed(run: Run, proposal: Proposal, who: str, now: float) -> Approval:
    said = f"proposal {proposal.number}"
    for question in run.approvals.asked(Right.PROPOSE):
        return run.approvals.settle(question, Answer.APPROVED, who, now, said)
    return run.approvals.volunteer(Right.PROPOSE, proposal.parent, who, now, said)


def hold_after_promotion(run: Run) -> None:
    """Wait for a person's word to go on, once in every generation; a refusal ends the run."""
    if not run.generations or not run.incumbent.number or not run.approvals.persons(Right.NEXT):
        return
    if run.approvals.answer(Right.NEXT, run.incumbent.number) is not Answer.APPROVED:
        ask(run, Right.NEXT, run.incumbent.number)


# --- after the gates ------------------------------------------------------------------------------------------------


def hold_release(run: Run, candidate: Candidate, artefact: Path, seen: Score, verdict: Verdict) -> bool:
    """Keep what passed the gates until a person has spoken, where one must; return whether that is so.

    Its files go into the run directory, for a person may take longer than scratch lasts.
    """
    wanted = [right for right in _RELEASE if run.approvals.persons(right)]
    if not wanted:
        return False
    names, directory = run.parts.lab.artefact_files, run.waiting_directory(candidate.proposal.number)
    shutil.rmtree(directory, ignore_errors=True)
    take(artefact, directory / "successor", names, sync=True)
    top = run.settings.rungs - 1
    for replica in range(run.settings.replicas):
        take(run.trial_directory(candidate.trials[top, replica]), directory / f"seed-{replica}", names, sync=True)
    kept = {
        "verdict": verdict.number,
        "artefact": digest_files(directory / "successor", names),
        "metrics": dict(seen.metrics),
    }
    write_json(directory / _KEPT, kept)
    ask(run, wanted[0], candidate.proposal.number)
    return True


def _release(run: Run, candidate: Candidate) -> None:
    """Promote a candidate that waits, unless another right's holder has still to be asked."""
    number = candidate.proposal.number
    for right in _RELEASE:
        if run.approvals.persons(right) and run.approvals.answer(right, number) is not Answer.APPROVED:
            ask(run, right, number)
            return
    kept, directory = _kept(run, number), run.waiting_directory(number)
    verdict = next(v for v in run.parts.archive.history(Verdict, after=kept["verdict"] - 1))
    top = run.settings.rungs - 1
    for replica in range(run.settings.replicas):
        place = run.trial_directory(candidate.trials[top, replica])
        shutil.rmtree(place, ignore_errors=True)
        take(directory / f"seed-{replica}", place, run.parts.lab.artefact_files)
    run.transaction.remove(directory)
    promote(run, candidate, directory / "successor", kept["metrics"], verdict)
    trials.close(run, candidate)


def _kept(run: Run, number: int) -> Mapping[str, Any]:
    """Return what was written beside a candidate that waits. Raises `ArtefactError` where its files aren't those."""
    directory = run.waiting_directory(number)
    kept = read_json(directory / _KEPT)
    if digest_files(directory / "successor", run.parts.lab.artefact_files) != kept["artefact"]:
        raise ArtefactError("its files were changed")
    return dict(kept)


# --- answers --------------------------------------------------------------------------------------------------------


def hear(run: Run) -> None:
    """Take up what persons have said since the last look, oldest first."""
    if run.approvals.asks_nobody:
        return
    lapse(run)
    box = box_of(run.parts.home)
    for name, message in list(mailbox.waiting(box)):
        if run.stopping:
            return
        lapse(run)  # the last one may have made a new incumbent
        word = None if run.approvals.heard(name) else _read(name, message)
        if word is not None and _act(run, word):
            run.transaction.commit()
        elif not run.approvals.heard(name):
            mailbox.refuse(box, name)
        mailbox.claim(box, name)


@dataclass(frozen=True)
class Word:
    """What a person said: the answer to a question, or a goal.

    Attributes:
        name: of the message.
        question: its number, None for a goal.
        said: the reason, or the goal's name.
    """

    name: str
    who: str
    made_at: float
    said: str
    question: int | None = None
    answer: Answer = Answer.APPROVED


def _read(name: str, message: Mapping[str, Any]) -> Word | None:
    """Return what a message says; None for one that is malformed."""
    try:
        who, made_at = printable(message["who"], _MOST_WHO), float(message["made_at"])
        if not math.isfinite(made_at):
            return None
        if "goal" in message:
            return Word(name, who, made_at, printable(message["goal"], _MOST_SAID))
        said, question = printable(message["said"], _MOST_SAID), int(message["question"])
        word = Word(name, who, made_at, said, question, Answer(message["answer"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return word if word.answer in (Answer.APPROVED, Answer.REJECTED) else None


def _act(run: Run, word: Word) -> bool:
    """Act on what a person said; return whether there was anything to act on."""
    if word.question is None:
        return _aim(run, word)
    question = run.approvals.open.get(word.question)
    if question is None or question.right in (Right.GOAL, Right.PROPOSE):
        return False
    if question.right in _RELEASE and not _is_whole(run, question):
        return False
    run.transaction.stage(run.approvals.settle(question, word.answer, word.who, word.made_at, word.said, word.name))
    follow(run, question, word.answer)
    return True


def _aim(run: Run, word: Word) -> bool:
    if not run.approvals.persons(Right.GOAL):
        return False
    for question in run.approvals.asked(Right.GOAL):
        run.transaction.stage(
            run.approvals.settle(question, Answer.APPROVED, word.who, word.made_at, word.said, word.name)
        )
        return True
    subject = run.incumbent.number if run.generations else 0
    run.transaction.stage(run.approvals.volunteer(Right.GOAL, subject, word.who, word.made_at, word.said, word.name))
    return True


def follow(run: Run, question: Approval, answer: Answer) -> None:
    """Do what an answer asks for."""
    if question.right is Right.NEXT:
        if answer is Answer.REJECTED:
            run.stop(EndReason.PERSON)
        return
    candidate = run.candidates[question.subject]
    if answer is Answer.APPROVED and question.right is Right.START:
        trials.start(run, candidate, 0, 0)
    elif answer is Answer.APPROVED:
        _release(run, candidate)
    else:
        if question.right in _RELEASE:
            run.candidates.fail()
            run.transaction.remove(run.waiting_directory(question.subject))
        trials.close(run, candidate)


def _is_whole(run: Run, question: Approval) -> bool:
    """Whether the files of what waits are those that were examined; else nothing can be decided of it any more."""
    try:
        _kept(run, question.subject)
    except (ArtefactError, KeyError, TypeError, OSError) as error:
        _end(run, question, f"its files are missing or were changed ({error})")
        trials.close(run, run.candidates[question.subject])
        return False
    return True


def lapse(run: Run) -> None:
    """End the questions about what is no longer there."""
    for question in run.approvals.asked(Right.START, *_RELEASE):
        if question.subject not in run.candidates:
            _end(run, question, "its parent was succeeded")


def _end(run: Run, question: Approval, why: str) -> None:
    run.transaction.stage(run.approvals.settle(question, Answer.LAPSED, LOOP, time.time(), why, holder=Holder.MACHINE))
    if question.right in _RELEASE:
        run.transaction.remove(run.waiting_directory(question.subject))


# --- after a restart ------------------------------------------------------------------------------------------------


def waiting_for_release(run: Run) -> set[int]:
    """Return the numbers of the proposals that passed the gates and wait for a person."""
    return {question.subject for question in run.approvals.asked(*_RELEASE)}


def restore(run: Run) -> None:
    """Check what waits, and let the machine answer what has become its own to decide."""
    lapse(run)
    for question in run.approvals.asked(*_RELEASE):
        _is_whole(run, question)
    for directory in run.waiting_directory(0).parent.glob("*"):
        if not directory.name.isdigit() or int(directory.name) not in waiting_for_release(run):
            shutil.rmtree(directory, ignore_errors=True)  # of what a kill came before
    if run.conduct.paused:
        return  # nothing is promoted until a person has looked
    for question in run.approvals.asked(*Right):
        lapse(run)
        if run.approvals.persons(question.right) or question.number not in run.approvals.open:
            continue
        if question.right in (Right.GOAL, Right.PROPOSE):
            _end(run, question, "the right has become the machine's")
            continue
        said = "the right has become the machine's"
        run.transaction.stage(
            run.approvals.settle(question, Answer.APPROVED, LOOP, time.time(), said, holder=Holder.MACHINE)
        )
        follow(run, question, Answer.APPROVED)
