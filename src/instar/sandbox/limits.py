"""Limits that the kernel itself holds for a whole job. The supervisor's own watch stands behind each of them."""

from __future__ import annotations

import resource


def limit_processes(most: int) -> None:
    """Allow `most` processes and threads. It is counted per user namespace, so each sandbox has its own count.

    Root without a user of its own inside is not held by it (see `namespaces`); there the supervisor's count stands
    alone.
    """
    _, ceiling = resource.getrlimit(resource.RLIMIT_NPROC)
    most = most if ceiling == resource.RLIM_INFINITY else min(most, ceiling)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
