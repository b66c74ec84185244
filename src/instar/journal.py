"""The run's log for machines: one JSON object per durable fact in `logs/run.jsonl`, with the time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from instar.interfaces import Fact, Verdict
from instar.records import Experience, Generation, Proposal, Trial, TrialState
from instar.state import Run


class Journal:
    """Appends to `<home>/logs/run.jsonl`; a life of the run begins with the event `begin`."""

    def __init__(self, home: Path) -> None:
        (home / "logs").mkdir(exist_ok=True)
        self._file = (home / "logs" / "run.jsonl").open("a", encoding="utf-8")
        self._log = structlog.wrap_logger(
            structlog.WriteLogger(self._file),
            processors=[structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.processors.JSONRenderer()],
        )
        self._log.info("begin")

    def watch(self, run: Run, facts: Sequence[Fact]) -> None:
        """Write down what has been recorded."""
        for fact in facts:
            event, fields = _event(fact)
            if event:
                self._log.info(event, run_seconds=round(run.elapsed, 3), **fields)
        if facts:
            self._file.flush()

    def close(self, why: str = "") -> None:
        """Note the end of this life. Safe to call twice."""
        if not self._file.closed:
            self._log.info("end", why=why)
            self._file.close()


def _event(fact: Fact) -> tuple[str, dict[str, Any]]:
    """Return the event's name and its fields; an empty name for what is not worth a line."""
    match fact:
        case Proposal():
            return "proposal", {"number": fact.number, "author": fact.author, "why": fact.why}
        case Trial() if fact.state is not TrialState.RUNNING:
            place = {"rung": fact.rung, "replica": fact.replica, "proposal": fact.proposal}
            found = {"metric": fact.metric, "gain": fact.gain, "noise": fact.noise, "why": fact.why}
            return "trial", {"number": fact.number, "state": fact.state.value, **place, **found}
        case Experience():
            return "experience", {"maker": fact.maker, "goal": fact.goal.name, "mastery": fact.mastery}
        case Verdict():
            reasons = [reason.text for reason in fact.decision.reasons if not reason.passed]
            return "verdict", {"number": fact.number, "promote": fact.decision.promote, "against": reasons}
        case Generation() if fact.ledger_index >= 0:
            return "generation", {"number": fact.number, "author": fact.author, "artefact": fact.artefact}
        case _:
            return "", {}
