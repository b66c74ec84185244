"""The tripwire by simulation: false alarms per run, and how many jobs pass before growth is seen.

    python bench/conduct.py [--runs 1000]

Every run is looked at after every fifth job. One row a setting: the share of flagged jobs, what happens at generation
10 (nothing, doubled, five-fold), jobs a generation, the share of runs that trip with its 95 % interval, and the median
and 90th percentile of the jobs from the change to the alarm among those that do.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np

from instar.run.conduct.tripwire import EVIDENCE, log_e_values
from instar.stats.intervals import wilson

CHANGE, EVERY = 10, 5


@dataclass(frozen=True)
class Setting:
    """How often jobs are flagged before generation 10, by what factor from then on, for how long."""

    share: float
    factor: float
    jobs: int  # per generation
    generations: int


def alarms(setting: Setting, runs: int, rng: np.random.Generator) -> np.ndarray:
    """Return the job at which each run tripped, (runs,); -1 where it never did."""
    jobs, flagged = np.zeros((2, runs, setting.generations))
    tripped, seen = np.full(runs, -1), 0
    for number in range(setting.generations):
        share = setting.share * (setting.factor if number >= CHANGE else 1.0)
        for _ in range(setting.jobs // EVERY):
            jobs[:, number] += EVERY
            flagged[:, number] += rng.binomial(EVERY, share, runs)
            seen += EVERY
            waiting = np.flatnonzero(tripped < 0)
            if not len(waiting):
                return tripped
            log_e = log_e_values(jobs[waiting, : number + 1], flagged[waiting, : number + 1])
            tripped[waiting[log_e >= math.log(EVIDENCE)]] = seen
    return tripped


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    rng = np.random.default_rng(20261122)
    print("share  factor  jobs/gen  runs that trip (95 %)       jobs to the alarm: median, 90 %")
    for share in (0.005, 0.02, 0.1, 0.3):
        for factor in (1.0, 2.0, 5.0):
            if share * factor > 0.95:
                continue
            for jobs in (15, 60, 240):
                found = alarms(Setting(share, factor, jobs, 30), runs, rng)
                change = CHANGE * jobs if factor > 1 else 0
                after = found[found > change] - change
                seen = wilson(len(after), runs)
                delay = f"{np.median(after):6.0f} {np.percentile(after, 90):6.0f}" if len(after) else "     -      -"
                print(
                    f"{share:5.3f}  {factor:6.0f}  {jobs:8d}  {seen.value:6.3f} ({seen.low:.3f} to {seen.high:.3f})"
                    f"     {delay}"
                )


if __name__ == "__main__":
    main()
