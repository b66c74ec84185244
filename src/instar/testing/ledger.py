"""What every ledger must do, as tests that a plugin's author runs against theirs.

    class TestMyLedger(LedgerConformance):
        @pytest.fixture
        def opener(self, tmp_path):
            return lambda: my_open(tmp_path / "ledger")

        @pytest.fixture
        def checker(self):
            return my_check  # (proof, root) -> bool

`opener` opens the same ledger each time: first makes, then resumes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from instar.contracts.errors import LedgerError
from instar.contracts.ledger import Ledger

Opener = Callable[[], Ledger]
Checker = Callable[[Mapping[str, Any], str], bool]


class LedgerConformance:
    """The contract of `instar.contracts.ledger.Ledger`; give the class `opener` and `checker` fixtures."""

    @pytest.fixture
    def opener(self) -> Opener:
        """Return what opens the ledger under test."""
        raise NotImplementedError("define the fixture `opener` in your test class")

    @pytest.fixture
    def checker(self) -> Checker:
        """Return what a stranger checks a proof with."""
        raise NotImplementedError("define the fixture `checker` in your test class")

    def test_indices_count_from_zero_and_roots_differ(self, opener: Opener) -> None:
        """Every entry moves the root, and its receipt says where it stands."""
        ledger = opener()
        roots = [ledger.root]
        for index in range(3):
            receipt = ledger.append(f"key:{index}", {"value": None})
            assert receipt.index == index
            assert receipt.root == ledger.root
            roots.append(ledger.root)
        assert len(set(roots)) == 4
        ledger.close()

    def test_a_key_is_appended_once(self, opener: Opener) -> None:
        """The old receipt comes back, also after a restart; another statement is an error that names the key."""
        ledger = opener()
        first = ledger.append("a", {"value": 1})
        ledger.append("b", {"value": 2})
        root = ledger.root
        assert ledger.append("a", {"value": 1}) == first
        ledger.close()
        ledger = opener()
        assert ledger.root == root
        assert ledger.append("a", {"value": 1}) == first
        with pytest.raises(LedgerError) as caught:
            ledger.append("a", {"value": 3})
        assert "'a'" in caught.value.what
        assert ledger.root == root
        said = [(entry.key, entry.statement) for entry in ledger.entries()]
        assert said == [("a", {"value": 1}), ("b", {"value": 2})]
        ledger.close()

    def test_an_entry_without_sync_is_kept_on_closing(self, opener: Opener) -> None:
        """Closing flushes what was appended without sync."""
        ledger = opener()
        receipt = ledger.append("a", {"value": 1}, sync=False)
        ledger.close()
        ledger = opener()
        assert ledger.root == receipt.root
        assert ledger.append("a", {"value": 1}) == receipt
        ledger.close()

    def test_proofs_hold_and_travel_as_json(self, opener: Opener, checker: Checker) -> None:
        """Each entry is proved under the present root, and under no other."""
        ledger = opener()
        for index in range(5):
            ledger.append(f"key:{index}", {"value": index, "text": "ä\u2028"})
        for index in range(5):
            proof = json.loads(json.dumps(ledger.prove(index)))
            assert checker(proof, ledger.root)
            assert not checker(proof, "0" * 64)
        old, root = ledger.prove(2), ledger.root
        ledger.append("later", {})
        assert checker(old, root)
        assert not checker(old, ledger.root)
        ledger.close()

    def test_a_malformed_proof_is_no_proof(self, opener: Opener, checker: Checker) -> None:
        """What a stranger is handed is checked, never trusted to have a form."""
        ledger = opener()
        ledger.append("a", {})
        for proof in ({}, {"index": "0"}, {**ledger.prove(0), "index": 1}):
            assert not checker(proof, ledger.root)
        ledger.close()

    @pytest.mark.parametrize(
        "statement",
        [
            {"value": float("nan")},
            {"value": float("inf")},
            {"value": object()},
            {"text": "x" * 65_536},
            {"s": "\ud800"},
        ],
        ids=["nan", "infinity", "object", "long", "surrogate"],
    )
    def test_what_is_not_strict_json_is_refused(self, opener: Opener, statement: Mapping[str, Any]) -> None:
        """The ledger is as before, and the key stays free."""
        ledger = opener()
        root = ledger.root
        with pytest.raises(LedgerError) as caught:
            ledger.append("a", statement)
        assert caught.value.fix
        assert ledger.root == root
        assert ledger.append("a", {}).index == 0
        ledger.close()

    def test_there_is_no_proof_of_nothing(self, opener: Opener) -> None:
        """Indices outside of the ledger are refused."""
        ledger = opener()
        for index in (-1, 0):
            with pytest.raises(LedgerError):
                ledger.prove(index)
        ledger.close()

    def test_a_second_writer_is_refused(self, opener: Opener) -> None:
        """Two writers would fork the log."""
        ledger = opener()
        with pytest.raises(LedgerError) as caught:
            opener()
        assert caught.value.fix
        ledger.append("a", {})
        ledger.close()
        opener().close()

    def test_closing_twice_is_safe_and_final(self, opener: Opener) -> None:
        """The second time does nothing; appending afterwards is refused."""
        ledger = opener()
        ledger.close()
        ledger.close()
        with pytest.raises(LedgerError):
            ledger.append("a", {})
