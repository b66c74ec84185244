"""Tells of any judged candidate what each gate saw; reads the archive alone."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from instar.archive import read_archive
from instar.contracts.archive import Verdict
from instar.contracts.errors import BadInput
from instar.contracts.evidence import Reason
from instar.contracts.records import Generation, Proposal
from instar.contracts.text import terminal
from instar.report.exporting import changes, sources_of
from instar.report.wording import one_line

_WIDTH = 118
_DIFF_LINES = 200


def explain(home: Path, number: int | None = None, proposal: int | None = None) -> dict[str, Any]:
    """Return what the gates said of one candidate: of verdict `number`, or on `proposal`; by default the newest.

    Raises:
        ArchiveError: there is no run in `home`, or it cannot be read.
        BadInput: it has judged nobody, or not this one; the message says whom.
    """
    with closing(read_archive(home / "archive.db")) as archive:
        verdicts = list(archive.history(Verdict))
        wanted = _choose(home, verdicts, number, proposal)
        proposals = (found for found in archive.history(Proposal) if found.number == wanted.proposal)
        judged = next(proposals, None)
        parents = (made for made in archive.history(Generation) if made.number == wanted.incumbent)
        parent = next(parents, None)
        sources = sources_of(archive.identity)
    author, why = (str(judged.author), judged.why) if judged else ("", "")
    diff = changes(parent.design, judged.design, sources, _DIFF_LINES) if judged and parent else []
    return {
        "run_directory": str(home.absolute()),
        "verdict": wanted.number,
        "proposal": wanted.proposal,
        "author": author,
        "why": why,
        "incumbent": wanted.incumbent,
        "promoted": wanted.decision.promote,
        "reasons": [_plain(reason) for reason in wanted.decision.reasons],
        "diff": list(diff),
        "estimates": {name: dict(estimate) for name, estimate in wanted.estimates.items()},
    }


def _choose(home: Path, verdicts: Sequence[Verdict], number: int | None, proposal: int | None) -> Verdict:
    if not verdicts:
        raise BadInput(f"no candidate has been judged in {home}", "Let the run go on until its first sealed exam.")
    if number is None and proposal is None:
        return max(verdicts, key=lambda verdict: verdict.number)
    for verdict in verdicts:
        if (verdict.number if proposal is None else verdict.proposal) == (number if proposal is None else proposal):
            return verdict
    kind, known = ("verdict", "number") if proposal is None else ("verdict on proposal", "proposal")
    there = ", ".join(str(getattr(verdict, known)) for verdict in verdicts[-12:])
    raise BadInput(f"no {kind} {number if proposal is None else proposal} in {home}", f"The newest are: {there}.")


def _plain(reason: Reason) -> dict[str, Any]:
    return {"gate": reason.gate, "passed": reason.passed, "text": reason.text, "numbers": dict(reason.numbers)}


def in_words(found: Mapping[str, Any]) -> str:
    """Return the verdict as a table: one row per reason, with its numbers."""
    outcome = "promoted" if found["promoted"] else "not promoted"
    failed = sum(not reason["passed"] for reason in found["reasons"])
    head = (
        f"verdict {found['verdict']}: proposal {found['proposal']} by {found['author'] or 'unknown'} "
        f"against generation {found['incumbent']}, {outcome}"
    )
    lines = [one_line(head), *([one_line(found["why"])] if found["why"] else [])]
    table = Table(title=f"{len(found['reasons'])} reasons, {failed} against", title_justify="left", show_lines=True)
    for column, ratio in (("gate", 2), ("", 1), ("what it saw", 6), ("numbers", 4)):
        table.add_column(column, ratio=ratio, min_width=2, no_wrap=column == "")
    for reason in found["reasons"]:
        numbers = "\n".join(f"{name} {value:.4g}" for name, value in reason["numbers"].items())
        cells = (reason["gate"], "yes" if reason["passed"] else "NO", reason["text"], numbers)
        table.add_row(*(Text(terminal(cell)) for cell in cells))  # `Text`: nobody's words are read as markup
    page = io.StringIO()
    Console(file=page, width=_WIDTH, force_terminal=False, color_system=None).print(table)
    code = ["", "What its code changes against its parent's:", *found["diff"]] if found["diff"] else []
    return "\n".join([*lines, page.getvalue().rstrip(), *code])
