"""What the first step of an optimiser costs a forked job, by what the fork server has loaded.

    python bench/first_step.py [--forks 5]

Each fork takes one step with `torch.optim.AdamW`, with the function behind it, and with the class once
`torch._dynamo` is loaded before the fork. Prints CPU seconds, the least and the most of the forks.
"""

from __future__ import annotations

import argparse
import importlib
import os
import struct
import time
from collections.abc import Callable

import torch
from torch.optim.adamw import adamw


def by_class() -> None:
    """Take a step as most scripts do."""
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    optimiser = torch.optim.AdamW([weight], fused=True)
    weight.grad = torch.ones(8, 8)
    optimiser.step()


def by_function() -> None:
    """Take the same step by the function that the class calls."""
    zeros = [torch.zeros(8, 8) for _ in range(3)]
    adamw(
        zeros[:1], [torch.ones(8, 8)], zeros[1:2], zeros[2:], [], [torch.zeros(())], fused=True, amsgrad=False,
        beta1=0.9, beta2=0.999, lr=1e-3, weight_decay=1e-2, eps=1e-8, maximize=False,
    )  # fmt: skip


def forked(step: Callable[[], None]) -> float:
    """Return the CPU seconds of a step in a fresh fork."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        began = time.process_time()
        step()
        os.write(sending, struct.pack("d", time.process_time() - began))
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as told:
        said = told.read()
    os.waitpid(child, 0)
    return float(struct.unpack("d", said)[0])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--forks", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)

    def show(what: str, step: Callable[[], None]) -> None:
        seconds = [forked(step) for _ in range(given.forks)]
        print(f"{what:<44} {min(seconds):6.3f} to {max(seconds):.3f} CPU s")

    show("class, torch loaded", by_class)
    show("function, torch loaded", by_function)
    began = time.process_time()
    importlib.import_module("torch._dynamo")
    print(f"{'import torch._dynamo, once':<44} {time.process_time() - began:6.3f} CPU s")
    show("class, torch and torch._dynamo loaded", by_class)


if __name__ == "__main__":
    main()
