"""Agents of the Agent Client Protocol, in the sandbox."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.builders.agent.setting import brief, made, proposed
from tests.sandbox.inside import LINUX

pytest.importorskip("acp", reason="the extra 'agents' is not installed")
pytestmark = LINUX
SCRIPT = Path(__file__).with_name("acp_agent.py")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("good", "acp: by the protocol"),
        ("asks", "it asked: Shall I go on?"),
        ("refuses", "failed: it ended with refusal"),
        ("stalls", "stalled: ended after"),
        ("crashes", "crashed: exit code 1"),
        ("garbage", "stalled: ended after"),
    ],
)
def test_what_the_agent_does_decides_what_comes_of_it(tmp_path: Path, kind: str, why: str) -> None:
    options = {"usage": None, "command": [sys.executable, str(SCRIPT), kind], "retries": 0}
    timeout = "4s" if why.startswith("stalled") else "20s"
    builder = made(tmp_path, context={"arguments": ("acp",)}, visible=[str(SCRIPT)], timeout=timeout, **options)
    [proposal] = proposed(builder, brief(builder))
    builder.close()
    assert why in proposal.why
    assert str(proposal.author) == ("agent:acp" if kind == "good" else "random")
    if kind == "good":
        assert proposal.spend.tokens == 120
        assert proposal.design.parameters["learning_rate"] == 0.01
