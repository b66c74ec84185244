"""The work tree that an agent gets, and what is taken back from it.

What is taken back was written by somebody who may mean harm: only files that may be edited are read, only as plain text
of bounded size, never through a link; whatever else was changed or left makes the whole answer void. The agent's own
`.git` is not looked at: the diff is ours, of copies that it never could touch.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from instar.builders.code import diffs
from instar.builders.outside import read_forecast, read_parameters, text_of
from instar.contracts.errors import ArtefactError, BadInput
from instar.contracts.records import Forecast
from instar.contracts.space import Parameters, Space
from instar.contracts.text import printable
from instar.executors.artefacts import read_bytes, read_json
from instar.sandbox import git
from instar.sandbox.output import open_regular

DESIGN, BRIEF, FORECAST = "design.json", "BRIEF.md", "forecast.json"
_OWN = (DESIGN, BRIEF, FORECAST)
_ENTRIES, _DEPTH = 10_000, 32
_JSON_BYTES = 2**16


@dataclass(frozen=True)
class Edit:
    """What an agent returns: the lab's parameters, the files, and its forecast."""

    parameters: Parameters
    files: Mapping[str, str]
    forecast: Forecast
    why: str


def check_names(files: Mapping[str, str]) -> None:
    """Raise `BadInput` where a lab's editable files cannot lie beside ours."""
    for name in files:
        parts = PurePosixPath(name).parts
        bad = not parts or name.startswith("/") or ".." in parts or parts[0] in (*_OWN, ".git") or len(parts) > _DEPTH
        if bad or str(PurePosixPath(name)) != name:
            raise BadInput(f"the lab's editable file '{name}' cannot be given to an agent", "Rename it in the lab.")


def lay_out(tree: Path, parameters: Parameters, files: Mapping[str, str], brief: str) -> None:
    """Make the work tree with one commit in it; whoever is inside may write all of it."""
    tree.mkdir(parents=True)
    for name, text in files.items():
        _write(tree / name, text)
    _write(tree / DESIGN, _design(parameters))
    _write(tree / BRIEF, brief)
    _git(tree, "init", "-q", "--template=", "--initial-branch=main")
    _git(tree, "add", "-A", "-f")
    _git(tree, "commit", "-q", "--no-verify", "--no-gpg-sign", "-m", "The incumbent's design")
    for folder, _, names in os.walk(tree):
        os.chmod(folder, 0o777)  # noqa: S103 - inside it may be nobody who writes; outside, 0700 is above
        for name in names:
            os.chmod(os.path.join(folder, name), 0o666)  # noqa: S103


def take_back(tree: Path, files: Mapping[str, str], brief: str, space: Space, most_bytes: int) -> Edit:
    """Read what an agent has left.

    Args:
        tree: as `lay_out` made it, and the agent left it.
        files: what it was given: these may be edited, and nothing else.
        brief: what stood in the brief.
        space: the lab's ranges.
        most_bytes: the largest size of an edited file.

    Raises:
        ArtefactError: something was changed or left that may not be, or is not what the contract says.
    """
    status = os.lstat(tree) if os.path.lexists(tree) else None
    if status is None or not stat.S_ISDIR(status.st_mode):
        raise ArtefactError("the work tree is gone, or something else is in its place")
    for name in _left(tree):
        if name not in files and name not in _OWN:
            raise ArtefactError(f"{printable(name, 160)}: it is no file that may be edited")
    if read_text(tree, BRIEF, 2**22) != brief:
        raise ArtefactError(f"{BRIEF}: it was changed")
    edited = {name: read_text(tree, name, most_bytes) for name in files}
    forecast, why = _forecast(tree)
    parameters = read_parameters(read_json(tree / DESIGN, limit=_JSON_BYTES), space, DESIGN)
    return Edit(parameters, edited, forecast, why)


def read_text(tree: Path, name: str, most_bytes: int) -> str:
    """Read an untrusted text file beneath the tree. Raises `ArtefactError`."""
    try:
        descriptor = open_regular(tree, name)
    except OSError as error:
        raise ArtefactError(f"{name}: cannot be read ({error.strerror})") from None
    with os.fdopen(descriptor, "rb") as file:
        length = os.fstat(descriptor).st_size
        if length > most_bytes:
            raise ArtefactError(f"{name}: {length} bytes, {most_bytes} are allowed")
        data = file.read(most_bytes)
    return text_of(data, name)


def diff(before: tuple[Parameters, Mapping[str, str]], after: Edit) -> str:
    """Return the diff from what was given to what was taken back."""
    old, new = before, (after.parameters, after.files)
    return diffs.diff(*({**files, DESIGN: _design(parameters)} for parameters, files in (old, new)))


def _design(parameters: Parameters) -> str:
    return json.dumps(dict(parameters), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _git(tree: Path, *words: str) -> None:
    """Run git on files of ours. Raises `ArtefactError` where it fails."""
    try:
        git.run(tree / ".git", tree, *words)
    except BadInput as error:
        raise ArtefactError(error.what) from None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def _left(tree: Path) -> Iterator[str]:
    """Yield the relative path of everything in the tree but directories and `.git`. Raises `ArtefactError`."""
    waiting, count = [""], 0
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(tree / folder))
        except OSError as error:
            raise ArtefactError(f"{printable(folder, 160)}: cannot be listed ({error.strerror})") from None
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            count += 1
            if count > _ENTRIES or name.count("/") > _DEPTH:
                raise ArtefactError("too many files, or directories too deep")
            if name == ".git":
                continue
            if entry.is_symlink():
                raise ArtefactError(f"{printable(name, 160)}: it is a link")
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            else:
                yield name


def _forecast(tree: Path) -> tuple[Forecast, str]:
    """Read the forecast and the reason. Raises `ArtefactError`."""
    if not os.path.lexists(tree / FORECAST):
        raise ArtefactError(f"{FORECAST}: it is missing")
    return read_forecast(read_json(tree / FORECAST, limit=_JSON_BYTES), FORECAST)


def read_whole(path: Path, limit: int) -> bytes:
    """Read an untrusted file, or b"" where it is missing, no plain file, or too large."""
    try:
        return read_bytes(path, limit)
    except ArtefactError:
        return b""
