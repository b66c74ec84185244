"""How good is the incumbent's designer, and what does it cost? Prints every figure of the builders.

    OPENBLAS_NUM_THREADS=1 python bench/designer.py

The worlds are synthetic (`instar.testing.builder.World`): a recipe closes at most 0.3 of the headroom, and regret
is how much less it closes. Both builders are played in the same worlds; intervals are 95 %, paired, by Student's t.
"""

import time
from collections.abc import Callable

import numpy as np
from scipy import stats

from instar.builders import incumbent, uniform
from instar.builders.incumbent import IncumbentBuilder
from instar.interfaces import Builder
from instar.records import Floats, Observation, Trial, TrialState
from instar.testing.builder import Story, World, first_design, generation, make_brief, play

SEEDS = 20
MEASURES: dict[str, Callable[[World, Story], float]] = {
    "best of 32 trials": lambda world, story: world.best - float(story.qualities(world).max()),
    "mean of the last 8 trials": lambda world, story: world.best - float(story.qualities(world)[-8:].mean()),
    "the last promoted recipe": lambda world, story: world.best - world.quality(story.incumbents[-1].parameters),
}


def with_interval(values: Floats) -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.3f} [{values.mean() - half:+.3f}, {values.mean() + half:+.3f}]"


def played(make: Callable[..., Builder]) -> list[tuple[World, Story]]:
    worlds = [World(seed) for seed in range(SEEDS)]
    return [
        (w, play(make("world", w.space, np.random.default_rng(100 + i)), w, np.random.default_rng(200 + i)))
        for i, w in enumerate(worlds)
    ]


def calibration(stories: list[tuple[World, Story]]) -> None:
    """Print how forecasts compare with one fresh run of every proposal at the top rung."""
    rng, said, came, inside, right = np.random.default_rng(0), [], [], [], []
    for world, story in stories:
        gains, means = [], []
        for proposal, baseline in zip(story.proposals, story.baselines, strict=True):
            broken = world.breaks(proposal.design.parameters)
            gain = -baseline if broken else world.gain(proposal.design.parameters, world.rungs - 1, baseline, rng)
            said.append(proposal.forecast.p_better)
            came.append(gain > 0)
            inside.append(abs(baseline + gain - proposal.forecast.mean) < 1.96 * proposal.forecast.deviation)
            gains.append(gain)
            means.append(proposal.forecast.mean - baseline)
        for start in range(0, len(gains), 8):  # pairs within a generation
            for i in range(start, start + 8):
                others = [j for j in range(start, i) if means[i] != means[j]]
                right += [(gains[i] > gains[j]) == (means[i] > means[j]) for j in others]
    probability, outcome = np.array(said), np.array(came, dtype=float)
    bins = np.minimum((probability * 10).astype(int), 9)
    error = sum((bins == b).mean() * abs(float((probability - outcome)[bins == b].mean())) for b in np.unique(bins))
    accuracy = f"{np.mean(right):.3f} of {len(right)}" if right else "none (all forecasts of a batch are equal)"
    print(f"  expected calibration error of p_better {error:.3f}, Brier {((probability - outcome) ** 2).mean():.3f} "
          f"(base rate alone {outcome.var():.3f}), n = {len(outcome)}")  # fmt: skip
    print(f"  95 % interval holds {np.mean(inside):.3f}; pairwise accuracy within a generation {accuracy}")


def taught(trials: int) -> tuple[IncumbentBuilder, World]:
    world, rng = World(0), np.random.default_rng(0)
    builder = incumbent.create("world", world.space, rng)
    template = builder.propose(make_brief(generation(0, first_design(builder))))[0]
    for number in range(1, trials + 1):
        trial = Trial(number, number, number // 16, 1, 0, 0, TrialState.SCORED, 0.3, 0.1 * rng.standard_normal(), 0.01)
        design = type(template.design)("world", {**template.design.parameters, **world.space.sample(rng)})
        builder.observe(Observation(type(template)(**{**vars(template), "design": design}), trial, 0.3))
    return builder, world


def cost(trials: int) -> None:
    builder, _ = taught(trials)
    founder = generation(10**6, first_design(builder))
    state, times = builder._designer.state(), []
    for _ in range(15):
        marks = [time.process_time()]
        builder.succeed(founder.design)
        marks.append(time.process_time())
        builder.propose(make_brief(founder, pending=[founder.design]))
        marks.append(time.process_time())
        builder._designer.reading(builder._memory.lessons)
        marks.append(time.process_time())
        times.append(np.diff(marks) * 1e3)
        builder.restore(state)  # so that the next `succeed` has trials to score again
    succeed, propose, refit = np.median(times, axis=0)
    print(f"  {trials:6d} observations: propose {propose:5.1f} ms, refit {refit:5.1f} ms, succeed {succeed:5.1f} ms")


def main() -> None:
    mine, chance = played(incumbent.create), played(uniform.create)
    print(f"Regret after 32 trials in {SEEDS} worlds (share of headroom; less is better)")
    for name, measure in MEASURES.items():
        a, b = (np.array([measure(*pair) for pair in stories]) for stories in (mine, chance))
        print(f"  {name:26s} incumbent {a.mean():.3f}, random {b.mean():.3f}, saved {with_interval(b - a)}")
    for name, stories in (("incumbent", mine), ("random", chance)):
        print(f"Forecasts of {name}, against one fresh run of every proposal")
        calibration(stories)
    print("Cost in CPU time, median of 15 (in a reign, a result costs one refit at the next proposal)")
    for trials in (10, 100, 10_000):
        cost(trials)


if __name__ == "__main__":
    main()
