"""Builder `agent`: asks a coding agent for designs, one work tree each, and goes on without it where it fails.

The agent works in a process of its own, in the sandbox; the loop keeps its slots busy meanwhile and decides what runs
next. An answer that does not hold (stalled, crashed, asking, changing nothing or what may not be changed) is asked for
once more, then replaced by a proposal of the embedded builder: a fault costs one proposal. The embedded builder also
chooses goals, learns from every trial, and is retrained with each generation like the incumbent that it is.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from instar.builders.agent.accounts import UsageReport
from instar.builders.agent.brief import AGAIN, PROMPT, write_brief
from instar.builders.agent.calling import Caller, Ended, SandboxedCaller
from instar.builders.agent.journal import CallJournal
from instar.builders.agent.options import Terms, terms
from instar.builders.agent.worktree import Edit, check_names, diff, lay_out, take_back
from instar.builders.embedding import Hosting, stand_in
from instar.builders.outside import MOST_WORDS
from instar.builders.spend_cap import SpendCap
from instar.contracts.builder import Builder, BuilderContext
from instar.contracts.errors import ArtefactError, InstarError
from instar.contracts.records import Author, Brief, Design, Forecast, Observation, Proposal, Spend
from instar.contracts.space import Parameters, Space
from instar.contracts.text import printable
from instar.contracts.units import size
from instar.executors.artefacts import write_bytes
from instar.sandbox import git, leftovers

WAITS_FOR = "agent"
JOURNAL, WORK = "calls.jsonl", "work"
_REMEMBERED = 2000  # trials that a brief may draw on
_CLOSE_SECONDS = 10.0


@dataclass(frozen=True)
class AgentAnswer:
    """What became of one question to the agent, over all its attempts.

    Attributes:
        asked: what was known when it was asked.
        calls: numbers of the calls that it took, for what they have cost.
        design: None where no attempt held.
        why: the agent's reason; or, without a design, what went wrong.
    """

    asked: Brief
    calls: tuple[int, ...]
    design: Design | None
    forecast: Forecast | None
    why: str


class AgentBuilder(Hosting):
    """Builds with a coding agent (`Deliberating`, `Heritable` through the embedded builder).

    Args:
        lab: name of the lab that the designs are for.
        lab_space: the lab's ranges.
        agreed: which agent, on what terms.
        context: where its files are; what the run may spend.
        embedded: takes over where the agent fails.
        caller: runs the agent.
    """

    edits_files = True

    def __init__(
        self, lab: str, lab_space: Space, agreed: Terms, context: BuilderContext, embedded: Builder, caller: Caller
    ) -> None:
        super().__init__(embedded)
        self.name = f"agent:{agreed.label}"
        self._lab, self._lab_space, self._terms, self._caller = lab, lab_space, agreed, caller
        self._place = context.directory / agreed.label  # of several agents in a panel, each has its own
        leftovers.clear(self._place / WORK)  # of a former life
        self._journal = CallJournal(self._place / JOURNAL, SpendCap.of(context, self.name))
        self._left_over = tuple(self._journal.left_over)
        self._program = context.program
        self._seen: deque[Observation] = deque(maxlen=_REMEMBERED)
        self._answers: deque[AgentAnswer] = deque()
        self._thinking: set[threading.Thread] = set()
        self._lock = threading.Lock()  # over answers, journal and the set of threads
        self._closing = threading.Event()

    @property
    def waits_for(self) -> str | None:
        """The agent, while it works and no answer of it is in."""
        with self._lock:
            return WAITS_FOR if self._thinking and not self._answers else None

    def observe(self, observation: Observation) -> None:
        """Remember a trial for the next brief, and let the embedded builder learn from it."""
        self._seen.append(observation)
        super().observe(observation)

    def propose(self, brief: Brief) -> Sequence[Proposal]:
        """Return the answers that are in, as many as are wanted, and see to it that the agent works on the next."""
        proposals: list[Proposal] = []
        with self._lock:
            self._journal.confirm()
        here = replace(brief, count=1)
        while len(proposals) < brief.count:
            with self._lock:
                answer = self._answers.popleft() if self._answers else None
            if answer is None and self._ask(here):
                break  # it thinks: there is nothing yet
            proposals.append(self._told(here, answer) if answer else self._replaced(here, (), "its budget is spent"))
            here = replace(brief.after(proposals), count=1)
        if brief.count:
            self._ask(here)
        return proposals

    def close(self) -> None:
        """End every call with all its processes. Safe to call twice."""
        self._closing.set()
        for thread in list(self._thinking):
            thread.join(_CLOSE_SECONDS)
        super().close()

    # --- what becomes of answers ------------------------------------------------------------------------------------

    def _told(self, brief: Brief, answer: AgentAnswer) -> Proposal:
        """Make a proposal of an answer."""
        design, forecast, why = answer.design, answer.forecast, answer.why
        if design is None or forecast is None:
            return self._replaced(brief, answer.calls, why)
        design = replace(design, parameters={**design.parameters, **self.own_settings(brief)})
        if design.digest in {other.digest for other in brief.pending}:
            return self._replaced(brief, answer.calls, "its design is under way already")
        before = answer.asked.incumbent.number
        if before != brief.incumbent.number and brief.incumbent_score is not None:
            forecast = forecast.held_against(brief.incumbent_score)
            why = f"asked under generation {before}, p_better by its mean and deviation: {why}"
        why = f"{self._terms.label}: {why}"
        spend = self._spend(answer.calls)
        return Proposal(
            brief.first, design, Author(self.name), brief.incumbent.number, brief.goal, why, forecast, spend
        )

    def _replaced(self, brief: Brief, calls: Sequence[int], reason: str) -> Proposal:
        """Let the embedded builder propose in the agent's place; it is the author, and the agent's cost is not lost."""
        proposal, spend = self.replaced(brief, self.name, reason), self._spend(calls)
        with self._lock:
            self._journal.note(proposal=proposal.number, replaced_by=str(proposal.author), reason=reason)
        return replace(proposal, spend=proposal.spend + spend)

    def _spend(self, calls: Sequence[int]) -> Spend:
        """Return what an answer has cost, and once what a former life has left uncharged."""
        left_over, self._left_over = self._left_over, ()
        with self._lock:
            return self._journal.give([*left_over, *calls])

    # --- asking -----------------------------------------------------------------------------------------------------

    def _ask(self, brief: Brief) -> bool:
        """Start the agent until as many are thinking as wanted; return whether any is."""
        while not self._closing.is_set():
            with self._lock:
                if len(self._thinking) + len(self._answers) >= self._terms.options.ahead:
                    break
                call = self._hold(brief, 1)
                if call is None:
                    break
                seen = tuple(self._seen)
                thread = threading.Thread(target=self._think, args=(brief, seen, call), name=self.name, daemon=True)
                self._thinking.add(thread)
            thread.start()
        with self._lock:
            return bool(self._thinking or self._answers)

    def _hold(self, brief: Brief, attempt: int) -> int | None:
        about = {"agent": self.name, "generation": brief.incumbent.number, "attempt": attempt}
        return self._journal.hold(self._terms.bound or 0.0, **about)

    def _think(self, brief: Brief, seen: Sequence[Observation], first: int) -> None:
        """Ask until an attempt holds or none is left; runs in a thread of its own."""
        calls, edit = [first], None
        reasons: list[str] = []
        while True:
            try:
                edit = self._attempt(brief, seen, calls[-1], reasons[-1:])
                break
            except ArtefactError as error:
                reasons.append(error.what)
            if len(calls) > self._terms.options.retries or self._closing.is_set():
                break
            with self._lock:
                again = self._hold(brief, len(calls) + 1)
            if again is None:
                reasons.append("no money is left for another attempt")
                break
            calls.append(again)
        design = None if edit is None else Design(self._lab, edit.parameters, edit.files)
        why = "; then ".join(reasons) if edit is None else edit.why or "no reason given"
        answer = AgentAnswer(brief, tuple(calls), design, edit.forecast if edit else None, why)
        with self._lock:
            self._thinking.discard(threading.current_thread())
            self._answers.append(answer)

    def _attempt(self, brief: Brief, seen: Sequence[Observation], call: int, before: Sequence[str]) -> Edit:
        """Ask once. Raises `ArtefactError` where what comes back does not hold."""
        ended, fault, patch = None, "", ""
        prompt = PROMPT + "".join(AGAIN.format(reason=reason) for reason in before)
        try:
            with self._workspace(call) as workspace:
                text = self._furnish(workspace, brief, seen)
                ended = self._caller.call(workspace, prompt, self._closing.is_set)
                edit = self._taken(workspace, brief, text, ended)
                patch = diff(self._given(brief), edit)
            return edit
        except (InstarError, OSError) as error:  # no sandbox, no disk: it costs the proposal, and the loop goes on
            fault = self._hushed(printable(error.what if isinstance(error, ArtefactError) else error, MOST_WORDS))
            raise ArtefactError(fault) from None
        finally:
            self._settle(call, ended, fault, patch)

    def _furnish(self, workspace: Path, brief: Brief, seen: Sequence[Observation]) -> str:
        """Lay out the work tree; return the brief that lies in it."""
        parameters, files = self._given(brief)
        text = write_brief(
            self._lab, self._lab_space, brief, seen,
            most=self._terms.options.history, seconds=self._terms.limits.wall_seconds, usd=self._terms.bound,
            program=self._program,
        )  # fmt: skip
        lay_out(workspace / "tree", parameters, files, text)
        return text

    def _taken(self, workspace: Path, brief: Brief, text: str, ended: Ended) -> Edit:
        """Take back what the agent has left. Raises `ArtefactError` unless it makes a design that isn't there yet."""
        if ended.fault:
            raise ArtefactError(ended.fault)
        asked = _question(ended.account)
        also = f"; it asked: {asked}" if asked else ""
        most = size(self._terms.options.file_size)
        try:
            edit = take_back(workspace / "tree", self._given(brief)[1], text, self._lab_space, most)
        except ArtefactError as error:
            raise ArtefactError(error.what + also) from None
        if (edit.parameters, edit.files) == self._given(brief):
            raise ArtefactError(f"it changed nothing{also}")
        names = self._lab_space.ranges
        for other in brief.pending:
            recipe = {name: other.parameters.get(name) for name in names}
            if recipe == edit.parameters and other.files == edit.files:
                raise ArtefactError("its design is under way already")
        if any(secret in text for secret in self._terms.secrets for text in (*edit.files.values(), edit.why)):
            raise ArtefactError("a secret variable's value stands in its answer")
        return edit

    def _given(self, brief: Brief) -> tuple[Parameters, Mapping[str, str]]:
        design = brief.incumbent.design
        return {name: design.parameters[name] for name in self._lab_space.ranges}, design.files

    def _workspace(self, call: int) -> _Workspace:
        return _Workspace(self._place / WORK / str(call))

    def _settle(self, call: int, ended: Ended | None, fault: str, patch: str) -> None:
        """Write down what a call has cost and how it ended, with no secret in it."""
        agreed = self._terms
        if ended is None:  # it never began, or nothing is known of it
            spend, account = Spend(0.0), UsageReport()
        else:
            account = ended.account
            tokens = (account.tokens_in or 0) + (account.tokens_out or 0)
            spend = Spend(agreed.usd(account), tokens, ended.seconds)
        about = {"fault": self._hushed(fault), "refused_hosts": list(ended.refused) if ended else []}
        about["said"] = self._hushed(printable(account.said, MOST_WORDS))
        with self._lock:
            self._journal.settle(call, spend, **about)
        if patch:
            write_bytes(self._place / f"{call:04d}.diff", self._hushed(patch).encode(), sync=False)

    def _hushed(self, text: str) -> str:
        """Return a text without the values of the variables that were passed in."""
        for secret in self._terms.secrets:
            text = text.replace(secret, "[secret]")
        return text


class _Workspace:
    """A fresh directory that nobody else on this machine can look into, removed at the end whatever lies there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        self.path.mkdir(mode=0o700, parents=True)
        job_dir = self.path / "job"
        job_dir.mkdir()
        return job_dir

    def __exit__(self, *_: object) -> None:
        leftovers.clear(self.path)


def _question(account: UsageReport) -> str:
    """Return an agent's last words if they are a question, else ''."""
    said = account.said.strip()
    return printable(said[-200:]) if said.endswith("?") else ""


def create(lab_name: str, space: Space, rng: np.random.Generator, context: BuilderContext) -> AgentBuilder:
    """Make the builder as `--builder agent:NAME` or `[builders.agent]` says.

    Raises:
        BadInput: an unknown preset or option, no command, a cap on money without a bound per call.
        MissingPart: the agent, one of its variables, git, or the sandbox is missing.
    """
    agreed = terms(context.arguments, context.options, os.environ, capped=context.max_cost is not None)
    git.program()
    if context.seed_design is not None:
        check_names(context.seed_design.files)
    caller = SandboxedCaller(agreed, hidden=_run_directory(context))
    embedded = stand_in(agreed.options.stand_in, lab_name, space, rng, context)
    return AgentBuilder(lab_name, space, agreed, context, embedded, caller)


def _run_directory(context: BuilderContext) -> Sequence[Path]:
    """Return what must stay hidden even where something visible contains it (`directory` is HOME/builders/NAME)."""
    return [*context.directory.absolute().parents[1:2], *context.hidden]
