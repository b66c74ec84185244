"""What reads an untrusted file first has bounds, can open nothing, and is accounted for."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from instar.contracts.errors import ArtefactError
from instar.executors import artefacts, rewriting
from instar.executors.rewriting import Rewriter
from tests.sandbox.inside import LINUX


def taken(place: Path, name: str, data: bytes, rewriter: Rewriter) -> bytes:
    source = place / "left"
    source.mkdir(exist_ok=True)
    (source / name).write_bytes(data)
    artefacts.take(source, place / "kept", [name], copy=rewriter)
    return (place / "kept" / name).read_bytes()


def archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, w=np.ones(3))
    return stream.getvalue()


def test_small_files_cost_no_process(tmp_path: Path) -> None:
    rewriter = Rewriter()
    assert taken(tmp_path, "a.json", b'{ "a": 1 }', rewriter) == b'{"a":1}'
    assert rewriter.usage.cpu_seconds == 0.0


def test_the_same_bytes_come_out_here_and_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"a.json": json.dumps({"é": [1.5, "😀"]}).encode(), "a.txt": "# é😀".encode(), "a.npy": b"",
             "a.safetensors": artefacts.encode_arrays({"w": np.ones((30, 3))})}  # fmt: skip
    here = {name: taken(tmp_path, name, data, Rewriter()) for name, data in files.items()}
    monkeypatch.setattr(rewriting, "SMALL_BYTES", -1)
    rewriter = Rewriter()
    assert {name: taken(tmp_path, name, data, rewriter) for name, data in files.items()} == here
    assert rewriter.usage.cpu_seconds > 0.0
    assert rewriter.usage.wall_seconds > 0.0


def test_a_refusal_comes_out_in_words_and_is_charged(tmp_path: Path) -> None:
    rewriter = Rewriter()
    with pytest.raises(ArtefactError, match=r"a\.npz: an archive that cannot be read"):
        taken(tmp_path, "a.npz", archive()[:-9], rewriter)
    assert rewriter.usage.cpu_seconds > 0.0
    assert not (tmp_path / "kept").exists()


@LINUX
def test_json_that_grows_is_refused_within_bounds(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtefactError, match="of memory"):
        taken(tmp_path, "a.json", b"[" + b"[[]]," * (3 * 10**6) + b"[]]", Rewriter())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17, "kilobytes of this process"


def test_one_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriting, "WALL_SECONDS", 0.0)
    with pytest.raises(ArtefactError, match="too long"):
        taken(tmp_path, "a.npz", archive(), Rewriter())


@LINUX
def test_a_full_disk_is_no_fault_of_the_artefact(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(archive())
    with (
        (tmp_path / "a.npz").open("rb") as source,
        open("/dev/full", "w+b", buffering=0) as target,
        pytest.raises(OSError, match=r"a\.npz") as caught,
    ):
        Rewriter()(source, "a.npz", target)
    assert caught.value.errno in (errno.ENOSPC, errno.ESPIPE)


@LINUX
def test_it_can_open_nothing(tmp_path: Path) -> None:
    root = str(Path(rewriting.__file__).parents[2])
    lines = (
        "import sys; sys.path[:0] = [sys.argv[1]]; from instar.executors import formats, rewriting_child",
        "formats.rewrite = lambda *_: open('/etc/hostname')",
        "rewriting_child.main()",
    )
    with (tmp_path / "out").open("w+b") as target:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", "\n".join(lines), root, "a.json", "2", "10"],
            stdin=subprocess.DEVNULL, stdout=target, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (rewriting.UNWRITABLE, str(errno.EMFILE).encode())
    assert os.path.getsize(tmp_path / "out") == 0
