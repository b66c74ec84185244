"""The built-in builders keep the contract."""

import numpy as np

from instar.builders import incumbent, mixed, panel, search, uniform
from instar.contracts.builder import Builder, BuilderContext
from instar.contracts.space import Space
from instar.testing.builder import BuilderConformance

PLAIN = {"incumbent": incumbent.create, "random": uniform.create}


def context_of(arguments: str, lab_name: str, space: Space, rng: np.random.Generator) -> BuilderContext:
    """Return a builder context that makes others of the lab, as `assemble` does; each draws numbers of its own."""

    def make(specification: str) -> Builder:
        name, _, rest = specification.partition(":")
        own = np.random.default_rng([int(rng.integers(2**31)), len(specification)])
        if name in PLAIN:
            return PLAIN[name](lab_name, space, own)
        return search.create(lab_name, space, own, context_of(rest, lab_name, space, own))

    return BuilderContext(arguments=tuple(filter(None, arguments.split(","))), make=make)


class TestIncumbent(BuilderConformance):
    def create(self, lab_name: str, space: Space, rng: np.random.Generator) -> Builder:
        return incumbent.create(lab_name, space, rng)


class TestUniform(BuilderConformance):
    def create(self, lab_name: str, space: Space, rng: np.random.Generator) -> Builder:
        return uniform.create(lab_name, space, rng)


class TestSearch(BuilderConformance):
    def create(self, lab_name: str, space: Space, rng: np.random.Generator) -> Builder:
        return search.create(lab_name, space, rng)


class TestSearchByCma(BuilderConformance):
    def create(self, lab_name: str, space: Space, rng: np.random.Generator) -> Builder:
        return search.create(lab_name, space, rng, context_of("cma", lab_name, space, rng))


class TestPanel(BuilderConformance):
    frozen = False

    def create(self, lab_name: str, space: Space, rng: np.random.Generator) -> Builder:
        context = context_of("incumbent,search,search:cma,random", lab_name, space, rng)
        return panel.create(lab_name, space, rng, context)


class TestMixed(BuilderConformance):
    frozen = False

    def create(self, lab_name: str, space: Space, rng: np.random.Generator) -> Builder:
        return mixed.create(lab_name, space, rng, context_of("search:cma,incumbent", lab_name, space, rng))
