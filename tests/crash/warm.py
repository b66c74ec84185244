"""A fork server without its start-up: forked from the conductor, which has imported everything already.

The server's own code runs, from `forkserver.main` on. What is left out is the half second in which a new interpreter
imports it; `tests/crash/test_kill.py` has the real one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from instar.executors import forkserver, local
from instar.sandbox import calls


class WarmServer:
    """What `local` needs of a `subprocess.Popen`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        pass_fds: Sequence[int],
        stdout: Any,
        **_: Any,
    ) -> None:
        arguments = command[command.index("instar.executors.forkserver") + 1 :]
        log = stdout.fileno()
        self.pid = os.fork()
        if self.pid == 0:
            _serve(arguments, env, cwd, pass_fds[0], log)

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG if deadline else 0)
            except ChildProcessError:
                return 0
            if pid:
                return status
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("fork server", timeout or 0.0)
            time.sleep(0.001)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _serve(arguments: Sequence[str], env: Mapping[str, str], cwd: Path, channel: int, log: int) -> NoReturn:
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        calls.close_descriptors(keep=channel)
        forkserver.main(arguments)
    except SystemExit as request:
        os._exit(int(request.code or 0))
    finally:
        os._exit(1)


def install() -> None:
    """Let the local executor of this process start warm servers."""
    names = {name: getattr(subprocess, name) for name in ("DEVNULL", "TimeoutExpired")}
    local.subprocess = SimpleNamespace(Popen=WarmServer, **names)  # type: ignore[assignment]
    assert sys.executable
