"""Clearing a job directory in which somebody is only just dying."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from instar.executors import job_directory


@pytest.mark.parametrize("fault", [errno.ENOTEMPTY, errno.ENOENT])
def test_a_job_directory_that_changes_while_it_is_cleared_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    job_dir, real, tries = tmp_path / "job", shutil.rmtree, []
    (job_dir / "out").mkdir(parents=True)

    def moving(path: Path, *rest: Any) -> None:
        tries.append(path)
        if len(tries) < 3:  # a file came or went in between
            raise OSError(fault, os.strerror(fault), str(path))
        real(path, *rest)

    monkeypatch.setattr("instar.sandbox.leftovers.shutil.rmtree", moving)
    job_directory.clear(job_dir)
    assert not job_dir.exists()
    assert len(tries) == 3


def test_another_fault_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr("instar.sandbox.leftovers.shutil.rmtree", failing)
    with pytest.raises(OSError, match="Input/output"):
        job_directory.clear(tmp_path)
