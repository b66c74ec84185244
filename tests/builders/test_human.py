"""A person's queue: the builder's contract with a scripted person, and mail that no crash loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instar.builders import human, incumbent, mailbox
from instar.contracts.builder import Builder, BuilderContext, Deliberating, Heritable
from instar.contracts.errors import BadInput
from instar.contracts.records import Brief, Proposal
from instar.contracts.space import Space
from instar.testing.builder import WORLD_SPACE, BuilderConformance, first_design, generation, make_brief


class Attended(human.Understudied):
    """Has somebody who puts a proposal into the queue for each that is asked for."""

    def propose(self, brief: Brief) -> Sequence[Proposal]:
        taken = {design.digest for design in brief.pending}
        for _ in range(brief.count):
            told = dict(WORLD_SPACE.sample(self._rng))
            design = human.changed(brief.incumbent.design, "world", WORLD_SPACE, told, {})
            assert design.digest not in taken
            mailbox.drop(self._box, said(told))
        return super().propose(brief)


def said(told: Mapping[str, Any], forecast: Sequence[float] | None = (0.6, 0.4, 0.1), why: str = "") -> dict[str, Any]:
    return {"set": dict(told), "files": {}, "forecast": forecast, "why": why, "who": "ada", "made_at": 1.0}


class TestHuman(BuilderConformance):
    @pytest.fixture(autouse=True)
    def boxes(self, tmp_path: Path) -> None:
        self.root, self.made_so_far = tmp_path, 0

    def create(self, lab_name: str, space: Space, rng: np.random.Generator) -> Builder:
        self.made_so_far += 1
        box = self.root / str(self.made_so_far)
        return Attended(lab_name, space, rng, box, 0, incumbent.create(lab_name, space, rng))


def queue(box: Path, newest: int = 0) -> human.HumanBuilder:
    return human.HumanBuilder("world", WORLD_SPACE, np.random.default_rng(0), box, newest)


def brief(builder: Builder, first: int = 1, count: int = 1) -> Brief:
    return make_brief(generation(0, first_design(builder)), first=first, count=count)


def test_it_waits_for_a_person_and_proposes_in_the_order_of_the_queue(tmp_path: Path) -> None:
    builder = queue(tmp_path)
    assert isinstance(builder, Deliberating)
    assert not isinstance(builder, Heritable)
    assert (builder.waits_for, list(builder.propose(brief(builder)))) == ("person", [])
    for depth in (2, 3):
        mailbox.drop(tmp_path, said({"depth": depth}, why="deeper\nis better"))
    assert builder.waits_for is None
    (first,), (second,) = builder.propose(brief(builder)), builder.propose(brief(builder, first=2))
    assert [first.design.parameters["depth"], second.design.parameters["depth"]] == [2, 3]
    assert (str(first.author), first.why, first.forecast.p_better) == ("human@ada", "deeper is better", 0.6)
    assert builder.waits_for == "person"


def test_what_was_given_out_and_not_recorded_is_given_out_again_and_what_was_is_not(tmp_path: Path) -> None:
    builder = queue(tmp_path)
    mailbox.drop(tmp_path, said({"depth": 5}))
    (proposal,) = builder.propose(brief(builder, first=7))
    again = queue(tmp_path, newest=6)  # killed before the archive had number 7
    assert list(again.propose(brief(again, first=7))) == [proposal]
    after = queue(tmp_path, newest=7)
    assert after.waits_for == "person"


@pytest.mark.parametrize(
    "bad",
    [
        said({"depth": 99}),
        said({"width_of_hips": 1}),
        said({}) | {"files": {"train.py": "pass"}},
        said({}, forecast=(0.5, 0.4, -0.1)),
        said({}, forecast=(0.5, 0.4)),
        {"set": {}},
    ],
)
def test_mail_that_the_lab_does_not_allow_is_refused_and_kept(tmp_path: Path, bad: dict[str, Any]) -> None:
    builder = queue(tmp_path)
    name = mailbox.drop(tmp_path, bad)
    mailbox.drop(tmp_path, said({"depth": 2}))
    (proposal,) = builder.propose(brief(builder))
    assert proposal.design.parameters["depth"] == 2
    assert (tmp_path / "refused" / f"{name}.json").exists()


def test_who_gives_no_forecast_has_no_opinion(tmp_path: Path) -> None:
    builder = queue(tmp_path)
    mailbox.drop(tmp_path, said({"depth": 2}, forecast=None))
    (proposal,) = builder.propose(brief(builder))
    assert (proposal.forecast.p_better, proposal.forecast.mean) == (0.5, 0.3)
    assert proposal.why == "a person's design: depth 2"


def test_an_understudy_learns_and_is_heritable(tmp_path: Path) -> None:
    context = BuilderContext(arguments=("incumbent",), directory=tmp_path, make=lambda _: incumbent.create(*given))
    given = ("world", WORLD_SPACE, np.random.default_rng(0))
    builder = human.create(*given, context=context)
    assert isinstance(builder, Heritable)
    assert "designer.exploration" in builder.space.ranges
    assert builder.succeed(first_design(builder))
    with pytest.raises(BadInput, match="understudy"):
        human.create(*given, context=BuilderContext(arguments=("incumbent",)))


def test_only_one_message_of_a_name_is_ever_taken(tmp_path: Path) -> None:
    mailbox.drop(tmp_path, {"a": 1}, "answer-1")
    with pytest.raises(FileExistsError):
        mailbox.drop(tmp_path, {"a": 2}, "answer-1")
    assert list(mailbox.waiting(tmp_path)) == [("answer-1", {"a": 1})]
    mailbox.claim(tmp_path, "answer-1")
    mailbox.claim(tmp_path, "answer-1")
    with pytest.raises(FileExistsError):
        mailbox.drop(tmp_path, {"a": 2}, "answer-1")
    assert list(mailbox.waiting(tmp_path)) == []
    assert not list((tmp_path / "new").iterdir())


def test_what_is_no_message_is_put_aside(tmp_path: Path) -> None:
    mailbox.drop(tmp_path, {"a": 1}, "good")
    (tmp_path / "new" / "bad.json").write_text('{"a": NaN}')
    (tmp_path / "new" / "list.json").write_text("[]")
    (tmp_path / "new" / ".half").write_text("{")
    assert [name for name, _ in mailbox.waiting(tmp_path)] == ["good"]
    assert sorted(path.name for path in (tmp_path / "refused").glob("*.json")) == ["bad.json", "list.json"]
