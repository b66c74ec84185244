"""A scripted person, who uses the same commands as a real one after a fixed delay."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from instar.archive import read_archive
from instar.contracts.errors import InstarError
from instar.contracts.oversight import Answer, Approval, Right
from instar.session import person


class Person:
    """Answers every question of a run, each `delay` seconds after it was asked, from a thread of its own.

    Attributes:
        answers: what was decided, by question.
        errors: what the commands refused.
        late: questions that were gone before the answer: the run goes on while a person thinks.
    """

    def __init__(
        self,
        home: Path,
        delay: float = 0.1,
        decide: Callable[[Approval], Answer] | None = None,
        rights: Sequence[Right] = tuple(Right),
    ) -> None:
        self.home, self.delay, self.rights = home, delay, rights
        self.answers: dict[int, Answer] = {}
        self.errors: list[str] = []
        self.late: list[int] = []
        self.pushes = 0
        self._decide = decide or (lambda _: Answer.APPROVED)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> Person:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _live(self) -> None:
        while not self._over.wait(0.02):
            for approval in questions(self.home):
                if approval.number in self.answers or approval.right not in self.rights:
                    continue
                if time.time() >= approval.asked_at + self.delay:
                    self._speak(approval)

    def _speak(self, approval: Approval) -> None:
        self.answers[approval.number] = answer = self._decide(approval)
        try:
            if approval.right is Right.GOAL:
                person.goal(self.home, "up to 4")
            elif approval.right is Right.PROPOSE:
                self.pushes += 1
                person.propose(self.home, [f"push={1 - 0.001 * self.pushes}"], [], "0.7,0.5,0.1", "push harder")
            else:
                person.answer(self.home, approval.number, answer, "" if answer is Answer.APPROVED else "no")
        except InstarError as error:
            if "no longer exists" in str(error):
                self.late.append(approval.number)
            else:
                self.errors.append(str(error))


def questions(home: Path) -> list[Approval]:
    """Return the open questions of a run, none before there is an archive."""
    try:
        with read_archive(home / "archive.db") as archive:
            return [approval for approval in archive.history(Approval) if approval.answer is Answer.OPEN]
    except InstarError:
        return []
