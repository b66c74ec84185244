"""Learning curves of designs of the lab `speedrun`: held-out bits per byte over CPU seconds of training alone.

    python bench/speedrun_curves.py sweep [--seconds 90] [--seeds 1] [--corpus shakespeare] [--only NAME ...]
    python bench/speedrun_curves.py target [--seeds 1,2,3]

`sweep` is what the reference's learning rate and schedule were chosen by; `target` repeats the reference with several
seeds, and prints its loss when its time is up, from which the target in lab.toml was set. One thread. The CPU time of
looking at the curve is taken off. The held-out text is read here, so nothing of this may be part of a run.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch

LAB = Path(__file__).parents[1] / "src/instar/labs/speedrun"
sys.path.insert(0, str(LAB))
import train as script  # noqa: E402 - the lab's own training script

EVERY_SECONDS = 5.0
WINDOWS = 384


class Curve(script.Validation):  # type: ignore[misc]
    """In place of the rule when to stop: notes the held-out loss every few seconds, and never stops."""

    text = np.zeros(0, np.uint8)
    windows_at_once = 64

    def __init__(self, text: np.ndarray, goal: float) -> None:
        super().__init__(text, goal)
        del text
        starts = np.linspace(0, len(self.text) - script.CONTEXT - 2, WINDOWS).astype(np.int64)
        self.held_out = torch.from_numpy(self.text[starts[:, None] + np.arange(script.CONTEXT + 1)]).long()
        self.began, self.spent, self.tokens = time.process_time(), 0.0, 0
        self.points: list[tuple[float, int, float]] = []
        Curve.newest = self

    def reached(self, model: Any, bits: float, tokens: int) -> bool:
        self.tokens += tokens
        used = time.process_time() - self.began - self.spent
        if used >= EVERY_SECONDS * (len(self.points) + 1):
            self.note(model)
        return False

    def note(self, model: Any) -> None:
        began = time.process_time()
        parts = []
        for windows in self.held_out.split(self.windows_at_once):
            self.windows = windows
            parts.append(self.bits(model))
        self.points.append((began - self.began - self.spent, self.tokens, float(np.mean(parts))))
        self.spent += time.process_time() - began


def unpacked(name: str) -> bytes:
    return lzma.decompress((LAB / f"data/{name}.xz").read_bytes())


def run(design: dict[str, Any], seed: int, seconds: float, corpus: str) -> list[tuple[float, int, float]]:
    """Train a design for so many CPU seconds; return (CPU seconds, tokens, held-out bits per byte) along the way."""
    script.Validation = Curve
    Curve.text = np.frombuffer(unpacked(f"sealed/{corpus}.heldout"), np.uint8).copy()
    queries = 1.35  # room for the looks; the curve is cut afterwards
    with tempfile.TemporaryDirectory() as place:
        here = os.getcwd()
        os.chdir(place)
        for part in ("train", "validation"):
            Path(f"{part}.bin").write_bytes(unpacked(f"{corpus}.{part}"))
        job = {"design": design, "seed": seed, "target": 0.0, "margin": 0.0, "least_steps": 1, "most_steps": 10**9}
        model, _ = script.train(job | {"limit": time.process_time() + queries * seconds})
        os.chdir(here)
    Curve.newest.note(model)
    return [point for point in Curve.newest.points if point[0] <= 1.02 * seconds]


def main() -> None:
    """Print one line of JSON per run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sweep", "target"])
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--corpus", default="shakespeare")
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    torch.set_num_threads(1)
    seed_design = tomllib.loads((LAB / "lab.toml").read_text())["seed"]
    designs = {"reference": seed_design}
    if given.what == "sweep":
        designs = {
            f"{schedule} {rate:g}": seed_design | {"schedule": schedule, "learning_rate": rate}
            for schedule in ("constant", "cosine")
            for rate in (3e-4, 1e-3, 3e-3)
        }
    for name, design in designs.items():
        if given.only and name not in given.only:
            continue
        for seed in map(int, given.seeds.split(",")):
            points = run(design, seed, given.seconds, given.corpus)
            row = {"design": name, "corpus": given.corpus, "seed": seed, "curve": points}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
