"""What starting a job costs: python bench/executor.py [--jobs 40]

Prints one JSON object: starting a job with torch preloaded (submit -> the entry runs -> the outcome is in hand)
beside a cold `import torch`, and no-op jobs a second. Give it an idle machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from instar.contracts.executor import Executor
from instar.executors import inline, local
from instar.testing import executor as suite

STAMP = "import time; (job / 'out' / 'entered').write_text(repr(time.monotonic()))"


def spread(seconds: list[float]) -> dict[str, float]:
    """Return median and 95th percentile in milliseconds."""
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {"median_ms": round(1e3 * statistics.median(ordered), 2), "p95_ms": round(1e3 * p95, 2)}


def starting(executor: Executor, jobs: int) -> dict[str, dict[str, float]]:
    """Time jobs one after the other: to the entry, and to the outcome."""
    suite.run(executor, suite.job("warm", suite.nothing))
    to_entry, to_outcome = [], []
    for number in range(jobs):
        began = time.monotonic()
        outcome = suite.run(executor, suite.job(f"job-{number}", suite.execute, {"code": STAMP}))
        to_outcome.append(time.monotonic() - began)
        to_entry.append(float((outcome.output / "entered").read_text()) - began)
    return {"submit_to_entry": spread(to_entry), "submit_to_outcome": spread(to_outcome)}


def throughput(executor: Executor, jobs: int) -> float:
    """Return no-op jobs a second with one job more in the queue than there are slots."""
    suite.run(executor, suite.job("warm", suite.nothing))
    began, submitted, done = time.monotonic(), 0, 0
    while done < jobs:
        while submitted < jobs and submitted - done <= executor.slots:
            executor.submit(suite.job(f"no-op-{submitted}", suite.nothing))
            submitted += 1
        done += len(executor.wait())
    return round(jobs / (time.monotonic() - began), 1)


def cold(times: int) -> dict[str, float]:
    """Time a new interpreter that imports torch."""
    seconds = []
    for _ in range(times):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        seconds.append(time.monotonic() - began)
    return spread(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=40)
    jobs = parser.parse_args().jobs
    light, heavy = ["instar.testing.executor"], ["torch", "instar.testing.executor"]
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as root:
        with local.create(1, Path(root, "torch"), heavy) as executor:
            figures["local, torch preloaded"] = starting(executor, jobs)
        with local.create(2, Path(root, "torch2"), heavy) as executor:
            figures["no-op jobs/s, local, torch preloaded, 2 slots"] = throughput(executor, jobs)
        with local.create(1, Path(root, "light"), light) as executor:
            figures["local, nothing heavy preloaded"] = starting(executor, jobs)
        with local.create(2, Path(root, "light2"), light) as executor:
            figures["no-op jobs/s, local, nothing heavy preloaded, 2 slots"] = throughput(executor, jobs)
        with inline.create(1, Path(root, "inline"), []) as executor:
            figures["no-op jobs/s, inline"] = throughput(executor, 25 * jobs)
    figures["cold import torch"] = cold(3)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
