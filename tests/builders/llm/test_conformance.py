"""The `llm` builder keeps every builder's contract, asked until it has thought; also where it has to be replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from instar.contracts.builder import Builder
from instar.contracts.space import Space
from instar.testing.builder import BuilderConformance
from instar.testing.standin import Behaviour, StandIn, good, status
from tests.builders.llm.setting import made

pytest.importorskip("openai")


class _Llm(BuilderConformance):
    then: Behaviour
    options: ClassVar[dict[str, float]] = {}

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> Iterator[None]:
        self.directory, self.servers = tmp_path, []
        yield
        for server in self.servers:
            server.__exit__(None, None, None)

    def create(self, lab_name: str, space: Space, rng: np.random.Generator) -> Builder:
        number = len(self.servers)
        server = StandIn(then=type(self).then, seed=0).__enter__()
        self.servers.append(server)
        return made(server, self.directory / str(number), space=space, seed=int(rng.integers(2**31)), **self.options)


class TestLlm(_Llm):
    then = staticmethod(good)

    def authors(self, builder: Builder) -> set[str]:
        return {"llm", "incumbent"}  # the second where the model repeats itself


class TestLlmThatIsReplaced(_Llm):
    then = staticmethod(status(500))
    options: ClassVar[dict[str, float]] = {"pause": 3600.0, "failures": 1}

    def authors(self, builder: Builder) -> set[str]:
        return {"incumbent"}
