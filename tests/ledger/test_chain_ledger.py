"""The hash chain: its contract, tampering, torn ends, full disks, kills."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.contracts.errors import LedgerError
from instar.ledger import GENESIS, Verification, check_proof, open_ledger, verify
from instar.ledger import chain as chain_module
from instar.testing.ledger import Checker, LedgerConformance, Opener


class TestChainLedger(LedgerConformance):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: open_ledger(tmp_path / "run" / "ledger")

    @pytest.fixture
    def checker(self) -> Checker:
        return check_proof


def _chain(directory: Path, count: int = 4) -> list[str]:
    """Write a ledger and return its roots, genesis first."""
    with open_ledger(directory) as ledger:
        roots = [ledger.append(f"k{i}", {"n": i, "text": "ä"}, sync=False).root for i in range(count)]
    return [GENESIS, *roots]


def _file(directory: Path) -> Path:
    return directory / "chain.jsonl"


def test_a_ledger_verifies_and_its_format_is_fixed(tmp_path: Path) -> None:
    roots = _chain(tmp_path)
    assert verify(tmp_path) == Verification(4, roots[-1])
    first = _file(tmp_path).read_text("utf-8").splitlines()[0]
    assert first == f'{{"index":0,"key":"k0","previous":"{GENESIS}","statement":{{"n":0,"text":"ä"}}}}'
    assert GENESIS == "03a96410ebb668ad16abaccf0ac4a454a27381754be479744863e0e6cedbd88f"


def test_a_missing_ledger_is_a_problem(tmp_path: Path) -> None:
    found = verify(tmp_path / "nowhere")
    assert found.entries == 0
    assert "No such file" in (found.problem or "")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, str]:
    directory = tmp_path_factory.mktemp("ledger")
    root = _chain(directory)[-1]
    return directory, _file(directory).read_bytes(), root


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_byte_that_is_changed_is_found(written: tuple[Path, bytes, str], data: st.DataObject) -> None:
    directory, good, root = written
    place = data.draw(st.integers(0, len(good) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != good[place]))
    _file(directory).write_bytes(good[:place] + bytes([value]) + good[place + 1 :])
    found = verify(directory)
    assert found.problem or found.root != root
    if place < good.rindex(b"\n", 0, -1):  # before the last line, no root is needed to see it
        assert found.problem


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_line_that_is_moved_lost_or_doubled_is_found(written: tuple[Path, bytes, str], data: st.DataObject) -> None:
    directory, good, root = written
    lines = good.splitlines(keepends=True)
    chosen = data.draw(st.lists(st.sampled_from(lines), max_size=6).filter(lambda other: other != lines))
    _file(directory).write_bytes(b"".join(chosen))
    found = verify(directory)
    assert found.problem or found.root != root
    assert found.problem or chosen == lines[: len(chosen)]  # what only lacks its end needs the root


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b'"n":1', b'"n":2', "line 3: previous is"),
        (b'"index":1', b'"index":5', "line 2: index is 5, 1 is expected"),
        (b'"n":1', b'"n": 1', "line 2: not in canonical form"),
        (b'"n":1', b'"n":NaN', "line 2: not strict JSON"),
        (b'"n":1', b'"n":1,"n":1', "line 2: not in canonical form"),
        (b'"key":"k1"', b'"key":1', "line 2: key is 1, text is expected"),
        (b'"key":"k1"', b'"kez":"k1"', "line 2: not an object of"),
        (b'"key":"k3"', b'"key":"k0"', "line 4: its key 'k0' was used before"),
        (b"\xc3\xa4", b"\xc3", "line 1: not strict JSON"),
    ],
)
def test_a_break_names_the_line_and_what_differs(tmp_path: Path, old: bytes, new: bytes, problem: str) -> None:
    _chain(tmp_path)
    content = _file(tmp_path).read_bytes()
    assert old in content
    _file(tmp_path).write_bytes(content.replace(old, new, 1))
    assert problem in (verify(tmp_path).problem or "")
    with pytest.raises(LedgerError, match="put back a copy") as caught:
        open_ledger(tmp_path)
    assert problem in caught.value.what
    assert _file(tmp_path).read_bytes() == content.replace(old, new, 1)


@given(cut=st.integers(1, 132))
@settings(max_examples=40, deadline=None)
def test_a_torn_end_is_dropped_on_opening(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    directory = tmp_path_factory.mktemp("torn")
    roots = _chain(directory, 2)
    size = _file(directory).stat().st_size
    os.truncate(_file(directory), size - cut)
    found = verify(directory)
    assert (found.entries, found.root) == (1, roots[1])
    assert "cut off" in (found.problem or "")
    with open_ledger(directory) as ledger:
        assert ledger.root == roots[1]
        assert ledger.append("k1", {"n": 1, "text": "ä"}).root == roots[2]
    assert verify(directory) == Verification(2, roots[2])


def test_a_line_without_end_is_not_read_whole(tmp_path: Path) -> None:
    _file(tmp_path).write_bytes(b"[" * 200_000)
    assert "longer than" in (verify(tmp_path).problem or "")


def test_deep_nesting_is_refused_not_crashed_on(tmp_path: Path) -> None:
    _file(tmp_path).write_bytes(b"[" * 20_000 + b"]" * 20_000 + b"\n")
    assert "not strict JSON" in (verify(tmp_path).problem or "")
    deep: dict[str, object] = {}
    for _ in range(20_000):
        deep = {"d": deep}
    with open_ledger(tmp_path / "other") as ledger, pytest.raises(LedgerError, match="not strict JSON"):
        ledger.append("a", deep)


@pytest.mark.parametrize("statement", [{9: 1, 10: 2}, {"outer": {False: 1, True: 2, 3: 1}}])
def test_what_would_not_read_back_is_never_written(tmp_path: Path, statement: dict[str, int]) -> None:
    with open_ledger(tmp_path) as ledger, pytest.raises(LedgerError, match="keys must be text"):
        ledger.append("a", statement)
    assert verify(tmp_path) == Verification(0, GENESIS)


def test_the_largest_statement_and_key_fit(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        ledger.append("k" * 1_022, {"t": "x" * (65_535 - 8)})
        with pytest.raises(LedgerError, match="65,536 bytes"):
            ledger.append("a", {"t": "x" * (65_535 - 7)})
        with pytest.raises(LedgerError, match="its key must be"):
            ledger.append("k" * 1_023, {})
    assert verify(tmp_path).problem is None


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_proof_with_anything_changed_does_not_hold(written: tuple[Path, bytes, str], data: st.DataObject) -> None:
    _, good, root = written
    entries = [json.loads(line) for line in good.splitlines()]
    index = data.draw(st.integers(0, 3))
    proof = {"index": index, "entry": entries[index], "following": entries[index + 1 :]}
    assert check_proof(proof, root)
    changed = json.loads(json.dumps(proof))
    entry = data.draw(st.sampled_from([changed["entry"], *changed["following"]]))
    field = data.draw(st.sampled_from(sorted(entry)))
    entry[field] = data.draw(st.sampled_from([None, 0.5, "x", {"n": -1}, [], True]))
    assert not check_proof(changed, root)
    assert not check_proof({**proof, "index": index + 1}, root)
    assert not check_proof({**proof, "following": [*proof["following"], entries[0]]}, root)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_failing_disk_takes_nothing_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    real = getattr(os, call)

    def fail(descriptor: int, *rest: bytes) -> int:
        if rest:
            real(descriptor, rest[0][:20])  # half a line gets out
        raise OSError(code, os.strerror(code))

    with open_ledger(tmp_path) as ledger:
        root = ledger.append("a", {"n": 1}).root
        with monkeypatch.context() as patch:
            patch.setattr(chain_module.os, call, fail)
            with pytest.raises(LedgerError, match=os.strerror(code)) as caught:
                ledger.append("b", {"n": 2})
        assert caught.value.fix
        assert verify(tmp_path) == Verification(1, root)
        receipt = ledger.append("b", {"n": 3})
    assert verify(tmp_path) == Verification(2, receipt.root)


def test_a_failed_cut_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def half(descriptor: int, line: bytes) -> int:
        return real(descriptor, line[:20])

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with open_ledger(tmp_path) as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(chain_module.os, "write", half)
            patch.setattr(chain_module.os, "ftruncate", refuse)
            with pytest.raises(LedgerError, match="No space left"):
                ledger.append("a", {})
        assert verify(tmp_path).problem
        receipt = ledger.append("a", {})
    assert verify(tmp_path) == Verification(1, receipt.root)


def test_a_known_key_is_made_durable_when_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = os.fsync
    with open_ledger(tmp_path) as ledger:
        monkeypatch.setattr(chain_module.os, "fsync", lambda descriptor: (calls.append(descriptor), real(descriptor)))
        ledger.append("a", {}, sync=False)
        assert not calls
        ledger.append("a", {}, sync=True)
        ledger.append("a", {}, sync=True)
        assert len(calls) == 1


def test_an_unwritable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file")
    with pytest.raises(LedgerError) as caught:
        open_ledger(tmp_path / "ledger")
    assert str(tmp_path / "ledger") in caught.value.what


def test_a_proof_from_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    with open_ledger(tmp_path) as ledger:
        ledger.append("a", {"n": 1})
        ledger.append("b", {"n": 2})
        content = _file(tmp_path).read_bytes()
        _file(tmp_path).write_bytes(content.replace(b'"n":1', b'"n":7'))
        with pytest.raises(LedgerError, match="line 2"):
            ledger.prove(0)


WRITER = """
    import sys
    from pathlib import Path
    from instar.ledger import open_ledger

    ledger = open_ledger(Path(sys.argv[1]))
    for number in range(int(sys.argv[2]), 1_000_000):
        receipt = ledger.append(f"k{number}", {"text": "x" * 3_000}, sync=number % 8 == 0)
        sys.stdout.write(f"{receipt.index} {receipt.root}\\n")
        sys.stdout.flush()
"""


def test_what_was_acknowledged_outlives_the_writer(tmp_path: Path) -> None:
    """Kills at random points; this tests the end of the process, not a power cut."""
    rng, start = random.Random(3), 0
    for _ in range(3):
        command = [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path), str(start)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(rng.randrange(1, 80))]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
        index, root = [line for line in lines if line.endswith("\n")][-1].split()
        with open_ledger(tmp_path) as ledger:
            assert ledger.append(f"k{index}", {"text": "x" * 3_000}).root == root
            assert check_proof(ledger.prove(int(index)), ledger.root)
        found = verify(tmp_path)
        assert found.problem is None
        start = found.entries
