"""One thought: ask, read the answer, show the model its mistake once, and put on record what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from instar.builders.calls import FAILED, PROPOSED, REFUSED, Calls
from instar.builders.llm.answers import AnswerError, LlmAnswer, read, schema
from instar.builders.llm.client import Bill, CallError, Client, Closed, Message, TooDear, clean
from instar.builders.llm.options import LlmOptions
from instar.builders.llm.prompts import Prompt
from instar.contracts.records import Brief, Spend
from instar.contracts.space import Space


@dataclass(frozen=True)
class Thought:
    """What came of one thought.

    Attributes:
        parent: number of the generation that it was thought about.
        answer: None where nothing usable came.
        reason: why not, in one line.
        spend: what it cost, in any case.
        failed: whether it counts as the server's or the model's failure; lack of money and the run's end do not.
    """

    parent: int
    answer: LlmAnswer | None
    reason: str
    spend: Spend
    failed: bool


class LlmThinker:
    """Thinks one thought at a time, in whatever thread it is called from."""

    def __init__(self, options: LlmOptions, client: Client, prompt: Prompt, calls: Calls, space: Space) -> None:
        self._options, self._client, self._prompt = options, client, prompt
        self._calls, self._space = calls, space

    def think(self, brief: Brief, messages: list[Message]) -> Thought:
        """Return what came of asking for one proposal. Never raises: whatever goes wrong costs one thought."""
        bill = Bill()
        try:
            return Thought(brief.incumbent.number, self._answer(brief, messages, bill), "", bill.spend, failed=False)
        except (TooDear, Closed) as error:
            reason, failed = str(error), False
        except (CallError, AnswerError) as error:
            reason, failed = str(error), True
        except Exception as error:  # the edge of a thread: what no one foresaw must not end the run
            reason, failed = clean(f"{type(error).__name__}: {error}", self._options.key), True
            self._note(FAILED, bill, reason)
        return Thought(brief.incumbent.number, None, reason, bill.spend, failed)

    def _answer(self, brief: Brief, messages: list[Message], bill: Bill) -> LlmAnswer:
        """Ask, and once more where the answer is refused. Raises `CallError` or `AnswerError`."""
        text = self._ask(brief, messages, bill)
        try:
            return self._read(brief, text, bill)
        except AnswerError as error:
            refused = error
        try:
            text = self._ask(brief, [*messages, *self._prompt.repair(text, str(refused))], bill)
        except CallError as error:
            raise AnswerError(f"{refused} (and no repair: {error})") from None
        return self._read(brief, text, bill)

    def _ask(self, brief: Brief, messages: list[Message], bill: Bill) -> str:
        wanted = schema(self._space, tuple(brief.incumbent.design.files))
        try:
            return self._client.ask(messages, wanted, bill)
        except (TooDear, Closed):
            raise
        except CallError as error:
            self._note(FAILED, bill, str(error))
            raise

    def _read(self, brief: Brief, text: str, bill: Bill) -> LlmAnswer:
        """Read an answer, and put it on record."""
        key = self._options.key
        try:
            answer = read(text, self._space, brief.incumbent.design, self._options.max_file_bytes)
            if len(key) >= 8 and any(key in part for part in (answer.why, *answer.files.values())):
                raise AnswerError("the answer repeats the server's key")
        except AnswerError as error:
            self._note(REFUSED, bill, str(error), text)
            raise
        self._note(PROPOSED, bill)
        return answer

    def _note(self, outcome: str, bill: Bill, reason: str = "", answer: str = "") -> None:
        spend = bill.spend
        self._calls.note(
            outcome, reason, answer, model=self._options.model, prompt=self._prompt.version,
            usd=spend.usd, tokens=spend.tokens, seconds=round(spend.seconds, 3),
        )  # fmt: skip
