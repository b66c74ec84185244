"""Says which layers of the sandbox hold on this machine, and how to get what is missing.

It tries each layer in processes of its own, so it runs as a program: `python -m instar.sandbox.probe` prints JSON.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from instar.contracts.errors import MissingPart
from instar.sandbox import calls, cgroups, landlock, namespaces, process, seccomp, tracing
from instar.sandbox.policy import Policy, visible_here

_CONTAINER = (
    "In a container, give it the right to unshare: docker run --security-opt seccomp=unconfined "
    "--security-opt apparmor=unconfined --security-opt systempaths=unconfined."
)
_COUNTING_FIX = (
    "As root: sysctl -w kernel.yama.ptrace_scope=1. In a container: docker run --cap-add SYS_PTRACE. Or run as root "
    "where /sys/fs/cgroup can be written."
)
_PROBE_SECONDS = 60.0
ACCOUNTING = "accounting"


@dataclass(frozen=True)
class Layer:
    """One layer: whether it holds here, what was found, how to get it, and whether the sandbox stands without it."""

    name: str
    holds: bool
    said: str
    fix: str = ""
    needed: bool = True


@cache
def layers() -> tuple[Layer, ...]:
    """Return all layers, tried in a new process; what was found once holds for this process's life."""
    if not calls.LINUX:
        said = f"{platform.system()} has no namespaces: jobs can't be sandboxed"
        return (Layer("sandbox", False, said, "Use Linux, in a virtual machine if need be."),)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-s", "-m", "instar.sandbox.probe"],
            env={"PATH": os.defpath, "LANG": "C.UTF-8"}, capture_output=True, timeout=_PROBE_SECONDS, check=True,
        )  # fmt: skip
        return tuple(Layer(**fields) for fields in json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        return (Layer("sandbox", False, f"it cannot be tried ({error})", "Run `python -m instar.sandbox.probe`."),)


def require() -> None:
    """Raise `MissingPart`, which names the layer and the fix, unless the sandbox can be built here."""
    absent = [layer for layer in layers() if layer.needed and not layer.holds]
    if absent:
        fix = f"{absent[0].fix} Or run without any protection: --unsafe-no-sandbox."
        raise MissingPart(f"no sandbox can be built here: {absent[0].name}: {absent[0].said}", fix.strip())


def require_counting() -> None:
    """Raise `MissingPart` unless all CPU time of a job can be counted, which a score with a price in it rests on."""
    for layer in layers():
        if layer.name == ACCOUNTING and not layer.holds:
            raise MissingPart(f"this lab's scores have a price, and {layer.said}", layer.fix)


def _examine() -> Iterator[Layer]:
    yield _tried("namespaces", _unshare, _namespace_fix())
    yield _tried("root", _mounts, f"{_apparmor_fix()}A kernel of at least 5.12 is needed. {_CONTAINER}")
    yield _landlock()
    yield _seccomp()
    yield _counting()
    yield _tried("sandbox", _whole, _CONTAINER, "all layers stand, tried with a job of its own")
    said = f"{_groups()}; RLIMIT_DATA, RLIMIT_CPU, RLIMIT_NPROC, RLIMIT_FSIZE, and the supervisor's watch every 50 ms"
    yield Layer("limits", True, said)
    yield _accounting()
    found = shutil.which("bwrap")
    said = "commands run through it" if found else "not installed: commands run in the sandbox"
    yield Layer("bubblewrap", found is not None, said, "" if found else "apt install bubblewrap", needed=False)


def _tried(name: str, attempt: Callable[[], None], fix: str, said: str = "available") -> Layer:
    """Try a layer in a fork."""
    theirs, ours = os.pipe()
    pid = os.fork()
    if pid == 0:
        problem = ""
        try:
            attempt()
        except BaseException as error:  # whatever it is: the layer doesn't hold
            problem = str(error) or type(error).__name__
        os.write(ours, problem.encode()[:4000])
        os._exit(0)
    os.close(ours)
    with os.fdopen(theirs, "rb") as pipe:
        problem = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(pid, 0)
    problem = problem or ("" if status == 0 else "the attempt was killed")
    return Layer(name, not problem, problem or said, fix if problem else "")


def _unshare() -> None:
    calls.unshare(namespaces.NEW_USER | namespaces.NEW_PID | namespaces.NEW_NET | namespaces.NEW_IPC)


def _mounts() -> None:
    if os.geteuid() != 0:
        calls.unshare(namespaces.NEW_USER)
    calls.unshare(namespaces.NEW_MOUNT)
    calls.mount("none", "/", None, 0x44000)  # MS_REC | MS_PRIVATE
    namespaces.hold("/usr", 1)


def _namespace_fix() -> str:
    for path, command in (
        ("/proc/sys/user/max_user_namespaces", "sysctl -w user.max_user_namespaces=15000"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ):
        if _read(path) == "0":
            return f"As root: {command}."
    return f"The kernel needs CONFIG_USER_NS. {_apparmor_fix()}{_CONTAINER}"


def _apparmor_fix() -> str:
    if _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "As root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0. "
    return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _landlock() -> Layer:
    version = landlock.abi()
    if version:
        return Layer("landlock", True, f"ABI {version}")
    fix = "A kernel of at least 5.13 with CONFIG_SECURITY_LANDLOCK, and `landlock` in its lsm= parameter, is needed."
    return Layer("landlock", False, "the kernel has none", fix)


def _seccomp() -> Layer:
    if calls.MACHINE and "errno" in seccomp.actions():
        return Layer("seccomp", True, f"filters for {calls.MACHINE}")
    said = "the kernel has no filters" if calls.MACHINE else f"no list of calls for {platform.machine()}"
    return Layer("seccomp", False, said, "Use x86_64 or aarch64, and a kernel with CONFIG_SECCOMP_FILTER.")


def _counting() -> Layer:
    """Whether denied calls can be counted: not where somebody above us listens already."""

    def listen() -> None:
        calls.prctl(38, 1)
        if seccomp.install() is None:
            raise OSError("another listener is in force: denied calls fail, but are not counted as incidents")

    layer = _tried(
        "incidents", listen, "Run outside of the other sandbox.", "denied calls are counted by user notification"
    )
    return Layer(layer.name, layer.holds, layer.said, layer.fix, needed=False)


def _groups() -> str:
    """Say what holds memory and processes of a whole job, tried with a process that joins a group."""
    tree = cgroups.find()
    group = tree.group() if tree is not None else None
    if tree is None or group is None or not group.make(2**26, 16):
        return "memory, processes: rlimits and a watchdog, no cgroups can be had"
    pid = os.fork()
    if pid == 0:
        signal.pause()
    joined = group.join(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    group.end()
    return f"memory, processes: cgroup v{tree.version}" if joined else "memory, processes: rlimits and a watchdog"


def _accounting() -> Layer:
    """Say how the CPU time of a whole job is counted, whoever reaps its processes."""
    tree = cgroups.find()
    group = tree.group() if tree is not None else None
    if group is not None and group.make(2**26, 16):
        counted = group.cpu_seconds() is not None
        group.end()
        if counted:
            return Layer(ACCOUNTING, True, "CPU time is counted by the job's control group")
    said = "CPU time is counted by tracing each process of a job: no control group counts it"
    layer = _tried(ACCOUNTING, _trace, _COUNTING_FIX, said)
    return Layer(layer.name, layer.holds, layer.said, layer.fix, needed=False)


def _trace() -> None:
    """Trace the first process of a sandbox, and kill it before anything works there."""
    traced = []

    def stands(init: int) -> None:
        traced.append(tracing.seize(init))
        os.kill(init, signal.SIGKILL)

    with tempfile.TemporaryDirectory(prefix="instar-probe-") as job_dir, suppress(BrokenPipeError):
        policy = Policy(job_dir, visible_here())
        process.start(policy, lambda: None, lambda: None, lambda: os._exit(0), stands=stands)
    if not all(traced):
        raise OSError("CPU time can be hidden: no control group counts it, and a job's processes can't be traced")


def _whole() -> None:
    """Sandbox a job that does nothing."""
    with tempfile.TemporaryDirectory(prefix="instar-probe-") as job_dir:
        policy = Policy(job_dir, visible_here())
        started = process.start(policy, outside=lambda: None, inside=lambda: None, work=lambda: os._exit(0))
        started.channel.settimeout(process.BUILD_SECONDS)
        told = started.channel.recv(4)
        os.kill(started.init, signal.SIGKILL)
        os.waitpid(started.init, 0)
        if told != bytes(4):
            raise OSError("a job that does nothing does not end well")


if __name__ == "__main__":
    print(json.dumps([asdict(layer) for layer in _examine()]))  # noqa: T201
