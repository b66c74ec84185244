"""Near-duplicates are refused before any compute is spent: designs that were tried, written differently.

Only designs with files are looked at, and only in labs whose trainings depend on nothing but design and seed; where a
training begins from its parent's weights, only against trials under the same parent. In a self-teaching lab the same
recipe on fresh experience is another trial.
"""

from __future__ import annotations

from collections import OrderedDict

from instar.builders.code.normal import fingerprint
from instar.contracts.abilities import SelfTeaching
from instar.contracts.lab import Lab
from instar.contracts.records import Design, Generation, Proposal

PATIENCE = 25
"""Near-duplicates in a row, after which a run ends: its builder has nothing new to say."""
_REMEMBERED = 100_000


class Tried:
    """What was tried, by the fingerprint of its program.

    Attributes:
        refused: near-duplicates since the last design that was none.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab, self._names = lab, tuple(lab.space.ranges)
        self._queries = not isinstance(lab, SelfTeaching)
        self._free = not lab.profile.inherits
        self._known: OrderedDict[str, int] = OrderedDict()  # fingerprint -> proposal, 0 for the founder
        self._marks: dict[int, str] = {}
        self.refused = 0

    def twin(self, proposal: Proposal) -> str | None:
        """Say what a proposal is a near-duplicate of, or None; then it counts as tried from now on."""
        mark = self._mark(proposal.design, proposal.parent)
        if mark is None:
            return None
        if mark in self._known and self._known[mark] != proposal.number:
            self.count(True)
            of = f"proposal {self._known[mark]}" if self._known[mark] else "the seed design"
            return (
                f"a near-duplicate of {of}: the same parameters, and code that differs in layout and comments at most"
            )
        self.count(False)
        self._keep(mark, proposal.number)
        return None

    def count(self, refused: bool) -> None:
        """Go on with a row of near-duplicates, or end it."""
        self.refused = self.refused + 1 if refused else 0

    def found(self, generation: Generation) -> None:
        """Note the founder, where its training was a whole one."""
        mark = self._mark(generation.design, 0)
        if mark is not None and self._free:
            self._keep(mark, 0)

    def note(self, proposal: Proposal) -> None:
        """Note a proposal on record that was tried."""
        mark = self._mark(proposal.design, proposal.parent)
        if mark is not None and mark not in self._known:
            self._keep(mark, proposal.number)

    def forget(self, proposal: int) -> None:
        """Let a proposal be made again: its trial came to no end."""
        mark = self._marks.pop(proposal, None)
        if mark is not None and self._known.get(mark) == proposal:
            del self._known[mark]

    def _keep(self, mark: str, number: int) -> None:
        self._known[mark], self._marks[number] = number, mark
        while len(self._known) > _REMEMBERED:
            _, old = self._known.popitem(last=False)
            self._marks.pop(old, None)

    def _mark(self, design: Design, parent: int) -> str | None:
        if not design.files or not self._queries:
            return None
        files = self._lab.sources(design)
        own = {name: design.parameters[name] for name in self._names if name in design.parameters}
        return fingerprint(own, files) + ("" if self._free else f":{parent}")
