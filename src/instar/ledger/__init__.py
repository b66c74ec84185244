"""The ledger: an append-only log of what was committed and decided, which a stranger can verify.

`open_ledger` is for its one writer; `verify` and `check_proof` need nothing but the file and a root.
"""

from instar.ledger.chain import GENESIS, ChainLedger, Verification, check_proof, open_ledger, read_entries, verify
from instar.ledger.turns import TAMPERED, accepted

__all__ = [
    "GENESIS", "TAMPERED", "ChainLedger", "Verification", "accepted", "check_proof", "open_ledger", "read_entries",
    "verify",
]  # fmt: skip
