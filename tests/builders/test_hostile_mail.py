"""Whatever lies in a mailbox: it is refused with a reason or taken, the box is empty after, and the next is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instar.builders import human, mailbox, mcp, uniform
from instar.contracts.builder import BuilderContext
from instar.run import decisions
from instar.testing.builder import WORLD_SPACE, first_design, generation, make_brief

STRANGE_NAMES = [b"\xff\xfe", b"\x1b[2J", b"a b", b"..", b"caf\xc3\xa9", b"x" * 200, b"a\nb", "\u202egnp".encode()]
HUGE = "1" + "0" * 400
VALUES = [
    "null", "3", HUGE, "[]", "{}", '"\\ud800"', '"\\u001b[2J"', '"nan"', '"inf"', "[[]]", '{"a": {}}', "true", '"x"',
    "[1, 2, 3]", f"[{HUGE}, 0.5, 0.1]", '{"width": "\\ud800"}', '{"\\ud800": 1}',
]  # fmt: skip
WORDS = {
    "human": '{"set": {}, "files": {}, "forecast": null, "why": "", "who": "ada", "made_at": 1.0}',
    "mcp": '{"parameters": {}, "forecast": {"p_better": 0.5, "mean": 0.5, "deviation": 0.1, "why": "w"}, "files": {}, '
    '"author": "a"}',
    "answer": '{"question": 1, "answer": "approved", "said": "", "who": "ada", "made_at": 1.0}',
    "goal": '{"goal": "more", "who": "ada", "made_at": 1.0}',
}


def _plant(box: Path, name: bytes, text: str) -> None:
    (box / "new").mkdir(parents=True, exist_ok=True)
    Path(os.fsdecode(os.path.join(os.fsencode(box / "new"), name + b".json"))).write_text(text)


@pytest.mark.parametrize("name", STRANGE_NAMES, ids=repr)
def test_a_strange_name_goes_no_further_and_is_kept(tmp_path: Path, name: bytes) -> None:
    _plant(tmp_path, name, '{"a": 1}')
    good = mailbox.drop(tmp_path, {"a": 2})
    for _ in range(2):
        assert list(mailbox.waiting(tmp_path)) == [(good, {"a": 2})]
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{good}.json"]
    [kept] = (tmp_path / "refused").iterdir()
    assert kept.name.isascii()
    assert kept.read_text() == '{"a": 1}'


def test_directories_pipes_and_strange_things_that_were_given_stop_nobody(tmp_path: Path) -> None:
    good = mailbox.drop(tmp_path, {"a": 2})
    (tmp_path / "new" / "a-directory.json").mkdir()
    os.mkfifo(tmp_path / "new" / "a-pipe.json")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "x.json").touch()
    (tmp_path / "given" / f"{'9' * 30}.y.json").touch()
    mailbox.take_back(tmp_path, 0)
    assert list(mailbox.waiting(tmp_path)) == [(good, {"a": 2})]


def _variants(kind: str) -> list[str]:
    import json
    import re

    keys = json.loads(WORDS[kind])
    texts = [WORDS[kind].replace(f'"{key}": {json.dumps(keys[key])}', f'"{key}": {value}')
             for key in keys for value in VALUES]  # fmt: skip
    left_out = [json.dumps({k: v for k, v in keys.items() if k != key}) for key in keys]
    return [*(text for text in texts if re.search(r"\S", text)), *left_out]


@pytest.mark.parametrize("kind", ["human", "mcp"])
def test_no_message_stops_a_builder(tmp_path: Path, kind: str) -> None:
    made: Any
    if kind == "human":
        made = human.HumanBuilder("world", WORLD_SPACE, np.random.default_rng(0), tmp_path)
    else:
        context = BuilderContext(
            directory=tmp_path, make=lambda _: uniform.create("world", WORLD_SPACE, np.random.default_rng(0))
        )
        made = mcp.create("world", WORLD_SPACE, np.random.default_rng(0), context)
    brief = make_brief(generation(0, first_design(made)), first=1, count=1)
    for number, text in enumerate(_variants(kind)):
        _plant(tmp_path, f"m-{number}".encode(), text)
        for proposal in made.propose(brief):
            assert proposal.why.isprintable()
            assert str(proposal.author).isprintable()
        assert list(mailbox.waiting(tmp_path)) == [], text
        folder, reason = mailbox.where(tmp_path, f"m-{number}")
        assert folder in ("given", "refused"), text
        assert folder == "given" or reason.isprintable()


@pytest.mark.parametrize("kind", ["answer", "goal"])
def test_no_answer_stops_a_run(tmp_path: Path, kind: str) -> None:
    read = 0
    for number, text in enumerate(_variants(kind)):
        _plant(tmp_path, f"m-{number}".encode(), text)
        for name, message in mailbox.waiting(tmp_path):
            word = decisions._read(name, message)
            mailbox.claim(tmp_path, name)
            if word is not None:
                read += 1
                assert word.who.isprintable()
                assert word.said.isprintable()
                assert np.isfinite(word.made_at)
    assert read
