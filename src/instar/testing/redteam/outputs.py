"""Attacks by untrusted code in the sandbox: by what it leaves in place of its output."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

from instar.contracts.errors import ArtefactError
from instar.executors.artefacts import read_bytes, take
from instar.testing.redteam.attack import Off, Range, Seen
from instar.testing.redteam.register import attack


def _node(range_: Range, kind: str) -> Seen:
    """Let a job put something else in the place of an output file, and read as the conductor does."""
    secret = range_.home / "seal.key"
    target = str(secret)
    inputs = {}
    if kind == "second name":
        inputs, target = {"weights": range_.home / "generations" / "weights"}, "in/weights"
    payload = {"kind": kind, "name": "model.safetensors", "target": target}
    shot = range_.shoot("make_nodes", payload, inputs=inputs)
    name = f"inner/{secret.name}" if kind == "inner link" else "model.safetensors"
    read, said = _read(range_, shot.outcome.output, name)
    found = shot.outcome.output / name
    with suppress(OSError):
        if stat.S_ISCHR(found.lstat().st_mode):
            read = range_.token.encode()  # a device would have been there
    range_.sweep(shot)
    return shot.seen(range_.token.encode() in read, said)


def _read(range_: Range, output: Path, name: str) -> tuple[bytes, str]:
    """Take a file as the conductor does, or (with the check left out) as anybody would."""
    if not range_.defended:
        path = output / name
        ordinary = path.exists() and not path.is_fifo()
        return (path.read_bytes() if ordinary else range_.token.encode()), "it was read without a question"
    target = range_.fresh("taken") / "artefact"
    try:
        take(output, target, [name])
        return (target / name).read_bytes(), "it was taken"
    except ArtefactError as error:
        return b"", f"refused: {error}"
    except OSError as error:
        return b"", f"not taken: {error}"


@attack("reader", "links are not followed")
def link_in_output(range_: Range) -> Seen:
    """Leave a link to the sealed key in an output's place."""
    return _node(range_, "link")


@attack("reader", "links are not followed")
def linked_directory_in_output(range_: Range) -> Seen:
    """Lead out of the output through a linked directory."""
    return _node(range_, "inner link")


@attack("reader", "only regular files are read")
def pipe_in_output(range_: Range) -> Seen:
    """Leave a pipe that never ends in an output's place."""
    return _node(range_, "pipe")


@attack("sandbox", "devices cannot be made, and are not read", Off.SANDBOX, root=True)
def device_in_output(range_: Range) -> Seen:
    """Leave a device in an output's place."""
    shot = range_.shoot("make_nodes", {"kind": "device", "name": "model.safetensors", "target": ""})
    through = False
    with suppress(OSError):
        through = stat.S_ISCHR((shot.outcome.output / "model.safetensors").lstat().st_mode)
    range_.sweep(shot)
    return shot.seen(through, "a device stands there" if through else "no device stands there")


@attack("sandbox", "another file system", Off.SANDBOX)
def second_name_in_output(range_: Range) -> Seen:
    """Give the incumbent's weights a second name in its own output."""
    fingerprints = range_.fresh("fingerprints") / "weights"
    fingerprints.write_text("the incumbent's")
    target = str(fingerprints) if not range_.defended else "in/weights"
    payload = {"kind": "second name", "name": "model.safetensors", "target": target}
    shot = range_.shoot("make_nodes", payload, inputs={"weights": fingerprints})
    through = fingerprints.stat().st_nlink > 1
    range_.sweep(shot)
    return shot.seen(through, "it has a second name" if through else "it has one name")


@attack("executor", "the job counts as crashed, and no output is taken", Off.SANDBOX)
def link_for_output(range_: Range) -> Seen:
    """Put a link in the place of the whole output directory."""
    shot = range_.shoot("replace_output", {"target": str(range_.home)})
    try:
        plain = (shot.outcome.output / "seal.key").read_bytes()
        read = read_bytes(shot.outcome.output / "seal.key", 4096) if shot.done or not range_.defended else b""
    except (ArtefactError, OSError):
        plain = read = b""
    through = range_.token.encode() in (read if range_.defended else plain)
    range_.sweep(shot)
    return shot.seen(through, f"the key was read through it ({shot.said})" if through else shot.said)


@attack("reader", "openat2 stays beneath the directory")
def dots_in_name(range_: Range) -> Seen:
    """Lead the reader out by `..` in a name."""
    shot = range_.shoot("leave_files", {"files": {"config.json": "{}"}})
    up = "../" * len(shot.outcome.output.parts) + str(range_.home / "seal.key").lstrip("/")
    read, said = _read(range_, shot.outcome.output, up)
    range_.sweep(shot)
    return shot.seen(range_.token.encode() in read, said)
