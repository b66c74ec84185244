"""The macOS profile as text: that it means what it says can only be tried on a Mac."""

from __future__ import annotations

import re

import pytest

from instar.contracts.errors import BadInput
from instar.sandbox.darwin import command, profile
from instar.sandbox.policy import Policy


def test_a_path_cannot_write_rules_of_its_own() -> None:
    hostile = '/work")) (allow default) (allow file-read* (subpath "/'
    text = profile(Policy(hostile, ("/opt/python",)))
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    assert "(allow default)" not in outside
    assert outside.count("(") == outside.count(")")
    with pytest.raises(BadInput):
        profile(Policy("/a\nb", ()))


def test_default_is_no_and_the_hidden_comes_last() -> None:
    words = command(["/bin/ls"], Policy("/job", ("/opt",), {"x": "/data"}, hidden=("/opt/run",)))
    assert words[0].endswith("sandbox-exec")
    assert words[-1] == "/bin/ls"
    lines = words[2].splitlines()
    assert lines[:3] == ["(version 1)", "(deny default)", "(deny network*)"]
    assert lines[-1] == '(deny file-read* file-write* (subpath "/opt/run"))'
    assert [line for line in lines if "file-write* (subpath" in line and "allow" in line] == [
        '(allow file-write* (subpath "/job"))'
    ]
