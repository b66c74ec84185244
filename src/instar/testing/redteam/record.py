"""Attacks on the record: ledger, archive, and the pages that people read."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from instar.archive import open_archive
from instar.contracts.archive import Reservation
from instar.contracts.errors import LedgerError
from instar.contracts.records import Usage
from instar.contracts.text import printable
from instar.exams.seal import open_seal
from instar.executors import job_directory as layout
from instar.ledger import open_ledger, verify
from instar.report.document import Paragraph, to_html, to_markdown
from instar.testing.redteam.attack import Off, Range, Seen
from instar.testing.redteam.register import attack

# --- ledger and archive ---------------------------------------------------------------------------------------------


def _tamper(range_: Range, change: Callable[[list[str]], list[str]], *, published: bool = False) -> Seen:
    """Write a ledger, change its file, and verify it; without the check, read it as a plain file of JSON lines."""
    directory = range_.fresh("ledger")
    with open_ledger(directory) as ledger:
        for number in range(5):
            root = ledger.append(f"key {number}", {"kind": "verdict", "promote": number == 3}).root
    path = directory / "chain.jsonl"
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    if not range_.defended:
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        return Seen(bool(entries), f"{len(entries)} entries were believed")
    found = verify(directory)
    problem = found.problem or ("its root is not the published one" if published and found.root != root else "")
    return Seen(not problem, problem or "it verifies")


@attack("ledger", "each line carries the hash of the one before")
def edited_entry(range_: Range) -> Seen:
    """Turn a refusal into a promotion in the log."""
    return _tamper(range_, lambda lines: [line.replace('"promote":false', '"promote":true') for line in lines])


@attack("ledger", "each line carries the hash of the one before")
def backdated_entry(range_: Range) -> Seen:
    """Put an entry before others."""
    return _tamper(range_, lambda lines: [lines[4], *lines[:4]])


@attack("ledger", "indices and keys are unique")
def replayed_entry(range_: Range) -> Seen:
    """Put an entry in twice."""
    return _tamper(range_, lambda lines: [*lines, lines[3]])


@attack("ledger", "held against a root that someone else has kept")
def cut_off_end(range_: Range) -> Seen:
    """Remove the newest entries whole."""
    return _tamper(range_, lambda lines: lines[:3], published=True)


def _forked(lines: list[str]) -> list[str]:
    """Return another history, with hashes that hold."""
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        with open_ledger(Path(place)) as ledger:
            for line in lines:
                ledger.append(json.loads(line)["key"], {"kind": "verdict", "promote": True})
        return (Path(place) / "chain.jsonl").read_text().splitlines(keepends=True)


@attack("ledger", "held against a root that someone else has kept")
def forked_history(range_: Range) -> Seen:
    """Write the whole log anew, with hashes that hold."""
    return _tamper(range_, _forked, published=True)


@attack("ledger", "nothing: without a root kept elsewhere the new history is as good as the old", detectable=False)
def forked_history_without_witness(range_: Range) -> Seen:
    """Write the whole log anew where nobody has kept a root."""
    return _tamper(range_, _forked)


@attack("ledger", "the ledger's first entry commits to the sealed key", Off.NOTHING)
def swapped_key(range_: Range) -> Seen:
    """Replace the sealed key by one whose questions are known."""
    home = range_.fresh("sealed")
    committed = open_seal(home / "seal.key").commitment
    (home / "seal.key").write_bytes(bytes(32))
    same = open_seal(home / "seal.key").commitment == committed
    return Seen(same, "the commitment still holds" if same else "the commitment does not hold, which a resume refuses")


@attack("archive", "settled once per idempotency key", Off.NOTHING)
def spend_twice(range_: Range) -> Seen:
    """Be credited twice for one job after a crash, and for one that was never reserved."""
    path = range_.fresh("archive") / "archive.db"
    for _ in range(2):
        with closing(open_archive(path, {"lab": "drill"})) as archive:
            archive.record(reserve=[Reservation("job", "improve", 5.0)])
            archive.record(settle={"job": Usage(3.0, 3.0), "stranger": Usage(100.0, 1.0)})
            total = archive.account().total.cpu_seconds
    return Seen(total != 3.0, f"{total:g} of 3 CPU seconds are on the account")


@attack("ledger", "a known key with another statement is an error that names the key", Off.NOTHING)
def append_twice(range_: Range) -> Seen:
    """Enter a statement again under its key, with other words."""
    with open_ledger(range_.fresh("ledger")) as ledger:
        first = ledger.append("verdict", {"promote": False})
        try:
            second = ledger.append("verdict", {"promote": True})
        except LedgerError as error:
            return Seen(False, f"refused: {error}")
        return Seen(second != first, "the old receipt came back" if second == first else "a second entry was made")


# --- what people read -----------------------------------------------------------------------------------------------

_SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"
_ESCAPES = "\x1b[2J\x1b]0;promoted\x07 +99 points\r\u202edetomorp"


@attack("report", "every block escapes its text, and the page forbids scripts")
def script_in_a_reason(range_: Range) -> Seen:
    """Run a script in the browser of whoever reads the report."""
    page = to_html([Paragraph(_SCRIPT)], _SCRIPT) if range_.defended else f"<p>{_SCRIPT}</p>"
    return Seen("<script" in page or "<img src=x" in page, "text stays text" if range_.defended else "raw")


@attack("report", "all that Markdown acts on is escaped")
def markdown_in_a_reason(range_: Range) -> Seen:
    """Put a picture from outside and a heading into the Markdown report."""
    text = "# promoted ![x](http://outside/x.png) | <b>"
    page = to_markdown([Paragraph(text)]) if range_.defended else text
    return Seen(page.startswith("#") or "![x](" in page or "<b>" in page, page.strip())


@attack("report", "only printable characters reach a terminal")
def escapes_in_a_reason(range_: Range) -> Seen:
    """Move the cursor of whoever looks on, and turn the direction of writing."""
    shown = printable(_ESCAPES) if range_.defended else _ESCAPES
    return Seen(not shown.isprintable(), "nothing unprintable is left" if shown.isprintable() else "raw")


@attack("report", "a log's last line is made printable before it is quoted")
def escapes_in_a_log(range_: Range) -> Seen:
    """Do the same through the last line of a failed job's log."""
    shot = range_.shoot("shout", {"text": _ESCAPES})
    log = shot.outcome.output.parent / layout.LOG
    shown = shot.outcome.reason if range_.defended else log.read_text(errors="replace")
    range_.sweep(shot)
    return shot.seen(not shown.isprintable(), printable(shown))
