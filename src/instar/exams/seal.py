"""Sealed seeds: nobody knows an exam's questions before the candidate's digest is committed to the ledger."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from instar.contracts.errors import ArchiveError


class Seal:
    """The run's sealed key. It stays in the conductor; only its SHA-256 is published."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @property
    def commitment(self) -> str:
        """SHA-256 of the key (hexadecimal), for the ledger's first entry."""
        return hashlib.sha256(self._key).hexdigest()

    def seed(self, root: str, purpose: str) -> int:
        """Return the 63-bit seed HMAC-SHA256(key, root | purpose) (RFC 2104).

        Args:
            root: the ledger's root once the candidate is committed (hexadecimal).
            purpose: what the questions are for, so that no two question sets share a seed.
        """
        mac = hmac.new(self._key, f"{root}|{purpose}".encode(), hashlib.sha256).digest()
        return int.from_bytes(mac[:8], "big") >> 1


def open_seal(path: Path) -> Seal:
    """Read the run's key, or make one (32 random bytes, readable by the owner alone)."""
    try:
        if not path.exists():
            part = path.with_name(f".{path.name}.part")
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        key = path.read_bytes()
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}", "The run directory must be writable.") from None
    if len(key) != 32:
        raise ArchiveError(f"{path}: not a sealed key of 32 bytes", "Restore it, or start a new run directory.")
    return Seal(key)
