"""Every lab that we ship keeps the contract: tiles, the digits from outside, and the toys that other tests rely on."""

from __future__ import annotations

import numpy as np
import pytest
from tests.toys import TeachingToyLab

from instar.interfaces import Arrays, Lab
from instar.labs.tiles import task
from instar.testing.lab import LabConformance, TeachingConformance


class TestTiles3(TeachingConformance):
    def lab(self) -> Lab:
        return task.create({"size": "3"})

    def wrong_answers(self, answers: Arrays) -> Arrays:
        there_and_back = np.tile(np.array([0, 1, 2, 3], np.int8), (len(answers["boards"]), 1))
        unsolved = np.tile(np.array([8, 1, 2, 3, 4, 5, 6, 7, 0], np.uint8), (len(there_and_back), 1))
        return {**answers, "boards": unsolved, "sequences": there_and_back}


class TestTiles4(LabConformance):
    """Only what differs by size: a cheaper exam, since a beam on 4x4 takes seconds."""

    def lab(self) -> Lab:
        lab = task.create({"size": "4"})
        lab.exam.sizes = {**lab.exam.sizes, "screen": 2, "promotion": 2, "report": 2, "max_moves": 12}
        return lab


class TestDigits(LabConformance):
    def lab(self) -> Lab:
        return pytest.importorskip("instar_digits.lab").create({})


class TestToys(TeachingConformance):
    def lab(self) -> Lab:
        return TeachingToyLab()

    def wrong_answers(self, answers: Arrays) -> Arrays:
        return {**answers, "given": answers["given"] * 0 - 1}
