"""`--set KEY=VALUE`: what it takes, by the settings' own types, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from instar.cli.assigning import assigned, merged, types
from instar.contracts import settings
from instar.contracts.errors import BadInput

KNOWN = types(settings.Settings)


@pytest.mark.parametrize(
    ("pair", "key", "value"),
    [
        ("replicas=5", "replicas", 5),
        ("builder-frozen-at=1", "builder_frozen_at", 1),
        ("alpha=0.01", "alpha", 0.01),
        ("curriculum=true", "curriculum", True),
        ("budget=1h30m", "budget", "1h30m"),
        ("feedback=none", "feedback", "none"),
        ("gates=improvement", "gates", ["improvement"]),
        ('gates=["noise", "improvement"]', "gates", ["noise", "improvement"]),
        ("gates.noise=false", "gates", {"noise": False}),
        ("options.size=4", "options", {"size": "4"}),
        ("builders.llm.ahead=2", "builders", {"llm": {"ahead": 2}}),
        ("builders.llm.model=qwen", "builders", {"llm": {"model": "qwen"}}),
        ("rights.promote=person", "rights", {"promote": "person"}),
        ("home=a=b", "home", Path("a=b")),
    ],
)
def test_a_value_is_of_the_settings_own_type(pair: str, key: str, value: Any) -> None:
    found = settings.load(assigned([pair], KNOWN))
    assert getattr(found, key) == value


def test_keys_of_one_table_come_together_and_lists_grow() -> None:
    pairs = ["climb.margin=0.2", "climb.conduct=false", "gates=noise", "gates=improvement"]
    found = settings.load(assigned(pairs, KNOWN))
    assert (found.climb.margin, found.climb.conduct, found.climb.judgement) == (0.2, False, True)
    assert found.gates == ["noise", "improvement"]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["replicas"], "--set replicas: it is no KEY=VALUE"),
        (["=3"], "it is no KEY=VALUE"),
        (["replica=3"], "there is no setting 'replica'. Did you mean replicas?"),
        (["zzz=3"], "Known: accept_tampered, alpha, baseline, "),
        (["climb.margn=0.1"], "Did you mean margin?"),
        (["budget.wall=3m"], "'budget' holds no keys of its own"),
        (["seed=1", "seed=2"], "--set seed is given twice"),
        (["gates=noise", "gates.noise=false"], "'gates' has a value already"),
    ],
)
def test_what_cannot_be_set_is_said(pairs: list[str], said: str) -> None:
    with pytest.raises(BadInput) as error:
        assigned(pairs, KNOWN)
    assert said in str(error.value)


def test_an_option_and_a_setting_do_not_contradict_one_another() -> None:
    both = merged({"seed": None, "options": {"size": "4"}}, {"seed": "3", "options": {"hard": "yes"}})
    assert both == {"seed": "3", "options": {"size": "4", "hard": "yes"}}
    with pytest.raises(BadInput, match="'seed' is given as an option and by --set"):
        merged({"seed": 3}, {"seed": "3"})
