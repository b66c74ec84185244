"""Money is set aside before it is spent, and no record of it gets lost."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.builders.spend_cap import SpendCap, paid
from instar.contracts.builder import BuilderContext
from instar.contracts.errors import BadInput
from instar.contracts.records import Spend


def test_what_is_set_aside_is_gone_until_it_is_settled(tmp_path: Path) -> None:
    spend_cap = SpendCap(tmp_path / "p" / "spend_cap.jsonl", "llm", 1.0)
    first, second = spend_cap.reserve(0.6, 100), spend_cap.reserve(0.6, 100)
    assert first is not None
    assert second is None
    spend_cap.settle(first, 0.25, 40)
    assert spend_cap.left == 0.75
    assert spend_cap.reserve(0.75, 1) is not None
    assert spend_cap.left == 0.0


def test_a_killed_life_counts_what_it_had_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "spend_cap.jsonl"
    spend_cap = SpendCap(path, "llm", 1.0)
    spend_cap.settle(str(spend_cap.reserve(0.5, 10)), 0.1, 5)
    spend_cap.reserve(0.5, 10)  # and then it was killed
    again = SpendCap(path, "llm", 1.0)
    assert again.spent == pytest.approx(0.6)
    assert again.reserve(0.41, 1) is None
    assert paid(path) == {"llm": Spend(0.6, 15)}


def test_a_line_cut_off_by_a_crash_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "spend_cap.jsonl"
    SpendCap(path, "llm", 1.0).reserve(0.5, 10)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    again = SpendCap(path, "llm", 1.0)
    assert again.spent == 0.5
    again.reserve(0.25, 1)
    assert paid(path) == {"llm": Spend(0.75, 11)}


@pytest.mark.parametrize(
    "line", ["nonsense", '{"key": "a"}', '{"key":"a","author":"l","usd":-1,"tokens":0,"settled":true}']
)
def test_a_damaged_journal_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "spend_cap.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(BadInput, match="damaged"):
        SpendCap(path, "llm", None)
    with pytest.raises(BadInput, match="damaged"):
        paid(path)


def test_several_spend_caps_share_one_cap(tmp_path: Path) -> None:
    spend_caps = [SpendCap(tmp_path / "spend_cap.jsonl", author, 1.0) for author in ("llm", "agent")]
    granted: list[str | None] = []

    def spend(spend_cap: SpendCap) -> None:
        granted.extend(spend_cap.reserve(0.1, 1) for _ in range(20))

    threads = [threading.Thread(target=spend, args=(spend_cap,)) for spend_cap in spend_caps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(key is not None for key in granted) == pytest.approx(10, abs=1)  # ten tenths may be a hair above 1
    assert sum(spend.usd for spend in paid(tmp_path / "spend_cap.jsonl").values()) <= 1.0


def test_the_archive_counts_where_the_journal_knows_less(tmp_path: Path) -> None:
    context = BuilderContext(
        directory=tmp_path / "builders" / "llm", max_cost=1.0, spent={"llm": Spend(0.5), "agent": Spend(0.25)}
    )
    spend_cap = SpendCap.of(context, "llm")
    assert spend_cap.left == 0.25
    spend_cap.settle(str(spend_cap.reserve(0.125, 1)), 0.125, 1)
    assert spend_cap.left == 0.25, "the larger of both records, not their sum"
    assert (tmp_path / "builders" / "spend_cap.jsonl").is_file()


@given(st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 1), st.booleans()), max_size=20))
def test_the_cap_holds_whatever_is_asked(
    tmp_path_factory: pytest.TempPathFactory, sums: list[tuple[float, float, bool]]
) -> None:
    path = tmp_path_factory.mktemp("spend_cap") / "spend_cap.jsonl"
    spend_cap, total = SpendCap(path, "llm", 1.0), 0.0
    for usd, share, kill in sums:
        key = spend_cap.reserve(usd, 1)
        if kill:
            spend_cap = SpendCap(path, "llm", 1.0)
        elif key is not None:
            spend_cap.settle(key, usd * share, 1)
    total = (
        sum({json.loads(line)["key"]: json.loads(line)["usd"] for line in path.read_text().splitlines()}.values())
        if path.exists()
        else 0.0
    )
    assert total <= 1.0 + 1e-12
