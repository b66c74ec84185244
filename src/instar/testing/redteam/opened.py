"""Tries attacks with their defence off, in a process of its own: what an attack changes there ends with it.

`python -m instar.testing.redteam.opened OFF NAME...` prints one line of JSON for each attack.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from instar.testing.redteam.attack import Attack, Off, make_range, remove

SHUT = (Off.NEVER, Off.NOTHING)
_SECONDS = 180.0  # for one attack, the start of its range included


def tried(attacks: Sequence[Attack]) -> dict[str, str]:
    """Try each attack without its defence; return what came of it by name.

    "got through" shows that the attack works; "blocked" that something else stops it, so that it proves nothing of the
    defence; "not decided" a time-out; "not tried: ..." why not.
    """
    found = {one.name: said for one in attacks if (said := _not_tried(one))}
    left = [one for one in attacks if one.name not in found]
    for off, group in groupby(sorted(left, key=lambda one: one.off.name), key=lambda one: one.off):
        names = [one.name for one in group]
        alone = off is Off.OWN_PROCESS  # there, one attack changes what the next one finds
        for some in [[name] for name in names] if alone else [names]:
            found |= dict.fromkeys(some, "not decided") | dict(_in_a_child(off, some))
    return found


def _not_tried(attack: Attack) -> str:
    if not attack.detectable:
        return "not tried: no defence is claimed"
    if attack.off in SHUT:
        return f"not tried: {attack.off}"
    if attack.root and os.geteuid() != 0:
        return "not tried: an ordinary user has no right to it"
    return ""


def _in_a_child(off: Off, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    command = [sys.executable, "-m", __name__, off.name, *names]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=_SECONDS * len(names), check=False,
        )  # fmt: skip
        said = done.stdout
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""
    for line in said.splitlines():
        try:
            name, outcome = json.loads(line)
        except (ValueError, TypeError):
            continue  # an attack printed it
        if name in names:
            yield name, str(outcome)


def main(arguments: Sequence[str]) -> int:
    """Try the named attacks with their defence off, and print what came of each."""
    from instar.testing.redteam import tour

    off, *names = arguments
    place = Path(tempfile.mkdtemp(prefix="instar-redteam-"))
    out = os.fdopen(os.dup(1), "w")
    try:
        with make_range(place / "range", Off[off]) as range_:
            for attack in tour.chosen(names):
                seen: Any = tour.attempted(attack, range_)
                said = "not decided" if not seen.decided else "got through" if seen.through else "blocked"
                print(json.dumps([attack.name, said]), file=out, flush=True)
    finally:
        remove(place)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
