"""What the ledger costs: appending without and with sync, opening and verifying a long chain.

python bench/ledger.py [--entries 100000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from instar.ledger import open_ledger, verify

SYNCED = 200


def main() -> None:
    """Write a chain, verify it, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000)
    entries = parser.parse_args().entries
    with tempfile.TemporaryDirectory() as name:
        marks = [time.perf_counter()]
        with open_ledger(Path(name)) as ledger:
            for number in range(entries):
                ledger.append(f"design:{number}", {"digest": "ab" * 32, "mean": 0.5, "p_better": 0.3}, sync=False)
            marks.append(time.perf_counter())
            for number in range(SYNCED):
                ledger.append(f"synced:{number}", {"digest": "ab" * 32})
            marks.append(time.perf_counter())
        found = verify(Path(name))
        marks.append(time.perf_counter())
        open_ledger(Path(name)).close()
        marks.append(time.perf_counter())
    seconds = [after - before for before, after in pairwise(marks)]
    assert found.problem is None
    print(f"append without sync {1e3 * seconds[0] / entries:.3f} ms, with sync {1e3 * seconds[1] / SYNCED:.2f} ms")
    print(f"{found.entries:,} entries: verify {seconds[2]:.2f} s, open {seconds[3]:.2f} s")


if __name__ == "__main__":
    main()
