"""Runs the attacks and the honest controls on this machine, and says what came of them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from instar.contracts.errors import BadInput, InstarError
from instar.contracts.text import printable
from instar.sandbox.probe import require
from instar.stats.intervals import clopper_pearson
from instar.testing.redteam import (
    accounts,
    artefacts,
    exams,
    honest,
    judges,
    letterboxes,
    limits,
    network,
    outputs,
    readers,
    record,
    repositories,
    sandboxed,
    speedrun,
)
from instar.testing.redteam.attack import Attack, Range, Seen, make_range, remove
from instar.testing.redteam.register import attacks_in

Tell = Callable[[str], object]

_MODULES = (
    sandboxed,
    limits,
    accounts,
    network,
    letterboxes,
    outputs,
    readers,
    artefacts,
    exams,
    judges,
    record,
    repositories,
    speedrun,
)


def attacks() -> tuple[Attack, ...]:
    """Return every attack that is known, by layer as they stand in their modules."""
    return tuple(attack for module in _MODULES for attack in attacks_in(module.__name__))


def chosen(names: Sequence[str]) -> tuple[Attack, ...]:
    """Return the attacks of those names, all of them without any. Raises `BadInput` for an unknown one."""
    known = {attack.name: attack for attack in attacks()}
    for name in names:
        if name not in known:
            raise BadInput(f"unknown attack '{name}'", f"Known: {', '.join(known)}.")
    return tuple(known[name] for name in dict.fromkeys(names)) or attacks()


def tour(only: Sequence[str] = (), tell: Tell = str) -> dict[str, Any]:
    """Try the attacks (all, or some), and with all of them the honest controls; return strict JSON.

    Raises:
        BadInput: an unknown name.
        MissingPart: no sandbox can be built here.
    """
    wanted, began = chosen(only), time.monotonic()
    require()
    place = Path(tempfile.mkdtemp(prefix="instar-redteam-"))
    try:
        with make_range(place / "range") as range_:
            found = [_entry(attack, attempted(attack, range_), tell) for attack in wanted]
        controls = None if only else _controls(place / "honest", tell)
    finally:
        remove(place)
    must = [one for one in found if one["detectable"]]
    held = all(one["blocked"] for one in must) and (controls is None or controls["passed"] == controls["n"])
    return {
        "holds": held,
        "user": "root" if os.geteuid() == 0 else "ordinary",
        "executor": "local",
        "attacks": found,
        "tried": len(found),
        "blocked": sum(one["blocked"] for one in found),
        "through": sum(not one["blocked"] for one in must),
        "undetectable": len(found) - len(must),
        "controls": controls,
        "wall_seconds": time.monotonic() - began,
    }


def attempted(attack: Attack, range_: Range) -> Seen:
    """Try one attack; one that breaks has not been shown to be stopped."""
    try:
        return attack.attempt(range_)
    except (InstarError, OSError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        return Seen(True, f"the attempt broke: {type(error).__name__}: {error}")


def _entry(attack: Attack, seen: Seen, tell: Tell) -> dict[str, Any]:
    blocked = attack.detectable and not seen.through
    tell(f"{_verdict(attack.detectable, blocked):<13}{attack.name}: {printable(seen.outcome, 300)}")
    return {
        "name": attack.name,
        "layer": attack.layer,
        "what": attack.what,
        "expected": attack.expected,
        "outcome": printable(seen.outcome, 300),
        "blocked": blocked,
        "detectable": attack.detectable,
        "incidents": [printable(incident, 300) for incident in seen.incidents],
    }


def _verdict(detectable: bool, blocked: bool) -> str:
    if not detectable:
        return "undetectable"
    return "blocked" if blocked else "GOT THROUGH"


def _controls(place: Path, tell: Tell) -> dict[str, Any]:
    with make_range(place, preload=honest.preload()) as range_:
        found = list(honest.controls(range_))
    failed = [control for control in found if not control.passed]
    for control in failed:
        tell(f"STOPPED      honest {control.name}: {printable(control.said, 300)}")
    return {
        "n": len(found),
        "passed": len(found) - len(failed),
        "false_positives": clopper_pearson(len(failed), len(found)).to_json(),
        "stopped": [{"name": control.name, "said": printable(control.said, 300)} for control in failed],
    }


def words(found: dict[str, Any]) -> str:
    """Return the figures in words, after what got through and what cannot be seen."""
    lines = [f"GOT THROUGH: {one['name']} ({one['what']}): {one['outcome']}"
             for one in found["attacks"] if one["detectable"] and not one["blocked"]]  # fmt: skip
    blind = [one["name"] for one in found["attacks"] if not one["detectable"]]
    if blind:
        lines.append(f"Not reliably detectable, so not counted as blocked: {', '.join(blind)}.")
    lines.append(f"{found['blocked']} of {found['tried'] - found['undetectable']} attacks were blocked, as "
                 f"{found['user']} user, in {found['wall_seconds']:.0f} s.")  # fmt: skip
    if found["controls"] is not None:
        rate = found["controls"]["false_positives"]
        lines.append(f"{found['controls']['passed']} of {found['controls']['n']} honest controls passed: at most "
                     f"{100 * rate['high']:.1f} % are stopped wrongly (95 %, Clopper-Pearson).")  # fmt: skip
    return "\n".join(lines)
