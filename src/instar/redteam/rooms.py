"""Attacks by untrusted code in a room: on secrets, on other processes, on code, on limits, on the kernel."""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import instar
from instar.artefacts import read_bytes, take
from instar.errors import ArtefactError, BadInput
from instar.executors import inline
from instar.executors import rooms as layout
from instar.executors.local import LocalExecutor
from instar.records import Limits, OutcomeState
from instar.redteam.attack import AMPLE, USUAL, Attack, Off, Range, Seen, Shot
from instar.redteam.register import attack, attacks_in

_WORD = "the-attack-worked"
_X86 = os.uname().machine == "x86_64"


def attacks() -> tuple[Attack, ...]:
    """Return the attacks of this module, in its order."""
    return attacks_in(__name__)


def _secrets(range_: Range) -> dict[str, Any]:
    home = range_.home
    names = ("seal.key", "archive.db", "exam-answers.json", "ledger/chain.jsonl", "generations/weights")
    return {"paths": [str(home / name) for name in names], "pid": range_.bystander.pid}


def _steal(range_: Range, function: str, payload: Mapping[str, Any] | None = None) -> Seen:
    """Shoot, and say whether the secret came out."""
    shot = range_.shoot(function, _secrets(range_) | dict(payload or {}))
    through = range_.leaks(shot)
    range_.sweep(shot)
    return shot.seen(through, "the secret came out" if through else f"no secret came out ({shot.said})")


def _works(range_: Range, function: str, payload: Mapping[str, Any] | None = None) -> Seen:
    """Shoot, and say whether the job could keep the word that it only gets by success."""
    shot = range_.shoot(function, {"word": _WORD} | dict(payload or {}))
    through = _WORD.encode() in shot.left
    range_.sweep(shot)
    return shot.seen(through, "the kernel did it" if through else f"the kernel refused ({shot.said})")


def _overrun(range_: Range, function: str, payload: Mapping[str, Any], limits: Limits, said: str) -> Seen:
    """Shoot at a limit, which holds if the job is ended for it, or goes without, and the next one works.

    Going without counts only for jobs that keep the `word` of the payload where they got all that they wanted.
    """
    shot = range_.shoot(function, payload, limits)
    range_.sweep(shot)
    follower = range_.shoot("leave_files", {"files": {"after": "fine"}})
    range_.sweep(follower)
    if not follower.done:
        return shot.seen(True, f"the next job could not run: {follower.said}")
    if shot.done:
        refused = "word" in payload and payload["word"].encode() not in shot.left
        return shot.seen(not refused, "it went without" if refused else "it took what it wanted")
    return shot.seen(not any(said in text for text in (shot.said, *shot.incidents)), f"ended: {shot.said}")


# --- secrets --------------------------------------------------------------------------------------------------------


@attack("wall", "no such file", Off.WALL)
def read_sealed_key(range_: Range) -> Seen:
    """Read the sealed key, archive, ledger and answers by their paths."""
    return _steal(range_, "read_files")


@attack("wall", "no process of outside is shown", Off.WALL)
def read_through_proc(range_: Range) -> Seen:
    """Read the same through /proc/PID/root and /proc/PID/cwd."""
    return _steal(range_, "read_through_proc")


@attack("wall", "the root is the room's own", Off.WALL)
def climb_out(range_: Range) -> Seen:
    """Climb out of the room by `..` from an open directory."""
    return _steal(range_, "climb_out")


@attack("wall", "no process of outside is shown", Off.WALL)
def read_environment(range_: Range) -> Seen:
    """Read the environment of the conductor's processes."""
    return _steal(range_, "read_environment")


@attack("wall", "no process of outside is shown", Off.WALL)
def read_memory(range_: Range) -> Seen:
    """Read the memory of the conductor's processes."""
    return _steal(range_, "read_memory")


@attack("wall", "nothing is inherited", Off.NOTHING)
def read_descriptors(range_: Range) -> Seen:
    """Read or write what the fork server has open, and speak in the keeper's name."""
    return _steal(range_, "read_descriptors", {"token_for_a_socket": range_.token})


@attack("wall", "no other room is there", Off.WALL)
def read_another_room(range_: Range) -> Seen:
    """Read what a job beside it holds in its room."""
    victim = range_.send("hang", {"seconds": 0.6, "held": range_.token})
    paths = [str(range_.place / "rooms" / victim / "out" / "held")]
    time.sleep(0.25)
    shot = range_.shoot("read_files", {"paths": paths})
    through = range_.leaks(shot)
    range_.sweep(shot)
    range_.sweep(range_.await_shot(victim))
    return shot.seen(through, "it read the other's room" if through else "the other's room was not there")


@attack("executor", "the fork forgets all but its own task", Off.NOTHING)
def read_inherited_memory(range_: Range) -> Seen:
    """Find another job's payload in the memory inherited from the fork server."""
    keys = [range_.send("hang", {"seconds": seconds, "held": range_.token}) for seconds in (0.2, 0.8)]
    spy = range_.send("read_inherited_memory")
    shots = [range_.await_shot(key) for key in (*keys, spy)]
    for shot in shots:
        range_.sweep(shot)
    through = range_.leaks(shots[-1])
    return shots[-1].seen(through, "it found the other's payload" if through else "nothing of others was in memory")


# --- other processes ------------------------------------------------------------------------------------------------


@attack("wall", "no such process", Off.WALL)
def kill_bystander(range_: Range) -> Seen:
    """Kill a process outside by id, group and descriptor."""
    pid = range_.bystander.pid
    shot = range_.shoot("kill_others", {"targets": [pid, -pid]})
    range_.sweep(shot)
    return _survived(range_, shot)


@attack("wall", "no such process; ptrace is denied", Off.WALL)
def trace_bystander(range_: Range) -> Seen:
    """Trace a process outside so that it dies with the job."""
    shot = range_.shoot("trace", {"pid": range_.bystander.pid})
    range_.sweep(shot)
    return _survived(range_, shot)


def _survived(range_: Range, shot: Shot) -> Seen:
    with suppress(Exception):  # a death takes a moment to be seen
        range_.bystander.wait(0.1)
    alive = range_.alive()
    return shot.seen(not alive, "the process lives on" if alive else "the process is dead")


@attack("wall", "its parent is immune", Off.WALL)
def kill_keeper(range_: Range) -> Seen:
    """Kill its parent (and, behind the wall, everybody by kill -1)."""
    shot = range_.shoot("kill_parents", {"everybody": not isinstance(range_.executor, inline.InlineExecutor)
                                         and range_.defended})  # fmt: skip
    range_.sweep(shot)
    follower = range_.shoot("leave_files", {"files": {"after": "fine"}})
    range_.sweep(follower)
    through = "keeper" in shot.said or not follower.done
    return shot.seen(through, f"the job ended ({shot.said}), the next one ran")


@attack("executor", "killed and charged", Off.OWN_PROCESS)
def leave_daemon(range_: Range) -> Seen:
    """Leave a double-forked daemon that spins and ignores signals."""
    name = f"red-{os.getpid():x}-{time.monotonic_ns() % 10**6}"[:15]
    shot = range_.shoot("leave_a_daemon", {"name": name, "seconds": 0.3})
    alive = _called(name)
    _end(alive)
    charged = shot.outcome.usage.cpu_seconds
    range_.sweep(shot)
    said = f"{len(alive)} processes live on, {charged:.2f} of 0.30 CPU seconds were charged"
    return shot.seen(bool(alive) or charged < 0.25, said)


@attack("executor", "all processes are dead by then", Off.OWN_PROCESS)
def change_output_later(range_: Range) -> Seen:
    """Change the output after the job's end, by a process left behind."""
    name = f"late-{os.getpid():x}-{time.monotonic_ns() % 10**6}"[:15]
    shot = range_.shoot("leave_a_daemon", {"name": name, "seconds": 0.0})
    time.sleep(0.6)
    changed = (shot.outcome.output / "result").read_text() != "as it was at the end"
    _end(_called(name))
    range_.sweep(shot)
    return shot.seen(changed, "the output was changed" if changed else "the output is as it was")


def _called(name: str) -> list[int]:
    """Return the living processes of that name on this machine."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            dead = (process / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
            if (process / "comm").read_text().strip() == name and not dead:
                found.append(int(process.name))
    return found


def _end(pids: list[int]) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, 9)


@attack("executor", "the outcome says cancelled", Off.NOTHING)
def count_when_cancelled(range_: Range) -> Seen:
    """Be believed after having been cancelled."""
    key = range_.send("hang", {"seconds": 10.0, "held": "score 1.0"})
    time.sleep(0.3)
    range_.executor.cancel(key)
    shot = range_.await_shot(key)
    range_.sweep(shot)
    return shot.seen(shot.outcome.state is not OutcomeState.CANCELLED)


# --- code -----------------------------------------------------------------------------------------------------------


@attack("wall", "read-only", Off.WALL)
def edit_evaluator(range_: Range) -> Seen:
    """Edit the evaluator's code."""
    marker = range_.code / "marker.py"
    before = marker.read_text()
    shot = range_.shoot("overwrite", {"paths": [str(marker)], "text": "def mark(answers):\n    return 1.0\n"})
    range_.sweep(shot)
    changed = marker.read_text() != before
    marker.write_text(before)
    return shot.seen(changed, "the code was changed" if changed else "the code is as it was")


_STARTUP = ("sitecustomize.py", "usercustomize.py", "conftest.py", "planted.pth", "__pycache__/marker.cpython-311.pyc")


@attack("wall", "read-only", Off.WALL)
def plant_startup_code(range_: Range) -> Seen:
    """Plant conftest.py, sitecustomize.py, .pth and .pyc files where code is loaded from."""
    places = [range_.code]
    if range_.defended:  # without the wall they would be planted
        places += [Path(instar.__file__).parent, Path(instar.__file__).parents[1],
                   *(Path(entry) for entry in sys.path if entry.endswith("-packages"))]  # fmt: skip
    paths = [place / name for place in places for name in _STARTUP]
    before = {path for path in paths if path.exists()}
    shot = range_.shoot("overwrite", {"paths": [str(path) for path in paths if path not in before], "text": _WORD})
    range_.sweep(shot)
    planted = [path for path in paths if path.exists() and path not in before]
    for path in planted:
        path.unlink()
    return shot.seen(bool(planted), f"{len(planted)} files were planted")


@attack("wall", "they are not there", Off.WALL)
def delete_detectors(range_: Range) -> Seen:
    """Delete or change detectors, canaries and promoted weights in the run directory."""
    paths = [range_.home / name for name in ("exam-answers.json", "generations/weights")]
    before = [path.read_text() for path in paths]
    shot = range_.shoot("overwrite", {"paths": [str(paths[1])], "remove": [str(paths[0])], "text": "tampered"})
    range_.sweep(shot)
    now = [path.read_text() if path.exists() else "" for path in paths]
    for path, text in zip(paths, before, strict=True):
        path.write_text(text)
    return shot.seen(now != before, "they were changed" if now != before else "they are as they were")


@attack("wall", "inputs are read-only", Off.WALL)
def write_inputs(range_: Range) -> Seen:
    """Write into what it was lent."""
    lent = range_.fresh("lent") / "weights"
    lent.write_text("the incumbent's")
    os.chmod(lent, 0o666)  # noqa: S103 - so that no file permission stands in for the wall
    shot = range_.shoot("overwrite", {"paths": [str(lent), "in/weights"], "text": "mine"}, inputs={"weights": lent})
    range_.sweep(shot)
    changed = lent.read_text() != "the incumbent's"
    return shot.seen(changed, "the input was changed" if changed else "the input is as it was")


def _poison(range_: Range) -> Seen:
    """Let one job leave all it can, and the next one look for it."""
    names, text = [f"instar-red-{time.monotonic_ns()}"], f"poison-{time.monotonic_ns()}"
    first = range_.shoot("poison", {"names": names, "text": text})
    second = range_.shoot("find_poison", {"names": names, "text": text})
    for shot in (first, second):
        range_.sweep(shot)
    for place in ("/tmp", "/dev/shm", "/var/tmp"):  # noqa: S108 - what an open wall let through
        with suppress(OSError):
            Path(place, names[0]).unlink()
    through = text.encode() in second.left
    return first.seen(through, "the next job met it" if through else "the next job met nothing of it")


@attack("wall", "each room has its own", Off.WALL)
def hide_work_for_later(range_: Range) -> Seen:
    """Hide work or messages for a later job in /tmp, /dev/shm, HOME and the rooms' directory."""
    return _poison(range_)


@attack("executor", "each job is a fork of its own", Off.OWN_PROCESS)
def patch_numpy(range_: Range) -> Seen:
    """Patch numpy, the clock and PYTHONPATH for the next job."""
    return _poison(range_)


@attack("executor", "time is taken outside", Off.OWN_PROCESS)
def lie_about_time(range_: Range) -> Seen:
    """Stop every clock of Python to look fast."""
    shot = range_.shoot("lie_about_time", {"seconds": 0.3})
    range_.sweep(shot)
    used = shot.outcome.usage
    said = f"0.30 seconds of work were measured as {used.wall_seconds:.2f} s, {used.cpu_seconds:.2f} CPU s"
    return shot.seen(used.wall_seconds < 0.25 or used.cpu_seconds < 0.2, said)


@attack("wall", "denied, and counted", Off.NEVER)
def set_clock(range_: Range) -> Seen:
    """Set the machine's clock."""
    offset = time.time() - time.monotonic()
    shot = range_.shoot("set_clock")
    range_.sweep(shot)
    moved = abs(time.time() - time.monotonic() - offset) > 60.0
    return shot.seen(moved, "the clock was moved" if moved else "the clock is as it was")


# --- limits ---------------------------------------------------------------------------------------------------------


@attack("wall", "refused", Off.LIMITS)
def raise_limits(range_: Range) -> Seen:
    """Raise its own limits and write more than it may."""
    shot = range_.shoot("raise_limits", {"bytes": layout.LOG_BYTES + 2**22})
    room = shot.outcome.output
    length = layout.length(room / "long")
    range_.sweep(shot)
    return shot.seen(length > layout.LOG_BYTES + 2, f"its longest file has {length} bytes ({shot.said})")


@attack("limits", "ended at the limit on processes", Off.NEVER)
def fork_bomb(range_: Range) -> Seen:
    """Have 400 processes at once."""
    return _overrun(range_, "fork_many", {"count": 400, "word": _WORD}, replace(USUAL, memory_bytes=2**40), "processes")


@attack("limits", "ended at the limit on processes", Off.NEVER)
def thread_bomb(range_: Range) -> Seen:
    """Have 400 threads at once."""
    return _overrun(
        range_, "start_threads", {"count": 400, "word": _WORD}, replace(USUAL, memory_bytes=2**31), "processes"
    )


@attack("limits", "ended at the limit on memory", Off.LIMITS)
def memory_bomb(range_: Range) -> Seen:
    """Take 400 MiB of memory where 256 are allowed."""
    return _overrun(range_, "take_memory", {"bytes": 400 * 2**20, "processes": 1}, USUAL, "memory")


@attack("limits", "all are counted together", Off.LIMITS)
def memory_bomb_in_parts(range_: Range) -> Seen:
    """Take 4 x 100 MiB of memory in four processes."""
    return _overrun(range_, "take_memory", {"bytes": 100 * 2**20, "processes": 4}, USUAL, "memory")


@attack("wall", "bounded, absent", Off.WALL)
def hidden_memory(range_: Range) -> Seen:
    """Put memory into /dev/shm, memfd and System V segments, where no process is charged."""
    name = f"instar-red-{time.monotonic_ns()}"
    shot = range_.shoot("take_shared_memory", {"name": name, "bytes": 2**27}, replace(USUAL, output_bytes=2**28))
    outside = Path("/dev/shm", name)  # noqa: S108 - what an open wall let through
    left = outside.exists()
    outside.unlink(missing_ok=True)
    range_.sweep(shot)
    through = left or b" open" in shot.left or str(2**27).encode() in shot.left
    return shot.seen(through, "it found hidden memory" if through else "128 MiB did not fit, nothing was left behind")


@attack("limits", "ended, all are charged", Off.LIMITS)
def declare_small_run_big(range_: Range) -> Seen:
    """Use 3 CPU seconds in three processes where 0.5 are allowed."""
    return _overrun(range_, "spin", {"processes": 3, "seconds": 1.0}, replace(USUAL, cpu_seconds=0.5), "CPU")


@attack("limits", "ended by the outside timer", Off.LIMITS)
def hang(range_: Range) -> Seen:
    """Hang for longer than it may."""
    return _overrun(range_, "hang", {"seconds": 1.5}, replace(USUAL, wall_seconds=0.4), "wall")


@attack("limits", "ended at the quota", Off.LIMITS)
def disk_flood(range_: Range) -> Seen:
    """Fill the disk with many files."""
    return _overrun(range_, "write_files", {"count": 64, "bytes": 2**18}, USUAL, "output")


@attack("limits", "its length counts", Off.LIMITS)
def sparse_file(range_: Range) -> Seen:
    """Leave a sparse file of 12 MiB."""
    return _overrun(range_, "write_files", {"count": 1, "bytes": 12 * 2**20, "sparse": 1}, USUAL, "output")


@attack("limits", "the number of files is bounded", Off.NEVER)
def many_files(range_: Range) -> Seen:
    """Leave more files than anyone will look through."""
    return _overrun(range_, "write_files", {"count": layout.MAX_FILES + 500, "bytes": 0}, AMPLE, "output")


@attack("limits", "open ones are counted too", Off.LIMITS)
def nameless_files(range_: Range) -> Seen:
    """Fill the disk with files that have no name any more."""
    return _overrun(range_, "write_nameless", {"count": 16, "bytes": 2**20}, USUAL, "output")


@attack("limits", "the depth is bounded", Off.NOTHING)
def deep_files(range_: Range) -> Seen:
    """Fill the disk below a path longer than the kernel takes."""
    deep = {"name": "d" * 250, "depth": 20, "count": 64, "bytes": 2**18}
    return _overrun(range_, "write_deep", deep, USUAL, "output")


@attack("limits", "the depth is bounded", Off.NOTHING)
def deep_directories(range_: Range) -> Seen:
    """Nest directories deeper than a recursion can clear away."""
    deep = {"name": "d", "depth": 1500, "count": 1, "bytes": 1}
    return _overrun(range_, "write_deep", deep, USUAL, "output")


@attack("limits", "ended at the log's limit", Off.NEVER)
def log_flood(range_: Range) -> Seen:
    """Write a log of 40 MiB."""
    return _overrun(range_, "write_log", {"bytes": 40 * 2**20}, USUAL, "log")


# --- network and kernel ---------------------------------------------------------------------------------------------


def _reach(range_: Range, family: int, kind: int, address: Any) -> Seen:
    """Open a socket outside and let a job speak to it."""
    mine = range_.listen(family, kind, address)
    target = mine.getsockname()
    target = target.decode("latin-1") if isinstance(target, bytes) else target
    shot = range_.shoot("connect", {"family": family, "kind": kind, "address": target, "words": _WORD})
    range_.sweep(shot)
    heard = b""
    with suppress(OSError):
        if kind == socket.SOCK_DGRAM:
            heard = mine.recv(64)
        else:
            with mine.accept()[0] as line:
                heard = line.recv(64)
    return shot.seen(_WORD.encode() in heard, "the words arrived" if heard else "nothing arrived")


@attack("wall", "no network", Off.WALL)
def host_loopback(range_: Range) -> Seen:
    """Connect to a port of this machine."""
    return _reach(range_, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))


@attack("wall", "no network", Off.WALL)
def dns_exfiltration(range_: Range) -> Seen:
    """Send secrets out as a datagram, as DNS does."""
    return _reach(range_, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))


@attack("wall", "another network namespace; Landlock", Off.WALL)
def abstract_socket(range_: Range) -> Seen:
    """Connect to an abstract Unix socket."""
    return _reach(range_, socket.AF_UNIX, socket.SOCK_STREAM, f"\0instar-red-{time.monotonic_ns()}")


@attack("wall", "no such file", Off.WALL)
def docker_socket(range_: Range) -> Seen:
    """Connect to a Unix socket by its path, such as docker.sock."""
    return _reach(range_, socket.AF_UNIX, socket.SOCK_STREAM, str(range_.fresh("s") / "docker.sock"))


@attack("wall", "denied, and counted", Off.WALL)
def socket_families(range_: Range) -> Seen:
    """Open sockets of other families (raw, packet, netlink, vsock, crypto)."""
    shot = range_.shoot("open_sockets")
    range_.sweep(shot)
    opened = shot.left.count(b" open")
    return shot.seen(opened > 0, f"{opened} sockets were opened")


@attack("wall", "denied, and counted", Off.WALL, root=True)
def io_uring(range_: Range) -> Seen:
    """Set up io_uring, past any filter of single calls."""
    return _works(range_, "call_kernel", {"number": 425, "arguments": [4, "memory"]})


@attack("wall", "denied, and counted", Off.WALL)
def user_namespace(range_: Range) -> Seen:
    """Become root in a user namespace of its own."""
    return _works(range_, "new_user_namespace")


@attack("wall", "denied, and counted", Off.NEVER)
def mount(range_: Range) -> Seen:
    """Mount file systems, and the machine's own writable again."""
    return _works(range_, "mount")


@attack("wall", "no rights, and denied", Off.WALL, root=True)
def become_root(range_: Range) -> Seen:
    """Become another user or give files away."""
    return _works(range_, "become_root")


@attack("wall", "denied, and counted", Off.WALL, root=True)
def kernel_log(range_: Range) -> Seen:
    """Ask the kernel for its log."""
    return _works(range_, "call_kernel", {"number": 103 if _X86 else 116, "arguments": [10, 0, 0]})


# --- what it leaves -------------------------------------------------------------------------------------------------


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


@attack("wall", "devices cannot be made, and are not read", Off.WALL, root=True)
def device_in_output(range_: Range) -> Seen:
    """Leave a device in an output's place."""
    shot = range_.shoot("make_nodes", {"kind": "device", "name": "model.safetensors", "target": ""})
    through = False
    with suppress(OSError):
        through = stat.S_ISCHR((shot.outcome.output / "model.safetensors").lstat().st_mode)
    range_.sweep(shot)
    return shot.seen(through, "a device stands there" if through else "no device stands there")


@attack("wall", "another file system", Off.WALL)
def second_name_in_output(range_: Range) -> Seen:
    """Give the incumbent's weights a second name in its own output."""
    lent = range_.fresh("lent") / "weights"
    lent.write_text("the incumbent's")
    target = str(lent) if not range_.defended else "in/weights"
    payload = {"kind": "second name", "name": "model.safetensors", "target": target}
    shot = range_.shoot("make_nodes", payload, inputs={"weights": lent})
    through = lent.stat().st_nlink > 1
    range_.sweep(shot)
    return shot.seen(through, "it has a second name" if through else "it has one name")


@attack("executor", "the job counts as crashed")
def link_for_output(range_: Range) -> Seen:
    """Put a link in the place of the whole output directory."""
    shot = range_.shoot("replace_output", {"target": str(range_.home)})
    try:
        plain = (shot.outcome.output / "seal.key").read_bytes()
        read = read_bytes(shot.outcome.output / "seal.key", 4096) if shot.done or not range_.defended else b""
    except ArtefactError:
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


# --- without a wall -------------------------------------------------------------------------------------------------


@attack("executor", "refused without --unsafe-no-sandbox", Off.NOTHING)
def inline_without_a_word(range_: Range) -> Seen:
    """Have untrusted code run in the conductor's own process."""
    try:
        inline.create(1, range_.fresh("inline"), (), unsafe_no_sandbox=False).close()
    except BadInput as error:
        return Seen(False, f"refused: {error.what}")
    return Seen(True, "it would have run")


def executor_of(range_: Range) -> str:
    """Return the name of the executor that a range has."""
    return "local" if isinstance(range_.executor, LocalExecutor) else "inline"


@attack("wall", "nothing: load and memory of the machine are shown to everyone", detectable=False)
def machine_statistics(range_: Range) -> Seen:
    """Learn from /proc how busy the machine is, and time other rooms by it."""
    shot = range_.shoot("read_files", {"paths": ["/proc/loadavg", "/proc/meminfo"]})
    range_.sweep(shot)
    return shot.seen(b"MemTotal" in shot.left, "it read the machine's load and memory")
