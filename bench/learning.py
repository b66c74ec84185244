"""What one training example of the lab `tiles` costs by network size: the overhead that rungs count beside weights.

    python bench/learning.py [--size 3]

Prints CPU microseconds per example on walks, and the fit cost = a * weights + b; b / a is the overhead in weights.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from instar.labs.tiles.learn import TrainConfig, Walks, train
from instar.labs.tiles.model import Policy, PolicyConfig, native_bfloat16


def microseconds(size: int, width: int, blocks: int, steps: int = 40, batch: int = 1024) -> tuple[int, float]:
    """Return the number of weights and the CPU microseconds per example."""
    policy = Policy(PolicyConfig(size, width, blocks))
    source = Walks(size, 40)
    config = TrainConfig(steps=steps, batch=batch, bfloat16=native_bfloat16() and width >= 256)
    train(policy, source, TrainConfig(steps=5, batch=batch))
    began = time.process_time()
    train(policy, source, config)
    spent = time.process_time() - began
    return sum(p.numel() for p in policy.parameters()), 1e6 * spent / (steps * batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for width in (128, 256, 384, 512):
        for blocks in (0, 1, 2):
            rows.append(microseconds(given.size, width, blocks))
            print(f"width {width}, blocks {blocks}: {rows[-1][0]:>9,} weights, {rows[-1][1]:6.2f} us per example")
    weights, cost = np.array(rows, dtype=float).T
    slope, overhead = np.polyfit(weights, cost, 1)
    print(f"cost = {1e6 * slope:.2f} us per million weights + {overhead:.2f} us: {overhead / slope:,.0f} weights")


if __name__ == "__main__":
    main()
