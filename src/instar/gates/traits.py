"""The gate on a trait's reproduction number: nothing is promoted unless a planted trait was shown to die out.

The number belongs to the lab's way of teaching, not to one candidate: it is measured once, before the loop begins
(`instar.studies.traits`), and stands in the run directory. A missing or malformed measurement means no.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar.contracts.errors import ArtefactError, BadInput
from instar.contracts.gate import Gate
from instar.contracts.records import Decision, Evidence, Reason
from instar.executors.artefacts import read_json


class TraitsGate:
    """Passes everyone while the measured R has its whole 95 % interval below 1, and no one otherwise."""

    name = "traits"

    def __init__(self, measured: Path) -> None:
        self._measured = measured

    def judge(self, evidence: Evidence) -> Decision:
        """Return the standing verdict on the lab's way of teaching."""
        del evidence
        try:
            r = read_json(self._measured)["r"]
            value, low, high = (float(r[end]) for end in ("value", "low", "high"))
        except (ArtefactError, KeyError, TypeError, ValueError):
            return self._say(False, f"no reproduction number below 1 was measured ({self._measured.name})", {})
        numbers = {"r": value, "r_low": low, "r_high": high}
        below = math.isfinite(high) and low <= value <= high < 1.0
        words = "a planted trait dies out" if below else "not shown to be below 1"
        return self._say(below, f"R = {value:.2f} ({low:.2f} to {high:.2f}): {words}", numbers)

    def _say(self, passed: bool, text: str, numbers: Mapping[str, float]) -> Decision:
        return Decision((Reason(self.name, passed, text, numbers),))


def create(options: Mapping[str, Any]) -> Gate:
    """Make the gate; `measured` is the file that `instar.studies.traits` leaves. Raises `BadInput`."""
    if options.keys() != {"measured"}:
        raise BadInput(f"gate 'traits': options {sorted(options)}", "Give 'measured', the path of the measurement.")
    return TraitsGate(Path(options["measured"]))
