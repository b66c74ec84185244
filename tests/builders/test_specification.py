"""Names of builders with arguments, which may have arguments of their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.builders.specification import arguments_of, name_of
from instar.contracts.errors import BadInput

words = st.text("abcxyz0.-", min_size=1, max_size=6)
specifications = st.recursive(
    words,
    lambda inner: st.builds(
        lambda name, parts: f"{name}:" + ",".join(f"[{part}]" if "," in part else part for part in parts),
        words, st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)  # fmt: skip


@pytest.mark.parametrize(
    ("given", "name", "arguments"),
    [
        ("random", "random", ()),
        ("search:gp", "search", ("gp",)),
        ("panel:incumbent, search:gp,random,", "panel", ("incumbent", "search:gp", "random")),
        ("panel:[mixed:search:cma,llm],random", "panel", ("mixed:search:cma,llm", "random")),
        ("panel:[a:[b:c,d],e],f", "panel", ("a:[b:c,d],e", "f")),
        ("llm:[a][b]", "llm", ("[a][b]",)),
    ],
)
def test_a_specification_is_taken_apart(given: str, name: str, arguments: tuple[str, ...]) -> None:
    assert (name_of(given), arguments_of(given)) == (name, arguments)


@given(words, st.lists(specifications, min_size=1, max_size=4))
def test_what_was_put_together_comes_apart_again(name: str, parts: list[str]) -> None:
    joined = f"{name}:" + ",".join(f"[{part}]" if "," in part else part for part in parts)
    assert name_of(joined) == name
    assert arguments_of(joined) == tuple(parts)


@pytest.mark.parametrize("bad", ["panel:[a", "panel:a]", "panel:]a[", "panel:[[a]"])
def test_brackets_that_do_not_match_are_refused(bad: str) -> None:
    with pytest.raises(BadInput, match="brackets do not match"):
        arguments_of(bad)
