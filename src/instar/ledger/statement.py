"""What the ledger says of each fact in the archive: one key and one statement, the same whenever they are made.

That is what lets a restart append what a crash kept from the ledger: a known key appends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instar.contracts.archive import Fact, Verdict
from instar.contracts.oversight import (
    Acknowledgement,
    Answer,
    Approval,
    Explanation,
    Handover,
    IncidentRecord,
    JobCount,
    SlotTime,
)
from instar.contracts.records import Experience, Generation, Proposal, Trial, TrialState, digest

Statement = tuple[str, Mapping[str, Any]]


def statement(fact: Fact) -> Statement | None:
    """Return the key and the statement of a fact, or None while there is nothing to say (an open trial, a count)."""
    if isinstance(fact, Proposal):
        return f"proposal:{fact.number}", _proposal(fact)
    if isinstance(fact, Trial):
        return None if fact.state is TrialState.RUNNING else (f"trial:{fact.number}", _trial(fact))
    if isinstance(fact, Experience):
        return f"experience:{fact.digest}", _experience(fact)
    if isinstance(fact, Verdict):
        return f"verdict:{fact.number}", _verdict(fact)
    if isinstance(fact, IncidentRecord):
        return f"incident:{fact.key}", _incident(fact)
    if isinstance(fact, Explanation):
        return f"explanation:{fact.number}", _said("explanation", fact.author, fact.made_at, fact.cause, fact.incident)
    if isinstance(fact, Acknowledgement):
        return f"acknowledgement:{fact.number}", _said("acknowledgement", fact.author, fact.made_at, fact.why, "")
    if isinstance(fact, Approval):
        return None if fact.answer is Answer.OPEN else (f"approval:{fact.number}", _approval(fact))
    if isinstance(fact, Handover):
        return f"handover:{fact.number}", _handover(fact)
    if isinstance(fact, JobCount | SlotTime):
        return None  # a running total: no two moments say the same
    return f"promotion:{fact.number}", promotion(fact)


def promotion(generation: Generation) -> Mapping[str, Any]:
    """Return what a promotion says: who built what from whom, by digest."""
    return {
        "kind": "promotion",
        "generation": generation.number,
        "parent": generation.parent,
        "author": str(generation.author),
        "design": generation.design.digest,
        "artefact": generation.artefact,
    }


def _proposal(proposal: Proposal) -> Mapping[str, Any]:
    """Commit to design and forecast without showing them."""
    forecast = proposal.forecast
    promised = {"p_better": forecast.p_better, "mean": forecast.mean, "deviation": forecast.deviation}
    commitment = digest({"design": proposal.design.digest, "author": str(proposal.author), "forecast": promised})
    return {"kind": "proposal", "proposal": proposal.number, "commitment": commitment}


def _trial(trial: Trial) -> Mapping[str, Any]:
    which = {"trial": trial.number, "proposal": trial.proposal, "rung": trial.rung, "replica": trial.replica}
    ended = {"state": trial.state.value, "metric": trial.metric, "artefact": trial.artefact}
    return {"kind": "trial", **which, **ended}


def _experience(record: Experience) -> Mapping[str, Any]:
    grounds = {"attempts": record.attempts, "kept": record.kept, "verified_by": record.verified_by}
    return {"kind": "experience", "digest": record.digest, "maker": record.maker, **grounds}


def _verdict(verdict: Verdict) -> Mapping[str, Any]:
    decision = verdict.decision
    reasons = [{"gate": reason.gate, "passed": reason.passed, "text": reason.text} for reason in decision.reasons]
    judged = {"test": verdict.number, "proposal": verdict.proposal, "incumbent": verdict.incumbent}
    return {"kind": "verdict", **judged, "promote": decision.promote, "reasons": reasons}


def _incident(record: IncidentRecord) -> Mapping[str, Any]:
    seen = record.incident
    place = {"job": record.job, "generation": record.generation, "proposal": record.proposal, "trial": record.trial}
    what = {"incident": seen.kind, "detail": seen.detail, "count": seen.count, "cause": seen.cause}
    return {"kind": "incident", **place, **what}


def _said(kind: str, author: str, made_at: float, words: str, about: str) -> Mapping[str, Any]:
    """Return what a person said, of which incident ("" for all so far), and when."""
    return {"kind": kind, "about": about, "author": author, "made_at": made_at, "words": words}


def _approval(approval: Approval) -> Mapping[str, Any]:
    """Return who used which right, about what, and how long the loop had waited."""
    what = {
        "right": approval.right.value,
        "subject": approval.subject,
        "answer": approval.answer.value,
        "words": approval.said,
    }
    when = {"asked_at": approval.asked_at, "made_at": approval.made_at, "waited_seconds": approval.waited_seconds}
    return {"kind": "approval", **what, "holder": approval.holder.value, "author": approval.who, **when}


def _handover(handover: Handover) -> Mapping[str, Any]:
    said = {"author": handover.who, "made_at": handover.made_at, "evidence": handover.evidence}
    return {"kind": "handover", "rights": dict(handover.rights), **said}
