"""Error rates and power of the gates, by simulation: `python bench/gates.py` (minutes), or `... composed_nulls cost`.

Every share is printed with its 95 % Monte Carlo interval (Clopper-Pearson). The seed is fixed.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from instar.contracts.evidence import Evidence, Footprint, Provenance, Score
from instar.contracts.records import Floats
from instar.gates.collapse import Collapse
from instar.gates.compose import AllOf
from instar.gates.conduct import Conduct
from instar.gates.improvement import Improvement
from instar.gates.noise import NoiseFloor
from instar.gates.resources import Resources
from instar.gates.retention import Retention, questions_needed
from instar.stats.evalues import log_e_process, spent_alpha
from instar.stats.horizon import horizon
from instar.stats.intervals import betting_mean, clopper_pearson, paired_bounds
from instar.testing.gate import draw_evidence, make_score

SEED = 20261122
THREE = np.array([-1.0, 0.0, 1.0])


def passes(x: Floats, null_mean: float, alpha: float) -> npt.NDArray[np.bool_]:
    """Whether each row (R, N) of differences ever beats 1 / alpha against a mean of at most `null_mean`."""
    return ever(log_e_process(x, null_mean, -1.0, 1.0), alpha)


def ever(path: Floats, alpha: float) -> npt.NDArray[np.bool_]:
    """Whether each row of log wealth (R, N) ever reaches 1 / alpha."""
    return np.asarray(path.max(axis=1) >= -math.log(alpha))


def show(what: str, hits: npt.NDArray[np.bool_]) -> None:
    """Print a simulated share with its Monte Carlo interval."""
    estimate = clopper_pearson(int(hits.sum()), hits.size)
    low, high = 100 * (estimate.low or 0.0), 100 * (estimate.high or 0.0)
    print(f"  {what:<78} {100 * hits.mean():6.2f} %  ({low:.2f} to {high:.2f})")


def three_point(gain: float, discordant: float) -> list[float]:
    """Return the chances of -1, 0 and 1 with this mean and this share that differs."""
    return [(discordant - gain) / 2, 1 - discordant, (discordant + gain) / 2]


def nulls(rng: np.random.Generator, size: tuple[int, int]) -> Iterator[tuple[str, Floats]]:
    """Yield differences in [-1, 1] with a mean of exactly 0, by name."""
    yield "Bernoulli differences", np.subtract(*rng.integers(0, 2, (2, *size))).astype(np.float64)
    yield "three-point, 20 % differ", rng.choice(THREE, size=size, p=three_point(0.0, 0.2))
    yield "skewed: 98 % gain 2 points, 2 % lose all", rng.choice(np.array([-1.0, 1 / 49]), size=size, p=[0.02, 0.98])
    yield "heavy ties: 1 % differ by 20 points", rng.choice(0.2 * THREE, size=size, p=[0.005, 0.99, 0.005])


def peeking(rng: np.random.Generator) -> None:
    """Print false passes when one looks 40 times, or after every item."""
    print("\nFalse passes with no true gain, 1,000 questions, alpha 5 %")
    queries = np.arange(24, 1000, 25)
    for name, x in nulls(rng, (2000, 1000)):
        path = log_e_process(x, 0.0, -1.0, 1.0)
        n = queries + 1.0
        mean = np.cumsum(x, axis=1)[:, queries] / n
        error = np.sqrt(np.maximum(np.cumsum(x**2, axis=1)[:, queries] / n - mean**2, 1e-12) / n)
        show(f"{name}: z-test, 40 looks", np.asarray((mean - 1.645 * error).max(axis=1) > 0.0))
        show(f"{name}: e-process, 40 looks", ever(path[:, queries], 0.05))
        show(f"{name}: e-process, after every item (gates)", ever(path, 0.05))
        show(f"{name}: e-value at the end of the exam", ever(path[:, -1:], 0.05))


def generations(rng: np.random.Generator) -> None:
    """Print the chance of any false promotion in 20 judgements with alpha spending, and without."""
    print("\nAny false promotion in a run of 20 candidates that are no better, 1,000 questions each")
    for spending in (True, False):
        false = np.zeros(1000, dtype=bool)
        for k in range(1, 21):
            x = rng.choice(THREE, size=(false.size, 1000), p=three_point(0.0, 0.2))
            false |= passes(x, 0.0, spent_alpha(0.05, k) if spending else 0.05)
        show(f"alpha {'spent over the candidates' if spending else 'of 5 % each time'}", false)


def power(rng: np.random.Generator) -> None:
    """Print how often true gains are found."""
    print("\nTrue gain of 2 points found with 1,000 questions (candidate k of the run)")
    graded = np.array([-0.1, 0.0, 0.1])
    cases: tuple[tuple[str, Floats, list[float]], ...] = (
        ("right or wrong, 3 % of answers differ", THREE, three_point(0.02, 0.03)),
        ("right or wrong, 10 % of answers differ", THREE, three_point(0.02, 0.10)),
        ("graded: 24 % gain a tenth, 4 % lose a tenth", graded, [0.04, 0.72, 0.24]),
    )
    for name, values, chance in cases:
        path = log_e_process(rng.choice(values, size=(1000, 1000), p=chance), 0.0, -1.0, 1.0)
        for k in (1, 5, 20):
            show(f"{name}: k = {k}", ever(path, spent_alpha(0.05, k)))
        show(f"{name}: k = 1, at the end of the exam", ever(path[:, -1:], spent_alpha(0.05, 1)))
    print("True gain of 1 point, deviation 5 points")
    for n in (500, 1000, 2000, 3000):
        path = log_e_process(np.clip(rng.normal(0.01, 0.05, (500, n)), -1.0, 1.0), 0.0, -1.0, 1.0)
        for k in (1, 5, 20):
            show(f"{n} questions, k = {k}", ever(path, spent_alpha(0.05, k)))


def items(rng: np.random.Generator) -> None:
    """Print how many questions non-inferiority takes."""
    print("\nQuestions needed for non-inferiority, alpha 5 %: stopping at once (quantiles), and planned for 90 %")
    for margin in (0.03, 0.05):
        for gain, discordant in ((0.0, 0.03), (0.0, 0.1), (0.02, 0.03), (0.02, 0.1)):
            x = rng.choice(THREE, size=(300, 4000), p=three_point(gain, discordant))
            path = log_e_process(x, -margin, -1.0, 1.0)
            needed = np.where(ever(path, 0.05), np.argmax(path >= math.log(20.0), axis=1) + 1, 4001)
            middle, most = np.quantile(needed, [0.5, 0.9])
            planned = questions_needed(margin, gain=gain, discordant=discordant)
            case = f"margin {100 * margin:.0f} points, true change {100 * gain:+.0f}, {discordant:.0%} differ"
            print(f"  {case:<60} median {middle:5.0f}, 90 % {most:5.0f}, planned {planned:5d}")


def retention(rng: np.random.Generator) -> None:
    """Print the retention gate's error rates, with the gate itself on four bands."""
    print("\nRetention gate, four bands, margin 5 points, three seeds")
    had = (0.9, 0.8, 0.7, 0.6)
    n = 4 * questions_needed(0.05, power=0.975)
    for name, kept in (
        ("10 points lost in one band: passed", (0.9, 0.8, 0.6, 0.6)),
        ("5 points (the margin) lost in one band: passed", (0.9, 0.8, 0.65, 0.6)),
        (f"unchanged, {n} questions in all: passed", had),
    ):
        drawn = (draw_evidence(rng, candidate=kept, incumbent=had, questions=n) for _ in range(500))
        show(name, np.asarray([Retention().judge(evidence).promote for evidence in drawn]))


def creep(rng: np.random.Generator, anchored: bool, margin: float, runs: int = 300, questions: int = 1000) -> Floats:
    """Return the points (runs,) lost after ten proposals, each 2 points worse than what it would replace."""
    founder = 0.8
    now = np.full(runs, founder)
    for _ in range(10):
        common = rng.random((runs, questions))
        solved = []
        for rate in (now - 0.02, now, np.full(runs, founder)):
            own = np.where(rng.random((runs, questions)) < 0.95, common, rng.random((runs, questions)))
            solved.append((own < rate[:, None]).astype(np.float64))
        passed = np.ones(runs, dtype=bool)
        for reference in solved[1 : 3 if anchored else 2]:
            passed &= passes(solved[0] - reference, -margin, 0.05)
        now = np.where(passed, now - 0.02, now)
    return 100 * (founder - now)


def bio_creep(rng: np.random.Generator) -> None:
    """Print what is lost over ten proposals with and without the founder as an anchor."""
    print("\nTen proposals, each 2 points worse than what it would replace, 1,000 questions, 5 % of luck per model")
    for margin in (0.03, 0.05):
        for anchored in (False, True):
            lost = creep(rng, anchored, margin)
            half = 1.96 * lost.std() / math.sqrt(lost.size)
            against = "incumbent and founder" if anchored else "incumbent only"
            print(
                f"  margin {100 * margin:.0f}, against the {against:<30} {lost.mean():5.2f} points lost (+- {half:.2f})"
            )


@dataclass(frozen=True)
class World:
    """Models whose chance of solving a question is `level` plus their design's gain plus their seed's luck."""

    spread: float  # deviation between training seeds
    questions: int = 1000
    bands: int = 4
    level: float = 0.7
    shared: float = 0.95  # share of questions on which all go by the same difficulty
    screen: int = 480

    def evidence(self, rng: np.random.Generator, family: Floats, best: int, gain: float, test: int) -> Evidence:
        """Draw a finalist and its exam: its first seed was better on the screen, its successor is the best there.

        `family` (3,) is how good the incumbent's seed replicas are, and `best` which of them was promoted.
        """
        while True:
            quality = self.level + gain + rng.normal(0.0, self.spread, 3)
            screens = quality + rng.normal(0.0, math.sqrt(0.5 * (1 - self.shared) / self.screen), 3)
            if screens[0] > family[best]:
                break
        common, band = rng.random(self.questions), np.arange(self.questions) % self.bands

        def evaluate(rate: float) -> Score:
            seed_noise = np.where(rng.random(self.questions) < self.shared, common, rng.random(self.questions))
            return make_score(seed_noise < rate, band, self.bands)

        scores, incumbent_replicas = [evaluate(rate) for rate in quality], [evaluate(rate) for rate in family]
        return Evidence(
            candidate=tuple(scores), successor=scores[int(np.argmax(screens))], incumbent=incumbent_replicas[best],
            founder=evaluate(0.1), test=test, attempt=test, incumbent_replicas=tuple(incumbent_replicas),
            footprint=SAME, incumbent_footprint=SAME, provenance=Provenance(1000, 0), incidents=(),
        )  # fmt: skip

    def challengers(
        self, rng: np.random.Generator, family: Floats, best: int, gains: list[float]
    ) -> Iterator[Evidence]:
        """Yield the evidence on one candidate after another against one incumbent, all of them failing."""
        earlier: tuple[tuple[float, ...], ...] = ()
        for test, gain in enumerate(gains, start=1):
            evidence = replace(self.evidence(rng, family, best, gain, test), earlier=earlier)
            earlier += (tuple(score.metric for score in evidence.candidate),)
            yield evidence

    def family(self, rng: np.random.Generator) -> tuple[Floats, int]:
        """Draw an incumbent: three seeds of one design, the best by the screen promoted."""
        family = self.level + rng.normal(0.0, self.spread, 3)
        return family, int(np.argmax(family + rng.normal(0.0, 0.005, 3)))


SAME = Footprint(2**20, 1.0, 10.0)


def composed() -> AllOf:
    """Return the gates of a run as they come."""
    return AllOf(
        [Improvement(), NoiseFloor(), Retention(), Retention(against="founder"), Collapse(), Resources(), Conduct()]
    )


def verdicts(evidence: Evidence) -> tuple[bool, bool, bool]:
    """Return whether improvement passes it, whether improvement and noise floor do, and whether all gates do."""
    if not Improvement().judge(evidence).promote:
        return False, False, False  # the rest would only cost time
    return True, NoiseFloor().judge(evidence).promote, composed().judge(evidence).promote


_WHICH = ("improvement alone", "improvement and noise floor", "all gates")


def composed_nulls(rng: np.random.Generator) -> None:
    """Print false promotions of the composed gate where nothing, or nothing but the seed, has changed."""
    print("\nAny false promotion by the composed gate, 1,000 questions, 3 seeds, finalists chosen by the screen")
    for name, spread, runs in (("nothing changes", 0.0, 200), ("the seed changes, spread 0.5 points", 0.005, 200),
                               ("the seed changes, spread 2 points", 0.02, 200)):  # fmt: skip
        world = World(spread)
        found = np.zeros((runs, 40, 3), dtype=bool)
        for run in range(runs):
            family, best = world.family(rng)
            for test, evidence in enumerate(world.challengers(rng, family, best, [0.0] * 40)):
                found[run, test] = verdicts(evidence)
        for count in (20, 40):
            for which, column in zip(_WHICH, found[:, :count].any(axis=1).T, strict=True):
                show(f"{count} candidates, {name}: {which}", column)
    print("One exam of one candidate, looked at 40 times in one order")
    for name, spread in (("nothing changes", 0.0), ("the seed changes, spread 0.5 points", 0.005)):
        world = World(spread)
        found = np.zeros((400, 2), dtype=bool)
        for run in range(len(found)):
            evidence = world.evidence(rng, *world.family(rng), 0.0, 1)
            path = log_e_process(evidence.judged[0].values - evidence.incumbent.values, 0.0, -1.0, 1.0)
            for count in np.flatnonzero(ever(path[24::25, None], spent_alpha(0.05, 1))) * 25 + 25:
                found[run] |= (True, NoiseFloor().judge(first(evidence, count)).promote)
        for which, column in zip(_WHICH, found.T, strict=False):
            show(f"{name}: {which}", column)


def first(evidence: Evidence, count: int) -> Evidence:
    """Return the evidence after the first `count` questions."""

    def cut(score: Score) -> Score:
        return Score(*(array[:count] for array in (score.values, score.solved, score.lengths, score.bands)),
                     score.band_names)  # fmt: skip

    return replace(
        evidence, candidate=tuple(map(cut, evidence.candidate)), incumbent=cut(evidence.incumbent),
        founder=cut(evidence.founder), incumbent_replicas=tuple(map(cut, evidence.incumbent_replicas or ())),
        successor=cut(evidence.judged[0]),
    )  # fmt: skip


def composed_power(rng: np.random.Generator) -> None:
    """Print how often the composed gate finds a true gain."""
    print("\nTrue gain found by the composed gate, 1,000 questions, 3 seeds with spread 0.5 points")
    for gain in (0.02, 0.04):
        for bands in (1, 4):
            for test in (1, 5):
                world, found = World(0.005, bands=bands), []
                for _ in range(200):
                    family, best = world.family(rng)
                    *_, evidence = world.challengers(rng, family, best, [0.0] * (test - 1) + [gain])
                    found.append(verdicts(evidence))
                for which, column in zip(_WHICH, np.array(found).T, strict=True):
                    show(f"{100 * gain:.0f} points, {bands} band{'s' * (bands > 1)}, k = {test}: {which}", column)


def noise_floor(rng: np.random.Generator) -> None:
    """Print what the noise floor alone asks for and finds, on means without questions."""
    print("\nThe noise floor's t test alone, as many seed replicas as seeds, seed spread 0.5 points")
    gate, draws = NoiseFloor(), 20000
    for seeds in (2, 3, 5):
        for test in (1, 2, 5, 20):
            freedom = (test + 1) * (seeds - 1)  # the seed replicas', this candidate's and all earlier ones'
            once = gate.needed(spent_alpha(gate.alpha, test), 1.0, seeds, seeds, freedom)
            groups = rng.normal(0.0, 0.005, (test + 1, draws, seeds))
            spreads = groups.var(axis=2, ddof=1)
            own, pooled = np.sqrt(spreads[:2].mean(axis=0)), np.sqrt(spreads.mean(axis=0))
            needed = once * np.maximum(np.maximum(own, pooled), gate.floor)
            for gain in (0.0, 0.02):
                hits = groups[0].mean(axis=1) + gain - groups[1].mean(axis=1) > needed
                case = f"{seeds} seeds, attempt {test}, about {100 * np.median(needed):.1f} points needed"
                show(f"{case}, true gain {100 * gain:.0f}: passed", hits)


def coverage(rng: np.random.Generator) -> None:
    """Print the coverage of the intervals that are shown."""
    print("\nCoverage of 95 % intervals")
    low, high = paired_bounds(rng.choice(THREE, size=(4000, 500), p=three_point(0.04, 0.1)))
    show("paired difference (t), 500 questions, 10 % differ", (low <= 0.04) & (high >= 0.04))
    rows = rng.choice(THREE, size=(500, 500), p=three_point(0.04, 0.1))
    bets = [betting_mean(row, -1.0, 1.0) for row in rows]
    show("betting, the same", np.array([(b.low or 0.0) <= 0.04 <= (b.high or 0.0) for b in bets]))
    for n in (200, 2000):
        for share in (0.5, 0.8):
            true = 2.0 ** (math.log2(10.0) - math.log(share / (1.0 - share)) / 1.2)
            inside = []
            start = time.perf_counter()
            for _ in range(400):
                size = rng.integers(2, 32, n).astype(np.float64)
                solved = rng.random(n) < 1.0 / (1.0 + np.exp(1.2 * (np.log2(size) - math.log2(10.0))))
                estimate = horizon(size, solved, share, rng=rng)
                inside.append((estimate.low or 0.0) <= true <= (estimate.high or math.inf))
            each = 1000 * (time.perf_counter() - start) / len(inside)
            show(f"horizon at {share:.0%}, {n} questions, logistic data ({each:.1f} ms each)", np.array(inside))


def cost(rng: np.random.Generator) -> None:
    """Print what a judgement costs."""
    gate = composed()
    evidence = draw_evidence(rng, questions=2000)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        gate.judge(evidence)
        times.append(1000 * (time.perf_counter() - start))
    print(f"\nOne judgement by all gates (four bands, 2,000 questions): {np.median(times):.1f} ms median")


def main() -> None:
    """Print every figure."""
    everything = (peeking, generations, power, items, retention, bio_creep, noise_floor, composed_nulls, composed_power,
                  coverage, cost)  # fmt: skip
    parts = [part for part in everything if part.__name__ in sys.argv[1:] or not sys.argv[1:]]
    start = time.perf_counter()
    rng = np.random.default_rng(SEED)
    for part in parts:
        part(rng)
    print(f"\nSeed {SEED}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
