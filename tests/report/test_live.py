"""The live view: what a frame shows, that it fits, what it costs; and the words of the plain log."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console, Group

from instar.contracts.archive import Fact, Verdict
from instar.contracts.evidence import Decision, Reason
from instar.contracts.records import (
    Author,
    Design,
    Fate,
    Forecast,
    Goal,
    Job,
    Limits,
    Proposal,
    SandboxKind,
    Trial,
    TrialState,
)
from instar.loop import run_loop
from instar.report.live import INTERVAL_SECONDS, Durations, LivePicture, LiveView, frame, kind_of
from instar.report.narration import PlainLog, Story, fate_of, trial_line, verdict_line
from instar.run.examination import Examine
from instar.run.resume import resume
from instar.run.state import Run
from instar.run.steps import Task
from instar.run.trials import Train
from tests.rig import Rig, close
from tests.toys import TeachingToyLab

PROPOSAL = Proposal(
    4,
    Design("toy", {}),
    Author("incumbent", "1"),
    1,
    Goal("g", {}, 1.0),
    "wider: width 2 -> 4; and more",
    Forecast(0.5, 0.1, 0.1),
)
TRIAL = Trial(
    7, 4, 1, 0, 0, 0, TrialState.SCORED, 0.5, 0.03, 0.01, why="place 1 of 2; the best 1/4 climb", fate=Fate.WAITS
)


def step(what: str) -> Any:
    return SimpleNamespace(what=what)


def training(number: int, rung: int) -> Any:
    return Train(None, None, Trial(number, 1, 0, rung, 0, 0))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, LivePicture, str]]:
    """A run after its end, what the view made of it, and what the plain log said."""
    rig = Rig(tmp_path_factory.mktemp("live"), TeachingToyLab(("none", "crash")), {"generations": 2, "budget": "3m"})
    run, picture, stream = rig.open(), LivePicture(), io.StringIO()
    log = PlainLog(stream)

    def watch(run: Run, facts: Sequence[Fact]) -> None:
        picture.story.take(run, facts)
        picture.durations.look(run.queue.tasks, run.clock())
        log.watch(run, facts)

    resume(run)
    run_loop(run, watch)
    picture.counts = run.parts.archive.counts()
    yield run, picture, stream.getvalue()
    close(run)


def text_of(run: Run, picture: LivePicture, width: int, height: int) -> str:
    console = Console(width=width, height=height, record=True, file=io.StringIO(), force_terminal=True)
    console.print(Group(*frame(run, picture, width, height)))
    return console.export_text()


@pytest.mark.parametrize(("width", "height"), [(80, 23), (120, 39), (40, 10), (200, 60)])
def test_a_frame_fits_the_screen(played: tuple[Run, LivePicture, str], width: int, height: int) -> None:
    run, picture, _ = played
    lines = text_of(run, picture, width, height).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_a_frame_shows_what_a_person_asks_for(played: tuple[Run, LivePicture, str]) -> None:
    run, picture, _ = played
    job = Job("t", SandboxKind.TRAINING, "a:b", {}, {}, Limits(1, 1, 1))
    run.queue.tasks = {"t": Task(job, step("trial 99, rung 2 of 2"), run.clock() - 3.0)}
    picture.durations.seconds[kind_of(step("trial 99, rung 2 of 2"))] = 10.0
    shown = text_of(run, picture, 100, 40)
    run.queue.tasks = {}
    for words in ("instar toy", "seed 0", "of 3:00", "left", "CPU", "disk", "generation", "horizon 50 % (units)"):
        assert words in shown
    assert "ending: generations reached" in shown
    assert "3 s, 7 s to go" in shown
    assert "mastery" in shown
    assert "promoted: improvement:" in shown
    assert "scored" in shown
    assert "±" in shown
    assert "incumbent@1" in shown


def test_a_frame_before_anything_is_there(tmp_path: Path) -> None:
    run = Rig(tmp_path, TeachingToyLab()).open()
    shown = text_of(run, LivePicture(), 80, 23)
    close(run)
    assert "the founder is being made" in shown
    assert "none yet" in shown


def test_the_view_draws_seldom_and_cheaply(played: tuple[Run, LivePicture, str]) -> None:
    run, picture, _ = played
    now, stream = 0.0, io.StringIO()
    view = LiveView(Console(file=stream, width=120, height=40, force_terminal=True), clock=lambda: now)
    view._picture = picture
    view.watch(run, [])
    drawn = stream.tell()
    view.watch(run, [])
    assert stream.tell() == drawn  # the clock stands still
    began, frames = time.process_time(), 40
    for _ in range(frames):
        now += INTERVAL_SECONDS
        view.watch(run, [])
    assert stream.tell() > drawn
    view.close()
    view.close()
    assert (time.process_time() - began) / frames < 0.02 * INTERVAL_SECONDS  # 0.4 % here; slack for busy machines


def test_the_plain_log_has_one_line_for_each_trial(played: tuple[Run, LivePicture, str]) -> None:
    run, _, said = played
    lines = said.splitlines()
    ended = [trial for trial in run.parts.archive.history(Trial) if trial.state is not TrialState.RUNNING]
    assert sum(line.startswith("trial ") for line in lines) == len(ended)
    assert sum(line.startswith("GENERATION ") for line in lines) == 3
    assert all(" | " in line for line in lines if line.startswith("trial "))


def test_a_trial_in_words() -> None:
    said = trial_line(TRIAL, PROPOSAL, "accuracy", "rung 1 of 2 (1/4 of the training)")
    assert said == (
        "trial 7    against generation 1, rung 1 of 2 (1/4 of the training): incumbent@1: "
        "wider: width 2 -> 4 | accuracy 0.500, +0.030 ± 0.010 | "
        "kept for now: place 1 of 2; the best 1/4 climb"
    )
    crashed = replace(TRIAL, state=TrialState.TIMED_OUT, metric=None, why="over 30 wall seconds")
    assert trial_line(crashed, None, "accuracy", "seed 2 of 3").endswith("| timed out | not kept: over 30 wall seconds")
    assert fate_of(replace(TRIAL, why="dropped: worse", fate=Fate.DROPPED)) == "dropped: worse"
    assert fate_of(replace(TRIAL, why="another seed", fate=Fate.REPLICA)) == "kept: another seed"


def test_a_verdict_in_words() -> None:
    passed, failed = Reason("improvement", True, "better by 3"), Reason("retention", False, "band easy: lost 9")
    assert verdict_line(Verdict(1, 4, 1, Decision((passed, passed)), {})).endswith("better by 3, and 1 more passed")
    said = verdict_line(Verdict(1, 4, 1, Decision((passed, failed)), {}))
    assert said == "proposal 4 not promoted: retention: band easy: lost 9"


def test_durations_are_learnt_by_kind_of_task() -> None:
    job, durations = Job("a", SandboxKind.EXAM, "a:b", {}, {}, Limits(1, 1, 1)), Durations()
    task = Task(job, training(3, rung=0), 10.0)
    durations.look({"a": task}, 11.0)
    assert durations.expected(task) is None
    durations.look({}, 14.0)
    assert durations.expected(Task(job, training(44, rung=0), 0.0)) == 4.0
    assert durations.expected(Task(job, training(44, rung=1), 0.0)) is None
    exams: list[Any] = [Examine(examination, name, Path()) for examination, name in ((3, "seed 1"), (4, "founder"))]  # type: ignore[arg-type]
    assert kind_of(exams[0]) == kind_of(exams[1]) != kind_of(training(3, rung=0))


def test_a_story_forgets_old_proposals(played: tuple[Run, LivePicture, str]) -> None:
    run, story = played[0], Story()
    story.take(run, [replace(PROPOSAL, number=number) for number in range(5000)])
    assert len(story._proposals) <= 4097
