"""Changes of two designs are put together where they do not touch, and nothing is proposed where they do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from instar.builders.cross import WAITS_FOR, create
from instar.contracts.builder import Builder, Deliberating
from instar.contracts.records import Author, Design, Forecast, Observation, Proposal, Trial, TrialState
from instar.contracts.space import Integer, Space
from instar.testing.builder import generation, make_brief

SPACE = Space({"k": Integer(1, 9)})
BASE = "one\ntwo\nthree\nfour\nfive\n"


def design(text: str, k: int = 1) -> Design:
    return Design("world", {"k": k}, {"train.py": text})


def told(builder: Builder, number: int, made: Design, parent: int = 0, gain: float = 0.1) -> None:
    goal = make_brief(generation(0, made)).goals[0]
    proposal = Proposal(number, made, Author("llm"), parent, goal, "", Forecast(0.5, 0.5, 0.1))
    trial = Trial(number, number, parent, 0, 0, 1, TrialState.SCORED, metric=0.5 + gain, gain=gain, noise=0.01)
    builder.observe(Observation(proposal, trial, 0.5))


def test_two_good_changes_of_one_parent_are_put_together_once() -> None:
    builder = create("world", SPACE, np.random.default_rng(0))
    brief = replace(make_brief(generation(0, design(BASE))), rungs=1, count=3)
    assert builder.propose(brief) == []
    assert isinstance(builder, Deliberating)
    assert builder.waits_for == WAITS_FOR
    told(builder, 1, design(BASE.replace("one", "ONE"), k=4))
    told(builder, 2, design(BASE.replace("five", "FIVE")))
    told(builder, 3, design(BASE.replace("five", "5")), gain=-0.1)
    assert builder.waits_for is None
    (proposal,) = builder.propose(brief)
    assert proposal.design == design(BASE.replace("one", "ONE").replace("five", "FIVE"), k=4)
    assert str(proposal.author) == "cross"
    assert "proposals 1 and 2" in proposal.why
    assert builder.propose(brief) == []


def test_a_change_that_lost_the_race_is_carried_over_to_the_next_generation() -> None:
    builder = create("world", SPACE, np.random.default_rng(0))
    builder.propose(make_brief(generation(0, design(BASE))))
    told(builder, 1, design(BASE.replace("one", "ONE")))
    told(builder, 2, design(BASE.replace("five", "FIVE")), gain=0.3)
    told(builder, 3, design(BASE.replace("five", "cinq")), gain=0.2)
    winner = generation(1, design(BASE.replace("five", "FIVE")))
    (proposal,) = builder.propose(replace(make_brief(winner), rungs=1, count=5))
    assert proposal.design == design(BASE.replace("one", "ONE").replace("five", "FIVE"))
    assert proposal.parent == 1
