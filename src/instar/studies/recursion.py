"""Is the improver improving? Builders of different generations start from the same parent with the same budget.

A game on the table's teaching half makes a line of builders. Builders of several generations of that line, and the
baselines, then play on the designs that were held out, each from the table's incumbent; what they reach is told by
training seeds that they did not see. The ratio r of the later builder's improvement to the earlier one's comes with a
paired bootstrap interval over games, and is read as r > 1, r = 1 within a margin, r < 1, or "can't tell".
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from instar.contracts import plugins
from instar.contracts.builder import Builder, BuilderContext
from instar.contracts.errors import BadInput, MissingPart
from instar.contracts.evidence import Estimate
from instar.contracts.records import Author, Brief, Design, Floats, Forecast, Goal, Observation, Proposal
from instar.contracts.space import Space
from instar.stats.bootstrap import ratio_of_sums
from instar.stats.intervals import paired_difference
from instar.studies.recorded import RecordedTrials
from instar.studies.replay import REIGN, Played, oracle, play, teach, worth

MARGIN = 0.1
"""A ratio that lies within 1 +- this, with its whole interval, is read as 1."""

BUILDER = "incumbent"


@dataclass(frozen=True)
class Contest:
    """What is to be measured.

    Attributes:
        generations: of the builders, earliest first; r compares the last with the first.
        trials: each builder's budget.
        games: how many, each with a line of builders and seeds of its own.
        margin: see `MARGIN`.
    """

    generations: tuple[int, ...] = (0, 2, 4, 8)
    trials: int = 16
    games: int = 20
    seed: int = 0
    margin: float = MARGIN

    def check(self, table: RecordedTrials) -> None:
        """Raise `BadInput` where the table is too small, or where there is nothing to compare."""
        teaching, held_out = table.halves()
        if len(set(self.generations)) < 2 or list(self.generations) != sorted(set(self.generations)):
            raise BadInput("two generations at least are compared, the earlier first", "Such as --generations 0,2,4,8.")
        if min(self.generations) < 0 or max(self.generations) * REIGN > len(teaching):
            raise BadInput(
                f"the table teaches {len(teaching) // REIGN} generations at most", "Ask for earlier generations."
            )
        if not 1 <= self.trials <= len(held_out):
            raise BadInput(f"the table holds out {len(held_out)} designs", "Give a budget of 1 trial up to so many.")
        if self.games < 3:
            raise BadInput("an interval needs three games at least", "Give --games 3 or more.")


@dataclass
class Reached:
    """What a builder reached: (G, T) worth of its best design above the parent's, after each trial, one row a game."""

    rows: list[list[float]] = field(default_factory=list)

    @property
    def reached(self) -> Floats:
        """Improvement at the end of the budget, (G,)."""
        return np.array([row[-1] for row in self.rows])


class Neighbours:
    """Best of N: neighbours of the parent's design, drawn without looking at any result."""

    name = "best-of-n"

    def __init__(self, lab: str, lab_space: Space, rng: np.random.Generator) -> None:
        self.space = Space({})
        self._lab, self._space, self._rng = lab, lab_space, rng
        self._parent: Design | None = None

    def aim(self, brief: Brief) -> Goal:
        """Choose any goal."""
        return brief.goals[0]

    def propose(self, brief: Brief) -> Sequence[Proposal]:
        """Return neighbours of the first incumbent that it saw."""
        self._parent = self._parent or brief.incumbent.design
        start = {name: self._parent.parameters[name] for name in self._space.ranges}
        designs = [Design(self._lab, self._space.vary(start, 0.4, 0.15, self._rng)) for _ in range(brief.count)]
        forecast = Forecast(0.5, 0.5 if brief.incumbent_score is None else brief.incumbent_score, 0.3)
        return [
            Proposal(
                brief.first + i, design, Author(self.name), brief.incumbent.number, brief.goal, "a neighbour", forecast
            )
            for i, design in enumerate(designs)
        ]

    def observe(self, observation: Observation) -> None:
        """Learn nothing."""


Factory = Callable[[str, Space, np.random.Generator], Builder]


def measure(table: RecordedTrials, plan: Contest, say: Callable[[str], object] = str) -> dict[str, Any]:
    """Let every builder play on the table, and return the object of `instar recursion --json`.

    Raises:
        BadInput: see `Contest.check`.
    """
    plan.check(table)
    make, baselines = plugins.find("builders", BUILDER), _controls()
    names = [f"generation {number}" for number in plan.generations]
    found = {name: Reached() for name in [*names, f"frozen at {plan.generations[0]}", *baselines[0]]}
    best = []
    for game in range(plan.games):
        seen, (teaching, held_out) = game % table.seeds, table.halves()
        parent = worth(table, [table.incumbent], seen)[0]

        def rng(*purpose: int, game: int = game) -> np.random.Generator:
            return np.random.default_rng([plan.seed, game, *purpose])

        def enter(name: str, played: Played, seen: int = seen, parent: float = parent) -> None:
            found[name].rows.append(list(worth(table, played.bests, seen) - parent))

        line = play(make(table.lab, table.space, rng(0)), table, teaching, plan.generations[-1] * REIGN, seen)
        for number, name in zip(plan.generations, names, strict=True):
            builder = make(table.lab, table.space, rng(1))
            enter(name, play(builder, table, held_out, plan.trials, seen, taught=teach(builder, line, number)))
        builder = make(table.lab, table.space, rng(1))
        past = teach(builder, line, plan.generations[0])
        frozen = play(builder, table, held_out, plan.trials, seen, learning=False, taught=past)
        enter(f"frozen at {plan.generations[0]}", frozen)
        for place, (name, factory) in enumerate(baselines[0].items()):
            other = _made(factory, table, rng(2, place))
            enter(name, play(other, table, held_out, plan.trials, seen))
        best.append(oracle(table, held_out, seen) - parent)
        say(f"game {game + 1} of {plan.games}")
    return _result(table, plan, found, np.array(best), baselines[1])


def _controls() -> tuple[dict[str, Factory], dict[str, str]]:
    """Return the baselines, and why others are missing."""
    baselines: dict[str, Factory] = {"best-of-n": Neighbours, "random": plugins.find("builders", "random")}
    try:
        baselines["search"] = plugins.find("builders", "search")
    except (BadInput, MissingPart) as error:
        return baselines, {"search": str(error)}
    return baselines, {}


def _made(factory: Factory, table: RecordedTrials, rng: np.random.Generator) -> Builder:
    """Make a builder as a run does: with a context where its factory knows of one."""
    if "context" not in inspect.signature(factory).parameters:
        return factory(table.lab, table.space, rng)
    seed = Design(table.lab, {**table.fixed, **table.designs[table.incumbent]})
    told: Callable[..., Builder] = factory
    return told(table.lab, table.space, rng, context=BuilderContext(seed_design=seed))


def _result(
    table: RecordedTrials, plan: Contest, found: Mapping[str, Reached], best: Floats, missing: Mapping[str, str]
) -> dict[str, Any]:
    rng = np.random.default_rng([plan.seed, 1])
    names = list(found)
    first, last = names[0], names[len(plan.generations) - 1]
    ratio = ratio_of_sums(found[last].reached, found[first].reached, rng)
    to_frozen = ratio_of_sums(found[last].reached, found[names[len(plan.generations)]].reached, rng)
    return {
        "lab": table.lab,
        "lab_version": table.version,
        "way": "table",
        "r": ratio.to_json() | {"reading": reading(ratio, plan.margin)},
        "r_to_frozen": to_frozen.to_json() | {"reading": reading(to_frozen, plan.margin)},
        "baselines": {name: _baseline(baseline, best, rng) for name, baseline in found.items()},
        "missing_baselines": dict(missing),
        "oracle": _mean(best).to_json(),
        "settings": {
            "generations": list(plan.generations), "trials": plan.trials, "games": plan.games, "seed": plan.seed,
            "margin": plan.margin, "designs": len(table.designs), "recorded_trials": table.trials,
            "look_up_likeness": table.likeness(),
        },
    }  # fmt: skip


def _baseline(baseline: Reached, best: Floats, rng: np.random.Generator) -> dict[str, Any]:
    share = ratio_of_sums(baseline.reached, best, rng)
    return {"improvement": _mean(baseline.reached).to_json(), "share_of_oracle": share.to_json()}


def _mean(values: Floats) -> Estimate:
    return paired_difference(values, np.zeros_like(values))


def reading(ratio: Estimate, margin: float) -> str:
    """Say in words what a ratio's interval allows to say."""
    if ratio.low is None or ratio.high is None:
        return "can't tell"
    if 1 - margin <= ratio.low and ratio.high <= 1 + margin:
        return "r = 1"
    if ratio.low > 1:
        return "r > 1"
    return "r < 1" if ratio.high < 1 else "can't tell"


def words(found: Mapping[str, Any]) -> str:
    """Return the measurement for people."""
    given = found["settings"]
    lines = [
        f"{name:16s} improvement {shown(baseline['improvement'])}, of the oracle's {shown(baseline['share_of_oracle'])}"
        for name, baseline in found["baselines"].items()
    ]
    lines += [f"{name:16s} missing: {why}" for name, why in found["missing_baselines"].items()]
    first, last = given["generations"][0], given["generations"][-1]
    lines.append(f"r, generation {last} to {first}: {shown(found['r'])}: {found['r']['reading']}")
    lines.append(f"r, generation {last} to frozen: {shown(found['r_to_frozen'])}: {found['r_to_frozen']['reading']}")
    lines.append(f"({given['games']} games of {given['trials']} trials; r = 1 means within {given['margin']:g} of it)")
    return "\n".join(lines)


def shown(figure: Mapping[str, Any]) -> str:
    """Return a figure with its interval, for people."""
    if figure["value"] is None:
        return f"not measured ({figure['note']})" if "note" in figure else "not measured"
    if figure["low"] is None:
        return f"{figure['value']:.3f} (no interval)"
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
