"""A sample of kill -9 over every kind of step and victim; `bench/crash.py` makes thousands."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.crash import campaign
from tests.crash.campaign import Tally

KILLS = 100


@pytest.fixture(scope="module")
def tally() -> Tally:
    return campaign.carry_out(KILLS, seed=20261123)


def test_nothing_is_lost_doubled_orphaned_or_left_behind(tally: Tally) -> None:
    assert tally.problems == []
    assert tally.orphans == 0


def test_the_sample_reaches_every_kind_of_victim(tally: Tally) -> None:
    assert len(tally.struck) > 0.8 * KILLS
    assert set(tally.by_victim) == {"conductor", "server", "supervisor", "worker"}
    assert Counter(kill.step == "the clock" for kill in tally.struck)[False] > 0.4 * KILLS
    assert tally.compared > 3  # ended exactly as the undisturbed run did
    assert any(kill.recovery_seconds is not None for kill in tally.struck)
