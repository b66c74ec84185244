"""Korf's 100 fifteen-puzzle instances: solved, and moves above the optimum, for the incumbents of run directories.

    python bench/korf.py HOME [HOME ...] [--widths 64 256]

With several directories the first is compared with each other one, paired over the instances, with a bootstrap
interval. The instances are shown to no run: only this command and the final report look at them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from instar.labs.tiles import oracle, playing
from instar.labs.tiles.model import Inference, load, native_bfloat16
from instar.labs.tiles.search import beam, greedy


def incumbent(home: Path) -> Path:
    number = json.loads((home / "aliases.json").read_text())["champion"]
    return home / "generations" / f"{number:04d}"


def excess(artefact: Path, width: int) -> tuple[np.ndarray, float]:
    """Return moves above the optimum per instance (100,), NaN where unsolved, and the CPU seconds it took."""
    boards, optima = oracle.korf()
    evaluate = Inference(load(artefact), bfloat16=native_bfloat16())
    began = time.process_time()
    found = greedy(evaluate, boards, 200) if width == 1 else beam(evaluate, boards, width, 200)
    solved, used = playing.replay(boards, found)
    return np.where(solved, used - optima, np.nan), time.process_time() - began


def difference(one: np.ndarray, other: np.ndarray) -> str:
    """Return the mean paired difference over the instances that both solved, with a bootstrap interval."""
    paired = (one - other)[~np.isnan(one) & ~np.isnan(other)]
    rng = np.random.default_rng(0)
    means = rng.choice(paired, (10_000, paired.size)).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{paired.mean():+.3f} moves (95 % {low:+.3f} to {high:+.3f}, n = {paired.size})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("homes", type=Path, nargs="+")
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 64, 256])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for width in given.widths:
        found = {}
        for home in given.homes:
            found[home], cpu = excess(incumbent(home), width)
            solved = int((~np.isnan(found[home])).sum())
            mean = np.nanmean(found[home])
            print(f"{home}  beam {width}: solved {solved} of 100, mean excess {mean:.3f}, {cpu:.0f} CPU s")
        for home in given.homes[1:]:
            print(f"  {given.homes[0]} - {home}: {difference(found[given.homes[0]], found[home])}")


if __name__ == "__main__":
    main()
