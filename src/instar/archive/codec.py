"""Records to rows and back, exactly: a bool stays a bool, 1 is not 1.0, a tuple is a tuple again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic

from sqlalchemy import ColumnElement, Insert, Row, Select, Table, select
from sqlalchemy.dialects.sqlite import insert

from instar.archive import schema
from instar.contracts.archive import F, Verdict
from instar.contracts.oversight import (
    Acknowledgement,
    Answer,
    Approval,
    Explanation,
    Handover,
    Holder,
    IncidentRecord,
    JobCount,
    Right,
    SlotTime,
)
from instar.contracts.records import (
    Author,
    Decision,
    Design,
    Experience,
    Fate,
    Forecast,
    Generation,
    Goal,
    Incident,
    Proposal,
    Reason,
    ReasonKind,
    Spend,
    Trial,
    TrialState,
    Usage,
)

Columns = dict[str, Any]


def encode_json(value: object) -> str:
    """Write a mapping as JSON text; NaN and lone surrogates survive in Python's own dialect."""
    return json.dumps(value, separators=(",", ":"))


def upsert(table: Table, key: str) -> Insert:
    """Insert a row, or replace all but the row with the same key's place in the order."""
    statement = insert(table)
    replaced = {c.name: statement.excluded[c.name] for c in table.c if c.name not in {"sequence", key}}
    return statement.on_conflict_do_update(index_elements=[key], set_=replaced)


@dataclass(frozen=True)
class Codec(Generic[F]):
    """How one kind of fact is written and read.

    Attributes:
        key: the column by which a fact is known again.
        number: what `history(after=...)` counts.
        rows: select of `sequence` and all that `decode` needs.
    """

    table: Table
    key: str
    number: ColumnElement[int]
    rows: Select[Any]
    encode: Callable[[F], Columns]
    decode: Callable[[Row[Any]], F]

    @property
    def write(self) -> Insert:
        """The statement that records a fact."""
        return upsert(self.table, self.key)


def encode_design(design: Design, digest: str) -> Columns:
    """Return the row of a design, whose digest is known by now."""
    return {
        "digest": digest,
        "lab": design.lab,
        "parameters": encode_json(dict(design.parameters)),
        "files": encode_json(dict(design.files)),
    }


def _decode_design(row: Row[Any]) -> Design:
    return Design(row.lab, json.loads(row.parameters), json.loads(row.files))


def _encode_goal(goal: Goal) -> str:
    return encode_json([goal.name, dict(goal.parameters), goal.difficulty, goal.mastery])


def _decode_goal(text: str) -> Goal:
    name, parameters, difficulty, mastery = json.loads(text)
    return Goal(name, parameters, difficulty, tuple(mastery))


def _encode_usage(usage: Usage) -> Columns:
    return {
        "cpu_seconds": usage.cpu_seconds,
        "wall_seconds": usage.wall_seconds,
        "peak_memory_bytes": usage.peak_memory_bytes,
    }


def decode_usage(row: Row[Any]) -> Usage:
    """Read the three columns of a `Usage`."""
    return Usage(row.cpu_seconds, row.wall_seconds, row.peak_memory_bytes)


def _encode_proposal(fact: Proposal) -> Columns:
    return {
        "number": fact.number,
        "design": fact.design.digest,
        "author": str(fact.author),
        "parent": fact.parent,
        "goal": _encode_goal(fact.goal),
        "why": fact.why,
        "p_better": fact.forecast.p_better,
        "mean": fact.forecast.mean,
        "deviation": fact.forecast.deviation,
        "usd": fact.spend.usd,
        "tokens": fact.spend.tokens,
        "seconds": fact.spend.seconds,
    }


def _decode_proposal(row: Row[Any]) -> Proposal:
    forecast = Forecast(row.p_better, row.mean, row.deviation)
    goal = _decode_goal(row.goal)
    spend = Spend(row.usd, row.tokens, row.seconds)
    return Proposal(
        row.number, _decode_design(row), Author.parse(row.author), row.parent, goal, row.why, forecast, spend
    )


def _encode_trial(fact: Trial) -> Columns:
    return {
        "number": fact.number,
        "proposal": fact.proposal,
        "parent": fact.parent,
        "rung": fact.rung,
        "replica": fact.replica,
        "seed": str(fact.seed),
        "state": fact.state.value,
        "metric": fact.metric,
        "gain": fact.gain,
        "noise": fact.noise,
        **_encode_usage(fact.usage),
        "why": fact.why,
        "artefact": fact.artefact,
        "fate": fact.fate.value,
        "experience": fact.experience,
    }


def _decode_trial(row: Row[Any]) -> Trial:
    return Trial(
        number=row.number,
        proposal=row.proposal,
        parent=row.parent,
        rung=row.rung,
        replica=row.replica,
        seed=int(row.seed),
        state=TrialState(row.state),
        metric=row.metric,
        gain=row.gain,
        noise=row.noise,
        usage=decode_usage(row),
        why=row.why,
        artefact=row.artefact,
        fate=Fate(row.fate),
        experience=row.experience,
    )


def _encode_generation(fact: Generation) -> Columns:
    return {
        "number": fact.number,
        "parent": fact.parent,
        "author": str(fact.author),
        "design": fact.design.digest,
        "artefact": fact.artefact,
        "metrics": encode_json(dict(fact.metrics)),
        "estimates": _encode_nested(fact.estimates),
        "promoted_at": fact.promoted_at,
        "run_seconds": fact.run_seconds,
        "run_cpu_seconds": fact.run_cpu_seconds,
        "ledger_index": fact.ledger_index,
        "why": fact.why,
        "proposal": fact.proposal,
        "simplified": fact.simplified,
    }


def _decode_generation(row: Row[Any]) -> Generation:
    return Generation(
        number=row.number,
        parent=row.parent,
        author=Author.parse(row.author),
        design=_decode_design(row),
        artefact=row.artefact,
        metrics=json.loads(row.metrics),
        estimates=json.loads(row.estimates),
        promoted_at=row.promoted_at,
        run_seconds=row.run_seconds,
        run_cpu_seconds=row.run_cpu_seconds,
        ledger_index=row.ledger_index,
        why=row.why,
        proposal=row.proposal,
        simplified=row.simplified,
    )


def _encode_experience(fact: Experience) -> Columns:
    return {
        "digest": fact.digest,
        "maker": fact.maker,
        "goal": _encode_goal(fact.goal),
        "verified_by": fact.verified_by,
        "attempts": fact.attempts,
        "kept": fact.kept,
        "mastery": fact.mastery,
        "examples": fact.examples,
        **_encode_usage(fact.usage),
    }


def _decode_experience(row: Row[Any]) -> Experience:
    return Experience(
        digest=row.digest,
        maker=row.maker,
        goal=_decode_goal(row.goal),
        verified_by=row.verified_by,
        attempts=row.attempts,
        kept=row.kept,
        mastery=row.mastery,
        examples=row.examples,
        usage=decode_usage(row),
    )


def _encode_verdict(fact: Verdict) -> Columns:
    reasons = [asdict(reason) | {"numbers": dict(reason.numbers)} for reason in fact.decision.reasons]
    return {
        "number": fact.number,
        "proposal": fact.proposal,
        "incumbent": fact.incumbent,
        "reasons": encode_json(reasons),
        "estimates": _encode_nested(fact.estimates),
        "seeds": encode_json(fact.seeds),
        "root": fact.root,
    }


def _decode_verdict(row: Row[Any]) -> Verdict:
    decision = Decision(tuple(_decode_reason(**reason) for reason in json.loads(row.reasons)))
    seeds = tuple(json.loads(row.seeds))
    return Verdict(row.number, row.proposal, row.incumbent, decision, json.loads(row.estimates), seeds, row.root)


def _decode_reason(kind: str, **rest: Any) -> Reason:
    return Reason(kind=ReasonKind(kind), **rest)


def _encode_incident(fact: IncidentRecord) -> Columns:
    place = {"key": fact.key, "job": fact.job, "task": fact.task, "generation": fact.generation}
    return {**place, "proposal": fact.proposal, "trial": fact.trial, **asdict(fact.incident)}


def _decode_incident(row: Row[Any]) -> IncidentRecord:
    seen = Incident(row.kind, row.detail, row._mapping["count"], row.cause)  # a row has a method `count`
    return IncidentRecord(row.key, row.job, row.task, row.generation, seen, row.proposal, row.trial)


def _decode_explanation(row: Row[Any]) -> Explanation:
    return Explanation(row.number, row.incident, row.cause, row.author, row.made_at)


def _decode_acknowledgement(row: Row[Any]) -> Acknowledgement:
    return Acknowledgement(row.number, row.why, row.author, row.made_at, row.jobs, row.incidents)


def _encode_approval(fact: Approval) -> Columns:
    return asdict(fact) | {"right": fact.right.value, "answer": fact.answer.value, "holder": fact.holder.value}


def _decode_approval(row: Row[Any]) -> Approval:
    return Approval(
        row.number, Right(row.right), row.subject, row.asked_at, Answer(row.answer), Holder(row.holder), row.who,
        row.made_at, row.waited_seconds, row.said, row.message,
    )  # fmt: skip


def _encode_handover(fact: Handover) -> Columns:
    return {**{name: getattr(fact, name) for name in ("number", "who", "made_at", "evidence")},
            "rights": encode_json(dict(fact.rights))}  # fmt: skip


def _decode_handover(row: Row[Any]) -> Handover:
    return Handover(row.number, json.loads(row.rights), row.who, row.made_at, row.evidence)


def _encode_nested(estimates: Mapping[str, Mapping[str, Any]]) -> str:
    return encode_json({name: dict(estimate) for name, estimate in estimates.items()})


def _with_design(table: Table) -> Select[Any]:
    return select(table, schema.designs.c.lab, schema.designs.c.parameters, schema.designs.c.files).join(schema.designs)


CODECS: Mapping[type, Codec[Any]] = {
    Proposal: Codec(
        schema.proposals, "number", schema.proposals.c.number, _with_design(schema.proposals),
        _encode_proposal, _decode_proposal,
    ),
    Trial: Codec(
        schema.trials, "number", schema.trials.c.number, select(schema.trials), _encode_trial, _decode_trial
    ),
    Generation: Codec(
        schema.generations, "number", schema.generations.c.number, _with_design(schema.generations),
        _encode_generation, _decode_generation,
    ),
    Experience: Codec(
        schema.experience, "digest", schema.experience.c.sequence, select(schema.experience),
        _encode_experience, _decode_experience,
    ),
    Verdict: Codec(
        schema.verdicts, "number", schema.verdicts.c.number, select(schema.verdicts), _encode_verdict, _decode_verdict
    ),
    IncidentRecord: Codec(
        schema.incidents, "key", schema.incidents.c.sequence, select(schema.incidents),
        _encode_incident, _decode_incident,
    ),
    Explanation: Codec(
        schema.explanations, "number", schema.explanations.c.number, select(schema.explanations),
        asdict, _decode_explanation,
    ),
    Acknowledgement: Codec(
        schema.acknowledgements, "number", schema.acknowledgements.c.number, select(schema.acknowledgements),
        asdict, _decode_acknowledgement,
    ),
    JobCount: Codec(
        schema.job_counts, "number", schema.job_counts.c.number, select(schema.job_counts),
        lambda fact: {"number": fact.generation, "jobs": fact.jobs}, lambda row: JobCount(row.number, row.jobs),
    ),
    Approval: Codec(
        schema.approvals, "number", schema.approvals.c.number, select(schema.approvals),
        _encode_approval, _decode_approval,
    ),
    Handover: Codec(
        schema.handovers, "number", schema.handovers.c.number, select(schema.handovers),
        _encode_handover, _decode_handover,
    ),
    SlotTime: Codec(
        schema.slot_times, "cause", schema.slot_times.c.sequence, select(schema.slot_times),
        asdict, lambda row: SlotTime(row.cause, row.slot_seconds),
    ),
}  # fmt: skip
