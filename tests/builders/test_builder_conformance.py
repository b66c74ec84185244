"""Both built-in builders keep the contract."""

import numpy as np

from instar.builders import incumbent, uniform
from instar.interfaces import Builder
from instar.space import Space
from instar.testing.builder import BuilderConformance


class TestIncumbent(BuilderConformance):
    def create(self, lab_name: str, space: Space, rng: np.random.Generator) -> Builder:
        return incumbent.create(lab_name, space, rng)


class TestUniform(BuilderConformance):
    def create(self, lab_name: str, space: Space, rng: np.random.Generator) -> Builder:
        return uniform.create(lab_name, space, rng)
