"""Is a panel as good as its best member, and what does it cost? Prints every figure of `panel`.

    OPENBLAS_NUM_THREADS=1 python bench/panel.py [--seeds 80] [--trials 32]

The worlds are synthetic (`instar.testing.builder.World`): a recipe closes at most 0.3 of the headroom, and regret is
how much less it closes. The panel of four and each of its members alone are played in the same worlds, with the same
number of trials. The best member is known in hindsight only; the ratio's interval is a bootstrap over worlds that
chooses the best member anew in every sample, 95 %.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from instar.builders import incumbent, uniform
from instar.builders.panel import PanelBuilder
from instar.builders.search import SearchBuilder
from instar.contracts.builder import Builder
from instar.contracts.records import Brief, Floats, Observation, Proposal
from instar.testing.builder import BuilderStory, World, play

MEMBERS = ("incumbent", "search", "search:cma", "random")
MEASURES = ("best of all trials", "the last promoted recipe", "mean of the last quarter")


def member(name: str, world: World, rng: np.random.Generator) -> Builder:
    if name == "incumbent":
        return incumbent.create("world", world.space, rng)
    if name == "random":
        return uniform.create("world", world.space, rng)
    return SearchBuilder("world", world.space, rng, name.partition(":")[2] or "tpe")


class Timed:
    """Passes everything on to a builder, and adds up the CPU seconds that it takes."""

    def __init__(self, builder: Builder, clock: list[float]) -> None:
        self.builder, self.clock = builder, clock
        self.name, self.space = builder.name, builder.space

    def propose(self, brief: Brief) -> Sequence[Proposal]:
        start = time.process_time()
        made = self.builder.propose(brief)
        self.clock[0] += time.process_time() - start
        return made

    def observe(self, observation: Observation) -> None:
        start = time.process_time()
        self.builder.observe(observation)
        self.clock[0] += time.process_time() - start

    def aim(self, brief: Brief) -> object:
        start = time.process_time()
        goal = self.builder.aim(brief)
        self.clock[0] += time.process_time() - start
        return goal

    def succeed(self, design: object) -> object:
        start = time.process_time()
        state = self.builder.succeed(design) if hasattr(self.builder, "succeed") else {}
        self.clock[0] += time.process_time() - start
        return state

    def restore(self, state: object) -> None:
        raise NotImplementedError


def regrets(world: World, story: BuilderStory) -> tuple[float, float, float]:
    """Return the regret by each measure."""
    found = story.qualities(world)
    last = world.quality(story.incumbents[-1].parameters)
    return world.best - float(found.max()), world.best - last, world.best - float(found[-len(found) // 4 :].mean())


def played(name: str, seed: int, trials: int) -> tuple[tuple[float, float, float], BuilderStory, float, float]:
    """Return regrets, the story, and CPU seconds in all and within the members."""
    world, rng, inside = World(seed), np.random.default_rng(100 + seed), [0.0]
    if name == "panel":
        members = [Timed(member(one, world, np.random.default_rng([100 + seed, i])), inside)
                   for i, one in enumerate(MEMBERS)]  # fmt: skip
        builder: Builder = PanelBuilder(world.space, members, rng)  # type: ignore[arg-type]
    else:
        builder = member(name, world, rng)
    whole = [0.0]
    story = play(Timed(builder, whole), world, np.random.default_rng(200 + seed), 4, trials // 4)  # type: ignore[arg-type]
    return regrets(world, story), story, whole[0], inside[0]


def ratio(panel: Floats, members: Floats) -> tuple[float, float, float]:
    """Return the panel's mean regret over the best member's with its interval; members (K, W), panel (W,)."""
    rng, worlds = np.random.default_rng(0), len(panel)
    drawn = rng.integers(worlds, size=(4000, worlds))
    spread = panel[drawn].mean(axis=1) / members[:, drawn].mean(axis=2).min(axis=0)
    low, high = np.quantile(spread, [0.025, 0.975])
    return float(panel.mean() / members.mean(axis=1).min()), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=80)
    parser.add_argument("--first", type=int, default=0, help="seed of the first world")
    parser.add_argument("--trials", type=int, default=32)
    given = parser.parse_args()
    played("panel", 0, 8)  # what has to be imported
    results: dict[str, Floats] = {}
    asked, own = Counter[str](), []
    for name in (*MEMBERS, "panel"):
        rows = []
        for seed in range(given.first, given.first + given.seeds):
            row, story, whole, inside = played(name, seed, given.trials)
            rows.append(row)
            if name == "panel":
                asked.update(proposal.author.name for proposal in story.proposals)
                own.append(1e3 * (whole - inside) / len(story.proposals))
        results[name] = np.array(rows).T
    print(f"Regret after {given.trials} trials in {given.seeds} worlds, mean and standard error")
    for index, measure in enumerate(MEASURES):
        said = [f"{name} {r[index].mean():.3f} +- {r[index].std(ddof=1) / len(r[index]) ** 0.5:.3f}"
                for name, r in results.items()]  # fmt: skip
        print(f"  {measure}: {', '.join(said)}")
    for index, measure in enumerate(MEASURES):
        members = np.stack([results[name][index] for name in MEMBERS])
        value, low, high = ratio(results["panel"][index], members)
        print(f"  panel / best member, {measure}: {value:.2f} [{low:.2f}, {high:.2f}]")
    total = sum(asked.values())
    print("Who was asked: " + ", ".join(f"{name} {asked[name] / total:.0%}" for name in MEMBERS))
    print(f"The panel's own cost: {np.median(own):.2f} CPU ms a proposal, median of {given.seeds} plays "
          f"({np.min(own):.2f} to {np.max(own):.2f}), beyond its members' own")  # fmt: skip


if __name__ == "__main__":
    main()
