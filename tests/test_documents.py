"""What the documents say about files, commands and code is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from instar.builders import mcp as mcp_builder
from instar.builders.agent import options as agent_options
from instar.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_and_benchmarks_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"(?:bench|docs|examples|tests)/[\w./-]*\w", text):
        assert (ROOT / name).exists(), f"{page.name} names {name}"
    for target in re.findall(r"\]\((?!http|#)([^)#]+)\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_figure_is_still_to_be_filled_in(page: Path) -> None:
    assert "@@" not in page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_a_page_names_exist(page: Path) -> None:
    commands = get_command(app).commands
    for line in re.findall(r"(?:^|`|/)instar ([a-z][^`\n]*)", page.read_text(), flags=re.MULTILINE):
        words = line.split()
        assert words[0] in commands, f"{page.name}: instar {line}"
        command = commands[words[0]]
        if len(words) > 1:  # a group's command
            command = getattr(command, "commands", {}).get(words[1], command)
        known = {option for parameter in command.params for option in parameter.opts}
        for option in (word for word in words[1:] if word.startswith("--")):
            assert option in known | {"--size", "--help"}, f"{page.name}: instar {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_that_a_page_quotes_stands_in_the_file(page: Path) -> None:
    for name, code in re.findall(r"```\w+\n# file: (\S+)\n(.*?)```", page.read_text(), flags=re.DOTALL):
        assert code.strip("\n") in (ROOT / name).read_text(), f"{page.name} quotes {name}"


def test_every_option_of_an_agent_is_on_the_page() -> None:
    page = (ROOT / "docs" / "reference" / "agents.md").read_text()
    _, agent, mcp = page.split("\n## ")
    for section, options in ((agent, agent_options.AgentOptions), (mcp, mcp_builder.McpOptions)):
        rows = re.findall(r"^\| (`[^|]+) \|", section, flags=re.MULTILINE)
        assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(options.model_fields)
    assert all(f"`{name}`" in agent for name in agent_options.PRESETS)
