"""What making and removing a directory costs on the disk and in memory: why job rooms live in tmpfs.

python bench/scratch.py [DIRECTORY ...]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path


def cost_ms(where: Path, count: int = 300) -> tuple[float, float]:
    """Return milliseconds to make and to remove one directory."""
    with tempfile.TemporaryDirectory(dir=where) as root:
        job_dirs = [Path(root, str(number)) for number in range(count)]
        began = time.perf_counter()
        for job_dir in job_dirs:
            job_dir.mkdir()
        made = time.perf_counter()
        for job_dir in job_dirs:
            job_dir.rmdir()
        removed = time.perf_counter()
    return 1e3 * (made - began) / count, 1e3 * (removed - made) / count


for name in sys.argv[1:] or [".", "/dev/shm"]:
    make, remove = cost_ms(Path(name))
    print(f"{name}: make {make:.3f} ms, remove {remove:.3f} ms")
