"""Unified diffs between two sets of files, in the form that `git apply` takes (git's documentation, diff-format)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

from instar.contracts.text import terminal

_NO_NEWLINE = "\\ No newline at end of file\n"


def diff(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Return what turns the old files into the new ones; "" where nothing does. A file may be in one of them only."""
    return "".join(
        part for name in sorted({*old, *new}) if old.get(name) != new.get(name)
        for part in _file(name, old.get(name), new.get(name))
    )  # fmt: skip


def _file(name: str, old: str | None, new: str | None) -> Iterator[str]:
    yield f"diff --git {_quoted(f'a/{name}')} {_quoted(f'b/{name}')}\n"
    if old is None:
        yield "new file mode 100644\n"
    if new is None:
        yield "deleted file mode 100644\n"
    before, after = lines_of(old or ""), lines_of(new or "")
    sides = [side if given is not None else "/dev/null"
             for side, given in ((_quoted(f"a/{name}"), old), (_quoted(f"b/{name}"), new))]  # fmt: skip
    for line in difflib.unified_diff(before, after, sides[0], sides[1]):
        yield line if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}"


def _quoted(path: str) -> str:
    """Return a path as git writes it: in C's quotes where it holds quotes, backslashes or control characters."""
    if not any(sign in '"\\' or ord(sign) < 32 or ord(sign) == 127 for sign in path):
        return path
    named = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(named.get(s, f"\\{ord(s):03o}" if ord(s) < 32 or ord(s) == 127 else s) for s in path) + '"'


def lines_of(text: str) -> list[str]:
    """Split at newlines only, which stay on their lines: other separators are part of a line, as they are for git."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def counts(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[int, int]:
    """Return how many lines were added and how many removed."""
    added = removed = 0
    for name in {*old, *new}:
        before, after = lines_of(old.get(name, "")), lines_of(new.get(name, ""))
        for tag, begin, end, first, last in difflib.SequenceMatcher(None, before, after).get_opcodes():
            if tag != "equal":
                added, removed = added + last - first, removed + end - begin
    return added, removed


def shown(text: str, most: int) -> list[str]:
    """Return the first lines of a diff for people, made printable, and how many are left out."""
    lines = [line[:200] for line in terminal(text).split("\n")]
    lines = lines[:-1] if lines and not lines[-1] else lines
    return _cut(lines, most)


def _cut(lines: Sequence[str], most: int) -> list[str]:
    return list(lines) if len(lines) <= most else [*lines[:most], f"... {len(lines) - most} more lines"]
