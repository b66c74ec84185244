"""The mailbox: whole, once, never lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.builders import mailbox
from instar.contracts.errors import BadInput


def test_messages_come_in_their_order_and_stay_until_they_are_taken_out(tmp_path: Path) -> None:
    names = [mailbox.drop(tmp_path, {"number": number}) for number in range(3)]
    for _ in range(2):
        assert list(mailbox.waiting(tmp_path)) == [(name, {"number": n}) for n, name in enumerate(names)]
    mailbox.claim(tmp_path, names[0])
    mailbox.claim(tmp_path, names[0])
    mailbox.give(tmp_path, names[1], 7)
    assert [name for name, _ in mailbox.waiting(tmp_path)] == names[2:]
    assert [mailbox.where(tmp_path, name)[0] for name in names] == ["taken", "given", "new"]


def test_what_was_given_and_never_recorded_comes_back_and_the_rest_does_not(tmp_path: Path) -> None:
    first, second = mailbox.drop(tmp_path, {"a": 1}), mailbox.drop(tmp_path, {"a": 2})
    mailbox.give(tmp_path, first, 4)
    mailbox.give(tmp_path, second, 5)
    mailbox.take_back(tmp_path, newest=4)
    assert list(mailbox.waiting(tmp_path)) == [(second, {"a": 2})]
    assert mailbox.where(tmp_path, first)[0] == "given"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": NaN}', '{"a": 1, "a": 2}', "x" * (2**22 + 1), "[" * 100_000])
def test_what_is_malformed_is_refused_with_a_reason_and_the_next_is_read(tmp_path: Path, text: str) -> None:
    good = mailbox.drop(tmp_path, {"a": 1})
    (tmp_path / "new" / "0.json").write_text(text)
    assert list(mailbox.waiting(tmp_path)) == [(good, {"a": 1})]
    folder, reason = mailbox.where(tmp_path, "0")
    assert folder == "refused"
    assert reason


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    mailbox.drop(tmp_path, {})
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "new" / "1.json").symlink_to(tmp_path / "secret")
    assert len(list(mailbox.waiting(tmp_path))) == 1
    assert mailbox.where(tmp_path, "1")[0] == "refused"


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    mailbox.drop(tmp_path, {}, "answer-1")
    with pytest.raises(FileExistsError):
        mailbox.drop(tmp_path, {}, "answer-1")
    mailbox.claim(tmp_path, "answer-1")
    with pytest.raises(FileExistsError):
        mailbox.drop(tmp_path, {}, "answer-1")


def test_a_full_mailbox_strange_contents_and_strange_names_are_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="strict JSON"):
        mailbox.drop(tmp_path, {"a": float("nan")})
    with pytest.raises(BadInput, match="larger than"):
        mailbox.drop(tmp_path, {"a": "x" * 2**22})
    for _ in range(mailbox.MOST_WAITING):
        mailbox.drop(tmp_path, {})
    with pytest.raises(BadInput, match="wait in"):
        mailbox.drop(tmp_path, {})
    with pytest.raises(BadInput, match="is no id"):
        mailbox.where(tmp_path, "../../seal.key")
    assert mailbox.where(tmp_path, "nobody") == ("", "")
