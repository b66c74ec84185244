"""The builder itself: what is asked when, what a failure costs, and who proposes meanwhile.

It never waits: requests run in threads of their own, and `propose` hands out what has come in. Each failure costs one
proposal, which the embedded builder (the incumbent's) makes in its place; after several failures in a row that one
takes over for a while, and for good once the next call's worst case exceeds what is left of the money.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from instar.builders.embedding import Hosting
from instar.builders.llm.answers import LlmAnswer, schema
from instar.builders.llm.client import Client, Message
from instar.builders.llm.history import TrialHistory
from instar.builders.llm.options import LlmOptions
from instar.builders.llm.prompts import Prompt
from instar.builders.llm.thinking import LlmThinker, Thought
from instar.builders.spend_cap import SpendCap
from instar.contracts.builder import Builder
from instar.contracts.records import Author, Brief, Design, Forecast, Observation, Proposal, Spend
from instar.contracts.space import Space

LONGEST_PAUSE = 3600.0
_CLOSING_SECONDS = 2.0  # that threads are waited for; what is still under way then ends with the process


class LlmBuilder(Hosting):
    """Asks a language model for designs (`Deliberating`); heritable by the builder embedded in it.

    Args:
        lab: name of the lab that the designs are for.
        lab_space: the lab's ranges.
        options: see `options`.
        embedded: who chooses goals, proposes where the model can't, and is handed on with each generation.
        thinker: asks the model.
        client: what it asks with, for prices and to be closed.
        prompt: makes the messages.
        spend_cap: where the money comes from.
        clock: monotonic seconds.
    """

    name = "llm"
    edits_files = True

    def __init__(
        self, lab: str, lab_space: Space, options: LlmOptions, embedded: Builder, *,
        thinker: LlmThinker, client: Client, prompt: Prompt, spend_cap: SpendCap,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        super().__init__(embedded)
        self._lab, self._lab_space, self._options = lab, lab_space, options
        self._thinker, self._client, self._prompt = thinker, client, prompt
        self._spend_cap, self._clock = spend_cap, clock
        self._history = TrialHistory()
        self._arrived: SimpleQueue[Thought] = SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._ready: deque[Thought] = deque()
        self._owed: deque[str] = deque()  # reasons of failures, each of which costs a proposal
        self._carried = Spend()  # of failures, on its way to the next proposal that a model made
        self._pauses = Pauses(options.failures, options.pause)
        self._told = ""  # the reason, but for its figures, that stands in full in a proposal already
        self._tried: deque[tuple[int, str]] = deque(maxlen=256)  # parent and digest of designs handed out or observed
        self._closed = False

    # --- what others tell and ask -----------------------------------------------------------------------------------

    def observe(self, observation: Observation) -> None:
        """Remember one finished trial, for the prompt and for the embedded builder."""
        self._history.add(observation)
        self._tried.append((observation.proposal.parent, observation.proposal.design.digest))
        super().observe(observation)

    @property
    def waits_for(self) -> str | None:
        """Return "llm" while every thought is still under way; None where something can be handed out."""
        return "llm" if self._threads and self._arrived.empty() and not self._ready and not self._owed else None

    def close(self) -> None:
        """Give up what is under way. Safe to call twice."""
        self._closed = True
        self._client.close()
        ends = self._clock() + _CLOSING_SECONDS
        for thread in list(self._threads):
            thread.join(max(0.0, ends - self._clock()))

    # --- proposals --------------------------------------------------------------------------------------------------

    def propose(self, brief: Brief) -> Sequence[Proposal]:
        """Return what has come in, at most `brief.count`, and start new thoughts where there is room for them."""
        self._take_in()
        proposals: list[Proposal] = []
        while len(proposals) < brief.count:
            asked = brief.after(proposals)
            if self._ready:
                proposals += self._proposed(asked, self._ready.popleft())
            elif self._owed:
                proposals.append(self._instead(asked, self._owed.popleft()))
            else:
                why_not = self._think(asked)
                if why_not is None or (self._threads and not self._pauses.reason(self._clock())):
                    break  # what is under way may yet bring a proposal, or give money back
                proposals.append(self._instead(asked, why_not))
        if brief.count:
            self._think(brief.after(proposals))
        return proposals

    def _take_in(self) -> None:
        """Note what has come of the thoughts that have ended."""
        while True:
            try:
                thought = self._arrived.get_nowait()
            except Empty:
                break
            if thought.answer is not None:
                self._pauses.succeeded()
                self._ready.append(thought)
                continue
            self._carried += thought.spend
            if thought.failed:
                self._owed.append(thought.reason)
                self._pauses.failed(thought.reason, self._clock())
        self._threads = {thread for thread in self._threads if thread.is_alive()}

    def _think(self, brief: Brief) -> str | None:
        """Start as many thoughts as there is room and money for; return why none more can be, or None."""
        while not self._closed and len(self._threads) + len(self._ready) < self._pauses.capacity(self._options.ahead):
            paused = self._pauses.reason(self._clock())
            if paused:
                return paused
            messages = self._messages(brief)
            price, left = self._client.price(messages, self._schema(brief)), self._spend_cap.left
            if left is not None and price > left:
                return f"the next call could cost {price:.4g} USD, and {left:.4g} USD is left"
            self._start(brief, messages)
        return "the builder is closed" if self._closed else None

    def _start(self, brief: Brief, messages: list[Message]) -> None:
        def run() -> None:
            self._arrived.put(self._thinker.think(brief, messages))

        thread = threading.Thread(target=run, name="llm", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _messages(self, brief: Brief) -> list[Message]:
        left = self._spend_cap.left
        budget = "no bound on money" if left is None else f"{left:.4g} USD left for asking you"
        return [*self._prompt.messages(
            brief, self._lab, self._lab_space, self._history, budget, self._options.max_file_bytes
        )]  # fmt: skip

    def _schema(self, brief: Brief) -> Mapping[str, Any]:
        return schema(self._lab_space, tuple(brief.incumbent.design.files))

    def _proposed(self, brief: Brief, thought: Thought) -> list[Proposal]:
        """Make a proposal of an answer; one that is under way already is owed instead."""
        answer = thought.answer
        assert answer is not None
        design = Design(self._lab, {**answer.parameters, **self.own_settings(brief)}, answer.files)
        parent = brief.incumbent.number
        pending = any(design.digest == other.digest for other in brief.pending)
        if pending or (parent, design.digest) in self._tried:
            self._carried += thought.spend
            self._owed.append("it proposed a design that is under way or was tried in this generation")
            return []
        self._tried.append((parent, design.digest))
        spend, self._carried = self._carried + thought.spend, Spend()
        late = f", thought about generation {thought.parent}" if thought.parent != parent else ""
        return [Proposal(
            brief.first, design, Author(self.name, self._options.model), parent, brief.goal,
            f"{answer.why} ({self._prompt.version}{late})", _forecast(answer, brief, bool(late)), spend,
        )]  # fmt: skip

    def _instead(self, brief: Brief, reason: str) -> Proposal:
        """Let the embedded builder propose; the reason stands in full where it is new."""
        kind = re.sub(r"\d[\d.e+-]*", "#", reason)  # a price that differs a little is no other reason
        said = "for the same reason" if kind == self._told else reason
        self._told = kind
        return self.replaced(brief, f"{self.name}@{self._options.model}", said)


class Pauses:
    """After so many failures in a row the model is left alone, for twice as long each time; then one thought is tried.

    Args:
        failures: how many in a row.
        seconds: of the first pause.
    """

    def __init__(self, failures: int, seconds: float) -> None:
        self._limit, self._seconds = failures, seconds
        self._failures, self._pauses, self._until, self._last = 0, 0, -math.inf, ""

    def failed(self, reason: str, now: float) -> None:
        """Note a failure."""
        self._failures += 1
        self._last = reason
        if self._failures >= self._limit and now >= self._until:
            pause = min(LONGEST_PAUSE, self._seconds * 2.0 ** min(self._pauses, 32))
            self._until, self._pauses = now + pause, self._pauses + 1
            self._said = f"left alone for {pause:g} s after {self._failures} failures in a row, the last: {reason}"

    def succeeded(self) -> None:
        """Note an answer: all is well again."""
        self._failures = self._pauses = 0
        self._until = -math.inf

    def reason(self, now: float) -> str | None:
        """Return why the model is left alone now, or None."""
        return self._said if now < self._until else None

    def capacity(self, ahead: int) -> int:
        """Return how many thoughts may be under way: one, where it isn't known whether the server is well again."""
        return 1 if self._failures >= self._limit else ahead


def _forecast(answer: LlmAnswer, brief: Brief, late: bool) -> Forecast:
    """Return the model's forecast; what it said of an older incumbent is held against the new one by its own mean."""
    return (
        answer.forecast.held_against(brief.incumbent_score)
        if late and brief.incumbent_score is not None
        else answer.forecast
    )
