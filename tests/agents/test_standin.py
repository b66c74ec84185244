"""A small agent that is led by the stand-in server, out of its room through the one door that it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agents.standin import StandIn
from tests.builders.agent.setting import brief, made, proposed
from tests.sandbox.inside import LINUX

pytestmark = LINUX


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("good", "python: by a real command line"),
        ("asks", "it asked: Which one?"),
        ("garbage", "crashed: exit code 1"),
        ("endless", "stalled: ended after"),
        ("500", "HTTP Error 500"),
    ],
)
def test_what_the_server_does_decides_what_comes_of_it(tmp_path: Path, script: str, why: str) -> None:
    with StandIn(script) as server:
        words = ("model", str(server.port))
        builder = made(tmp_path, *words, hosts=[f"127.0.0.1:{server.port}"], timeout="4s", retries=0)
        [proposal] = proposed(builder, brief(builder))
        builder.close()
        assert server.requests
    assert why in proposal.why
    assert str(proposal.author) == ("agent:python" if script == "good" else "random")


def test_without_a_door_there_is_no_way_out(tmp_path: Path) -> None:
    with StandIn("good") as server:
        builder = made(tmp_path, "model", str(server.port), timeout="10s", retries=0)
        [proposal] = proposed(builder, brief(builder))
        builder.close()
        assert not server.requests
    assert "Connection refused" in proposal.why
