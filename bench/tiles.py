"""The default run and its baselines on 3x3, several seeds each, one after another; prints one table.

    python bench/tiles.py [--seeds 11 12 13] [--budget 3m] [--budget-cpu 2m] [--arms loop frozen none walks]

Each row is one `instar run tiles --json` in a fresh directory. `walks` is the plain recipe (EfficientCube) at equal
CPU. The last lines give the median and the range over the seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BASELINES = {
    "loop": [],
    "frozen": ["--set", "builder_frozen_at=1"],
    "random": ["--builder", "random"],
    "none": ["--set", "feedback=none"],
    "self": ["--set", "feedback=self"],
    "walks": ["--set", "baseline=walks"],
}


def play(baseline: str, seed: int, given: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Run one arm with one seed and return its `--json` object."""
    command = [sys.executable, "-m", "instar", "run", "tiles", "--size", str(given.size), "--seed", str(seed)]
    command += [
        "--budget",
        given.budget,
        "--workers",
        str(given.workers),
        "--home",
        str(home),
        "--json",
        *BASELINES[baseline],
    ]
    command += ["--set", f"budget_cpu={given.budget_cpu}"] if given.budget_cpu else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nexit {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def row(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of one run."""
    generations, final = found["generations"], found["final"]
    first = generations[1]["run_seconds"] if len(generations) > 1 else math.inf
    start, end = (evaluated["horizon_50"] for evaluated in (final["founder"], final))  # the same fresh questions
    solved = [g for g in generations if g["metrics"].get("greedy_success", 0.0) >= 0.99]
    return {
        "generations": len(generations) - 1,
        "first_s": first,
        "wall_s": found["cost"]["wall_seconds"],
        "cpu_s": found["cost"]["cpu_seconds"],
        "cpu_to_99": solved[0]["run_cpu_seconds"] if solved else math.inf,
        "greedy": final.get("metrics", {}).get("greedy_success", 0.0),
        "excess": final.get("metrics", {}).get("greedy_excess_moves", math.inf),
        "efficiency": final["metric"]["value"],
        "horizon_0": start["value"],
        "horizon_end": end["value"],
        "doublings": math.log2(end["value"] / start["value"]),
        "busy": found["slots_busy_share"],
        "overhead": found["loop_overhead_share"],
        "of_the_loop": found["loop_overhead_share"]
        * (1 - found["startup_cpu_seconds"] / found["conductor_cpu_seconds"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--arms", nargs="+", choices=BASELINES, default=["loop", "frozen", "none", "walks"])
    parser.add_argument("--budget", default="3m")
    parser.add_argument("--budget-cpu", help="CPU time of a run's trials: what arms are held to on a loaded machine")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--size", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="keep the run directories here")
    given = parser.parse_args()
    root = given.keep or Path(tempfile.mkdtemp(prefix="instar-bench-"))
    budget = f"budget {given.budget} (CPU {given.budget_cpu or 'free'}), {given.workers} workers"
    print(f"load before: {os.getloadavg()[0]:.1f}; {budget}, runs in {root}")
    for baseline in given.arms:
        rows = []
        for seed in given.seeds:
            rows.append(row(play(baseline, seed, given, root / f"{baseline}-{seed}")))
            print(f"{baseline:>7} seed {seed}: " + "  ".join(f"{k} {v:.4g}" for k, v in rows[-1].items()), flush=True)
        columns = {key: sorted(found[key] for found in rows) for key in rows[0]}
        medians = (f"{k} {statistics.median(v):.4g} [{v[0]:.4g}, {v[-1]:.4g}]" for k, v in columns.items())
        print(f"{baseline:>7} median [range]: " + "  ".join(medians), flush=True)


if __name__ == "__main__":
    main()
