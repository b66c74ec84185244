"""What a person costs the loop: the same toy lab on every rung of autonomy, with a scripted person of a fixed delay.

    python bench/ladder.py [--seeds 3] [--delay 0.2]

Prints, by rung, over the seeds (median, lowest and highest): decisions by the person until one generation was promoted,
seconds that its questions waited, the share of the slots' time that stood idle for the person, and wall seconds.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.persons import Person
from tests.rig import Rig
from tests.toy_command import with_toy
from tests.toys import TeachingToyLab

from instar.archive import read_archive
from instar.contracts import plugins
from instar.report import dependence


def play(home: Path, rung: int, seed: int, delay: float) -> tuple[float, ...]:
    """Return touches, seconds waited, idle share by the person, and wall seconds of one run to generation 1."""
    builder = "human" if rung == 0 else "random"
    given: dict[str, Any] = {"generations": 1, "rung": rung, "builder": builder, "seed": seed}
    with Person(home, delay):
        run, why = Rig(home, TeachingToyLab(), given).play()
    assert why == "generations reached", why
    with read_archive(home / "archive.db") as archive:
        found = dependence.figures(archive)
    waited = sum(right["total_seconds"] for right in found["waited"].values())
    idle = found["idle_share_for_persons"] or 0.0
    return found["touches"], waited, idle, run.budget.elapsed


def spread(values: Sequence[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--delay", type=float, default=0.2)
    given = parser.parse_args()
    logging.disable()
    plugins.entry_points = with_toy(plugins.entry_points)
    print(f"{given.seeds} seeds, a person who answers {given.delay:g} s after the question")
    print(f"{'rung':<5}{'touches':<18}{'waited, s':<22}{'idle for the person':<24}{'wall, s'}")
    for rung in range(5):
        with tempfile.TemporaryDirectory(prefix="instar-ladder-") as place:
            rows = [play(Path(place) / str(seed), rung, seed, given.delay) for seed in range(given.seeds)]
        touches, waited, idle, wall = zip(*rows, strict=True)
        print(f"{rung:<5}{spread(touches, '.0f'):<18}{spread(waited, '.2f'):<22}{spread(idle, '.1%'):<24}"
              f"{spread(wall, '.1f')}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
