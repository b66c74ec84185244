"""Runs a function in the sandbox, as root in either way or as an ordinary user, and tells what came of it."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from instar import sandbox
from instar.sandbox import Policy

USER = 54321  # an id that nobody has
SECONDS = 20.0
WAYS = ["root", "root in a user namespace", "user"] if os.getuid() == 0 else ["user"]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")


@dataclass(frozen=True)
class Found:
    """What the function returned (or the error's class and errno), its wait status, and what was denied."""

    value: Any
    status: int | None
    denied: Mapping[str, int]


def inside(function: Callable[[], Any], place: Path, way: str = WAYS[0], also: str = "", **policy: Any) -> Found:
    """Run `function` in a sandbox made below `place`; its result has to be plain JSON."""
    job_dir = place / "job"
    job_dir.mkdir(exist_ok=True)
    (job_dir / "out").mkdir(exist_ok=True)
    closed = place / "closed"
    closed.mkdir(exist_ok=True, mode=0o700)
    if way == "user" and os.getuid() == 0:
        for path in (place, job_dir, job_dir / "out", closed):
            os.chown(path, USER, USER)
    theirs, ours = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        os.close(theirs)
        try:
            if way == "user" and os.getuid() == 0:
                os.setgroups([])
                os.setresgid(USER, USER, USER)
                os.setresuid(USER, USER, USER)
                sandbox.process.calls.prctl(4, 1)
            extra = (str(closed),) if way == "root in a user namespace" else ()  # what is closed to others forces it
            base = Policy(str(job_dir), (*sandbox.visible_here(), *extra, *([also] if also else [])))
            found = _keep(function, replace(base, **policy), job_dir)
        except BaseException:
            found = {"value": traceback.format_exc(), "status": None, "denied": {}}
        os.write(ours, json.dumps(found).encode())
        os._exit(0)
    os.close(ours)
    with os.fdopen(theirs, "rb") as pipe:
        told = pipe.read()
    os.waitpid(supervisor, 0)
    return Found(**json.loads(told))


def _keep(function: Callable[[], Any], policy: Policy, job_dir: Path) -> dict[str, Any]:
    def work() -> NoReturn:
        told = os.open("out/value.json", os.O_WRONLY | os.O_CREAT)
        os.write(told, b" " * 2**14 if policy.own_bytes else b"")  # a file system of its own may be full later
        try:
            value = function()
        except OSError as error:
            value = f"{type(error).__name__} {error.errno}"
        except Exception:
            value = traceback.format_exc()
        os.pwrite(told, json.dumps(value).encode(), 0)
        os._exit(0)

    started = sandbox.start(policy, outside=lambda: None, inside=lambda: None, work=work)
    denied: Counter[str] = Counter()
    status, deadline = None, time.monotonic() + SECONDS
    while status is None and time.monotonic() < deadline:
        listeners = [] if started.listener is None else [started.listener]
        ready = select.select([started.channel, *listeners], [], [], 1.0)[0]
        if started.listener in ready:
            denied[started.answer()] += 1
        status = started.status()
    os.kill(started.init, signal.SIGKILL)
    os.waitpid(started.init, 0)
    place = job_dir if started.files is None else Path(f"/proc/self/fd/{started.files}")
    file = place / "out" / "value.json"
    text = file.read_text().strip() if file.is_file() else ""
    value = json.loads(text) if text else None
    return {"value": value, "status": status, "denied": {name: n for name, n in denied.items() if name}}
