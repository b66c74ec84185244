"""Limits that the kernel holds for a process or a whole job. The supervisor's watch stands behind each of them."""

from __future__ import annotations

import resource


def lower(which: int, soft: int, hard: int | None = None) -> None:
    """Set a limit (RLIMIT_*) of this process and its children, never above the one that holds already."""
    ceiling = resource.getrlimit(which)[1]
    wanted = soft if hard is None else hard
    hard = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
    resource.setrlimit(which, (min(soft, hard), hard))


def limit_processes(most: int) -> None:
    """Allow `most` processes and threads. It is counted per user namespace, so each sandbox has its own count.

    Root without a user of its own inside is not held by it (see `namespaces`); there the supervisor's count stands
    alone.
    """
    lower(resource.RLIMIT_NPROC, most)
