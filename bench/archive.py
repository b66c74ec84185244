"""What a durable record of a typical turn costs, with few and with many trials in the archive.

    python bench/archive.py [--turns 1000] [--small 1000] [--large 100000] [--directory /a/disk]

A turn settles one reservation, records its trial and one proposal, and reserves the next. The two archives take
blocks of turns in alternation, so that what else the machine does falls on both alike. The raw cost of an fsync
of the same disk, measured in the same alternation, stands beside it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from instar.archive import SqlArchive, open_archive
from instar.contracts.archive import Fact, Reservation
from instar.contracts.records import Author, Design, Forecast, Goal, Proposal, Trial, TrialState, Usage

BLOCK = 50  # turns
BATCH = 1_000  # turns written together while an archive is filled
SOURCE = "def forward(x):\n    return x\n" * 20
GOAL = Goal("scrambles of up to 24 moves", {"depth": 24}, 24.0, (0.1, 0.4))


def turn(number: int) -> tuple[list[Fact], dict[str, Usage], list[Reservation]]:
    """Return what one turn of the loop records."""
    parameters = {f"parameter_{i}": number + i / 7 for i in range(12)}
    design = Design("tiles", parameters, {"model.py": SOURCE})
    proposal = Proposal(
        number, design, Author("incumbent"), 3, GOAL, "a neighbour of the best", Forecast(0.4, 0.6, 0.1)
    )
    used = Usage(4.1, 4.3, 300_000_000)
    trial = Trial(number, number, 3, 1, 0, number, TrialState.SCORED, 0.61, 0.01, 0.02, used, "raised", "ab" * 32)
    following = Reservation(f"trial:{number + 1}:1", "improve", 5.0)
    return [proposal, trial], {f"trial:{number}:1": used}, [following]


def fill(archive: SqlArchive, trials: int) -> None:
    """Record turns in large batches: only the end state matters."""
    archive.record(reserve=[Reservation("trial:1:1", "improve", 5.0)])
    for start in range(1, trials + 1, BATCH):
        turns = [turn(number) for number in range(start, min(start + BATCH, trials + 1))]
        archive.record(
            [fact for facts, _, _ in turns for fact in facts],
            settle={key: usage for _, settle, _ in turns for key, usage in settle.items()},
            reserve=[reservation for _, _, reserve in turns for reservation in reserve],
        )


def timed(action: Callable[[], object], wall: list[float], cpu: list[float]) -> None:
    """Append the sandbox and CPU seconds of one call."""
    before_wall, before_cpu = time.perf_counter(), time.process_time()
    action()
    cpu.append(time.process_time() - before_cpu)
    wall.append(time.perf_counter() - before_wall)


class Subject:
    """An archive with so many trials in it, and what its turns have cost."""

    def __init__(self, path: Path, trials: int) -> None:
        self.trials = trials
        self.archive = open_archive(path, {"lab": "tiles"})
        self.wall: list[float] = []
        self.cpu: list[float] = []
        fill(self.archive, trials)
        self.numbers = count(trials + 1)

    def block(self) -> None:
        for _ in range(BLOCK):
            facts, settle, reserve = turn(next(self.numbers))
            timed(lambda: self.archive.record(facts, settle=settle, reserve=reserve), self.wall, self.cpu)  # noqa: B023

    def report(self) -> None:
        reading: tuple[list[float], list[float]] = [], []
        for _ in range(20):
            timed(self.archive.account, *reading)
            timed(self.archive.counts, *reading)
        print(
            f"{self.trials:>9,} trials: {len(self.wall) / sum(self.wall):6.0f} records/s | wall ms median "
            f"{1e3 * statistics.median(self.wall):.2f} | CPU ms mean {1e3 * statistics.fmean(self.cpu):.2f} "
            f"median {1e3 * statistics.median(self.cpu):.2f} "
            f"| account or counts {1e3 * statistics.median(reading[0]):.2f} ms"
        )


def main() -> None:
    """Fill two archives, measure them in alternation, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=1_000)
    parser.add_argument("--small", type=int, default=1_000)
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name, open(Path(name) / "raw", "ab", 0) as raw:
        subjects = [Subject(Path(name) / f"{n}.db", n) for n in (options.small, options.large)]
        synced: tuple[list[float], list[float]] = [], []
        for _ in range(0, options.turns, BLOCK):
            for subject in subjects:
                subject.block()
            for _ in range(BLOCK):
                raw.write(b"x" * 4_096)
                timed(lambda: os.fsync(raw.fileno()), *synced)
        for subject in subjects:
            subject.report()
        print(f"raw write of 4 KiB and fsync: wall ms median {1e3 * statistics.median(synced[0]):.2f}")
        small, large = subjects
        print(
            f"large over small: CPU {sum(large.cpu) / sum(small.cpu):.2f}, wall {sum(large.wall) / sum(small.wall):.2f}"
        )
        for subject in subjects:
            subject.archive.close()
            resuming: tuple[list[float], list[float]] = [], []
            timed(lambda path=subject.archive.path: open_archive(path, {"lab": "tiles"}).close(), *resuming)
            size = subject.archive.path.stat().st_size / 2**20
            print(f"resuming with {subject.trials:,} trials ({size:.0f} MiB looked through): {resuming[0][0]:.2f} s")


if __name__ == "__main__":
    main()
