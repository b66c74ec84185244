"""Every lab that we ship keeps the contract: tiles, the digits from outside, and the toys that other tests rely on."""

from __future__ import annotations

import numpy as np
import pytest

from instar.contracts.exam import Arrays
from instar.contracts.lab import Lab
from instar.labs.speedrun import task as speedrun
from instar.labs.tiles import task
from instar.testing.lab import LabConformance, TeachingConformance
from tests.toys import TeachingToyLab


class TestTiles3(TeachingConformance):
    def lab(self) -> Lab:
        return task.create({"size": "3"})

    def wrong_answers(self, answers: Arrays) -> Arrays:
        given_up = np.full((len(answers["sequences"]), 4), -1, np.int8)
        return {**answers, "sequences": given_up}


class TestTiles4(LabConformance):
    """Only what differs by size: a cheaper exam, since a beam on 4x4 takes seconds."""

    def lab(self) -> Lab:
        lab = task.create({"size": "4"})
        lab.exam.sizes = {**lab.exam.sizes, "screen": 2, "promotion": 2, "report": 2, "max_moves": 12}
        return lab


class TestSpeedrun(LabConformance):
    """At the scale that means nothing: its founder trains for a second."""

    effort = 0.1

    def lab(self) -> Lab:
        return speedrun.create({"scale": "tiny"})


class TestDigits(LabConformance):
    def lab(self) -> Lab:
        return pytest.importorskip("instar_digits.lab").create({})


class TestToys(TeachingConformance):
    def lab(self) -> Lab:
        return TeachingToyLab()

    def wrong_answers(self, answers: Arrays) -> Arrays:
        return {**answers, "given": answers["given"] * 0 - 1}
