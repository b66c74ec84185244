"""`instar lab new`: makes a lab of somebody's repository, and measures its seed design before anything is accepted.

The seed design is trained with several seeds in the sandbox and evaluated; the spread between them is the noise floor.
A lab is written whole or not at all.
"""

from __future__ import annotations

import math
import os
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from instar.contracts import plugins
from instar.contracts.errors import ArtefactError, BadInput, LabError
from instar.contracts.exam import Stage
from instar.contracts.executor import Executor
from instar.contracts.lab import TrainRequest
from instar.contracts.records import Job, Limits, OutcomeState
from instar.contracts.settings import seconds, size
from instar.executors.artefacts import read_arrays, read_json, write_arrays, write_bytes
from instar.labs.command import CommandLab, formats, knobs, manifest, open_lab, snapshot
from instar.labs.command.exam import items_of
from instar.labs.command.manifest import Bounds, Gpu, Manifest, Measured
from instar.labs.command.task import text_of
from instar.labs.command.work import REPORT
from instar.stats.evalues import log_e_process, spent_alpha

LEAST_SEEDS = 5
LEAVES = ("artefact/*", "out/*", "output/*", "outputs/*", "checkpoints/*", "*.safetensors", "*.npz", "*.npy")
AUTORESEARCH = ("program.md", "prepare.py", "train.py")
_GIB = 2**30


@dataclass(frozen=True)
class Wanted:
    """What a person asks for, in the words of the command line."""

    name: str
    repository: Path
    editable: Sequence[str]
    run: str
    metric: str
    evaluate: str = ""
    leaves: Sequence[str] = ()
    held_out: Sequence[str] = ()
    knobs: Sequence[str] = ()
    range: str = ""
    program: str = ""
    into: Path | None = None
    seeds: int = LEAST_SEEDS
    wall: str = "10m"
    memory: str = "4G"
    threads: int = 1
    rungs: int = 1
    gpu: str = ""
    allow_pickle: bool = False


@dataclass(frozen=True)
class Found:
    """One seed's training: the artefact's files, what it cost, and its evaluation's values."""

    place: Path
    files: tuple[str, ...]
    wall_seconds: float
    cpu_seconds: float
    values: tuple[float, ...] = field(default=())


def create(wanted: Wanted, executor: str, workers: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """Make the lab; return what was found, as strict JSON.

    Raises:
        BadInput: something cannot be used, or the repository's commands do not do what a lab needs; nothing is left.
    """
    target = (wanted.into or manifest.LABS) / wanted.name
    _check(wanted, target)
    part = target.with_name(f".{wanted.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        plain = _plain(wanted, part)
        tell(f"{len(plain.protected)} files of {wanted.repository} are in the lab, "
             f"{len(plain.editable)} may change: {', '.join(plain.editable)}")  # fmt: skip
        whole = _measure(part, plain, wanted, executor, workers, tell)
        write_bytes(part / manifest.MANIFEST, manifest.to_toml(whole).encode())
        lab = open_lab(part, {})
        if lab.manifest != whole:
            raise LabError(f"lab '{wanted.name}': its lab.toml does not read as it was written", "This is a bug.")
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _found(open_lab(target, {}), target)


def _check(wanted: Wanted, target: Path) -> None:
    """Raise `BadInput` for what can be seen to be wrong before anything is copied."""
    manifest.check_name(wanted.name)
    if wanted.name in plugins.names("labs"):
        raise BadInput(f"a lab called '{wanted.name}' is installed already", "Choose another name.")
    if target.exists():
        raise BadInput(f"{target} exists already", "Choose another name, or remove it.")
    if not [name for name in wanted.editable if name.strip()]:
        raise BadInput("the editable set is empty, so nothing could ever change", "Name a file with --editable.")
    if wanted.seeds < LEAST_SEEDS:
        fix = f"Give at least {LEAST_SEEDS}."
        raise BadInput(f"{wanted.seeds} seeds show no noise floor", fix)
    for option, command in (("run", wanted.run), ("evaluate", wanted.evaluate)):
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise BadInput(f"--{option} '{command}': {error}", "Quote it as a shell would want it.") from None
        if not words and (option == "run" or command):
            raise BadInput(f"--{option} is empty", f"Give a command, such as --{option} 'python train.py'.")
        if any(word in ("|", "&&", ";", ">", ">>", "<", "||", "&") for word in words):
            raise BadInput(f"--{option} '{command}': no shell reads it", "Put it in a script and name that.")


def _plain(wanted: Wanted, target: Path) -> Manifest:
    """Copy the repository and return the manifest as far as it is known before anything has run."""
    names = snapshot.files_of(wanted.repository)
    editable = snapshot.chosen(names, wanted.editable)
    for pattern in wanted.editable:
        if not snapshot.chosen(names, [pattern]):
            raise BadInput(f"--editable '{pattern}' matches no file of {wanted.repository}", "Check its spelling.")
    held_out = snapshot.chosen(names, wanted.held_out)
    for pattern in wanted.held_out:
        if not snapshot.chosen(names, [pattern]):
            raise BadInput(f"--held-out '{pattern}' matches no file of {wanted.repository}", "Check its spelling.")
    both = sorted({*editable} & {*held_out})
    if both:
        raise BadInput(f"'{both[0]}' is editable and held out", "It can be one of them.")
    for name in editable:
        parts = PurePosixPath(name).parts
        if parts[0] in ("design.json", "BRIEF.md", "forecast.json"):
            raise BadInput(f"editable file '{name}' has a name that agents' work trees use", "Rename it.")
    hashes = snapshot.take(wanted.repository, names, held_out, target)
    sources = {name: text_of(target / manifest.FILES / name, name) for name in editable}
    knobs.names_of(wanted.knobs)
    turned = {name: knob for name, knob, _ in (knobs.parse(text, sources) for text in wanted.knobs)}
    metric, _, direction = wanted.metric.partition(":")
    if direction not in ("min", "max") or not metric.strip() or metric != metric.strip():
        raise BadInput(f"--metric '{wanted.metric}' is malformed", "Write NAME:min or NAME:max, such as val_bpb:min.")
    program = wanted.program or ("program.md" if _autoresearch(names) else "")
    if program and program not in hashes:
        raise BadInput(f"--program '{program}' is no file of {wanted.repository}", "Check its spelling.")
    try:
        return Manifest(
            kind="command", name=wanted.name, metric=metric, direction="min" if direction == "min" else "max",
            editable=editable,
            run=wanted.run, evaluate=wanted.evaluate, held_out=list(wanted.held_out),
            leaves=list(wanted.leaves or LEAVES), program=program, allow_pickle=wanted.allow_pickle,
            rungs=wanted.rungs, limits=Bounds(wall=wanted.wall, memory=wanted.memory, threads=wanted.threads),
            gpu=_gpu(wanted.gpu), knobs=turned, protected=hashes,
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise BadInput(f"--{key.split('.')[-1]}: {said}", "Give a valid value.") from None


def _autoresearch(names: Sequence[str]) -> bool:
    """Whether the repository has the shape of karpathy/autoresearch: a program, a preparation, a training."""
    return set(AUTORESEARCH) <= set(names)


def _gpu(text: str) -> Gpu | None:
    """Read `--gpu DEVICE[:MEMORY[:JOULES]]`. Raises `BadInput`."""
    if not text:
        return None
    device, _, rest = text.partition(":")
    memory, _, joules = rest.partition(":")
    try:
        if memory:
            size(memory)
        return Gpu(device=int(device), memory=memory, joules=float(joules or 0.0))
    except (ValueError, ValidationError):
        raise BadInput(f"--gpu '{text}' is malformed", "Write DEVICE[:MEMORY[:JOULES]], such as 0:20G:50000.") from None


# --- measuring ------------------------------------------------------------------------------------------------------


def _measure(
    place: Path, plain: Manifest, wanted: Wanted, executor: str, workers: int, tell: Callable[[str], None]
) -> Manifest:
    """Train and evaluate the seed design with every seed; return the manifest with what was found."""
    write_bytes(place / manifest.MANIFEST, manifest.to_toml(plain).encode(), sync=False)
    lab = open_lab(place, {}, measured=False)
    with tempfile.TemporaryDirectory(prefix="instar-lab-") as directory:
        job_dirs: Executor = plugins.find("executors", executor)(workers, Path(directory) / "jobs", list(lab.preload))
        try:
            tell(
                f"The seed design is trained with {wanted.seeds} seeds, {plain.limits.wall} each at most: `{plain.run}`"
            )
            runs = _train(lab, job_dirs, wanted, Path(directory), tell)
            names = _same_files(runs, plain)
            by = f"`{plain.evaluate}`" if plain.evaluate else "its own log: that number can't be trusted"
            tell(f"It leaves {', '.join(names)}; evaluated by {by}.")
            asked = [(run, 1) for run in runs] + [(runs[0], 2)]
            *values, again = _evaluate(lab, job_dirs, names, asked, Path(directory), plain)
        finally:
            job_dirs.close()
    measured = _judge(plain, wanted, names, runs, values, again)
    return plain.model_copy(update={"measured": measured})


def _limits(plain: Manifest) -> Limits:
    wall = seconds(plain.limits.wall)
    return Limits(wall, wall * plain.limits.threads + 1.0, size(plain.limits.memory))


def _train(
    lab: CommandLab, job_dirs: Executor, wanted: Wanted, place: Path, tell: Callable[[str], None]
) -> list[Found]:
    jobs = [
        lab.train(TrainRequest(f"seed-{seed}", lab.seed_design(), seed, 1.0, None, _limits(lab.manifest)))
        for seed in range(1, wanted.seeds + 1)
    ]
    found = []
    for outcome in _all(job_dirs, jobs, "the seed design's training"):
        kept = place / outcome.key
        shutil.copytree(outcome.output, kept, symlinks=True)
        shutil.rmtree(outcome.output.parent, ignore_errors=True)
        report = _read_report(kept)
        if report["edited"]:
            raise BadInput(f"`{wanted.run}` edits the protected file '{report['edited'][0]}'",
                           "Let it write elsewhere, or make the file editable.")  # fmt: skip
        files = tuple(sorted(str(p.relative_to(kept)) for p in kept.rglob("*") if p.is_file() and p.name != REPORT))
        found.append(Found(kept, files, outcome.usage.wall_seconds, outcome.usage.cpu_seconds))
        tell(f"  {outcome.key}: {outcome.usage.wall_seconds:.1f} s")
    return sorted(found, key=lambda one: one.place.name)


def _read_report(kept: Path) -> Mapping[str, Any]:
    try:
        report: Mapping[str, Any] = read_json(kept / REPORT, limit=2**24)
        return report
    except ArtefactError as error:
        raise BadInput(f"the seed design's training left no report: {error}", "See `instar doctor`.") from None


def _same_files(runs: Sequence[Found], plain: Manifest) -> list[str]:
    """Return the names that every seed has left. Raises `BadInput` where they differ or may not be."""
    names = runs[0].files
    for run in runs:
        if run.files != names:
            odd = sorted({*run.files} ^ {*names})[0]
            raise BadInput(f"'{odd}' is left by some seeds and not by others", "Name fixed files with --artefact.")
    for name in names:
        try:
            if not plain.allow_pickle:
                formats.check(runs[0].place, name, 2**30)
        except ArtefactError as error:
            raise BadInput(
                f"the run leaves {error}",
                "Save safetensors, .npz, .npy or JSON; with --allow-pickle a hostile design can forge its metric.",
            ) from None
    digests = {tuple(snapshot.hash_of(run.place / name) for name in names) for run in runs}
    if len(digests) == 1:
        raise BadInput(
            f"all {len(runs)} seeds left the very same artefact: the run does not heed INSTAR_SEED",
            "Read it in your script, as in seed = int(os.environ.get('INSTAR_SEED', 0)): without it a change of seed "
            "cannot be told from a gain.",
        )
    return list(names)


def _evaluate(
    lab: CommandLab, job_dirs: Executor, names: Sequence[str], asked: Sequence[tuple[Found, int]], place: Path,
    plain: Manifest,
) -> list[list[float]]:  # fmt: skip
    """Evaluate each training with the evaluation seed that stands beside it; return the values."""
    jobs = []
    for number, (run, seed) in enumerate(asked):
        questions = place / f"questions-{seed}.safetensors"
        question_set = lab.exam.set(seed, Stage.SCREEN)
        write_arrays(questions, question_set.questions, sync=False)
        job = lab.exam.evaluate(f"evaluation-{number}", run.place, questions, _limits(plain))
        own = {"artefact": list(names), "items": 0, "sign": 0}
        jobs.append(replace(job, payload={**job.payload, **own}))
    found = {}
    for outcome in _all(job_dirs, jobs, "the seed design's evaluation"):
        found[outcome.key] = read_arrays(outcome.output / "answers.safetensors")["values"].tolist()
        shutil.rmtree(outcome.output.parent, ignore_errors=True)
    return [found[job.key] for job in jobs]


def _all(job_dirs: Executor, jobs: Sequence[Job], what: str) -> Any:
    """Run the jobs and yield their outcomes. Raises `BadInput` for the first that fails."""
    for job in jobs:
        job_dirs.submit(job)
    left = len(jobs)
    while left:
        for outcome in job_dirs.wait(None):
            left -= 1
            if outcome.state is not OutcomeState.DONE:
                why = outcome.reason.partition(" (log:")[0]
                fix = "Mend it in your repository, and make the lab again."
                raise BadInput(f"{what} failed ({outcome.state.value}): {why}", fix)
            yield outcome


def _judge(
    plain: Manifest, wanted: Wanted, names: Sequence[str], runs: Sequence[Found], values: Sequence[Sequence[float]],
    again: Sequence[float],
) -> Measured:  # fmt: skip
    """Return what the runs have shown. Raises `BadInput` where the values cannot be compared."""
    counts = {len(one) for one in values}
    if len(counts) != 1:
        raise BadInput(f"evaluations print {min(counts)} to {max(counts)} values of '{plain.metric}'",
                       "Print one value, or the same items every time.")  # fmt: skip
    table = np.array(values)  # (seeds, items)
    low, high = _range(wanted.range, table, plain.direction)
    promoted = table[:, items_of(table.shape[1], Stage.PROMOTION)].mean(axis=1)
    if plain.evaluate and len(set(table.mean(axis=1).tolist())) == 1:
        raise BadInput(
            f"all {len(runs)} seeds have exactly the same '{plain.metric}' ({table.mean():g})",
            "The evaluation does not depend on the artefact: let it read what the run leaves, below INSTAR_ARTEFACT.",
        )
    sign: Literal[-1, 0, 1] = 1 if (table > 0).all() else -1 if (table < 0).all() else 0
    return Measured(
        artefact=list(names), items=table.shape[1], low=low, high=high, values=promoted.tolist(),
        fresh=bool(plain.evaluate) and list(again) != list(values[0]), sign=sign,
        wall_seconds=float(np.mean([run.wall_seconds for run in runs])),
        cpu_seconds=float(np.mean([run.cpu_seconds for run in runs])),
    )  # fmt: skip


def _range(text: str, table: Any, direction: str) -> tuple[float, float]:
    """Return the range of values that scores are linear in: as given, or one that what was seen lies well inside."""
    if text:
        low, _, high = text.partition(":")
        try:
            ends = float(low), float(high)
        except ValueError:
            ends = (math.nan, math.nan)
        if not -math.inf < ends[0] < ends[1] < math.inf:
            raise BadInput(f"--range '{text}' is malformed", "Write LOW:HIGH, such as 0:8.")
        return ends
    least, most = float(table.min()), float(table.max())
    if least >= 0.0 and most <= 1.0 and (direction == "max" or table.shape[1] > 1):
        return 0.0, 1.0
    if least >= 0.0:
        return 0.0, (2.0 if table.shape[1] == 1 else 1.25) * most
    reach = 2.0 * max(abs(least), abs(most), most - least)
    return -reach, reach


# --- what is told ---------------------------------------------------------------------------------------------------


def _found(lab: CommandLab, target: Path) -> dict[str, Any]:
    """Return what `lab new` tells of a lab."""
    plain, measured = lab.manifest, lab.manifest.measured
    assert measured is not None
    values = np.array(measured.values)
    return {
        "lab": lab.name,
        "directory": str(target.absolute()),
        "editable": list(plain.editable),
        "protected": len(plain.protected) - len(plain.editable),
        "held_out": snapshot.chosen(plain.protected, plain.held_out),
        "artefact": list(measured.artefact),
        "metric": plain.metric,
        "direction": plain.direction,
        "items": measured.items,
        "seeds": len(values),
        "mean": float(values.mean()),
        "seed_spread": float(values.std(ddof=1)),
        "least_gain": least_gain(lab),
        "fresh_questions": measured.fresh,
        "self_reported": plain.self_reported,
        "knobs": sorted(plain.knobs),
        "program": plain.program,
        "gpu_metered": None if plain.gpu is None else _nvml(),
        "wall_seconds": measured.wall_seconds,
    }


def _nvml() -> bool:
    from instar.labs.command import gpu

    return gpu.library() is not None


def least_gain(lab: CommandLab, alpha: float = 0.05, seeds: int = 3) -> float | None:
    """Return about the least gain, in the metric's unit, that a first candidate can show; None where none can.

    Of a single number: what three seeds need beyond the floor's spread. Of items: what the e-process needs too, if
    every item gained as much.
    """
    measured = lab.manifest.measured
    assert measured is not None
    from instar.gates.noise import NoiseFloor

    level, floor = spent_alpha(alpha, 1), lab.exam.floor
    runs = len(measured.values)
    needed = NoiseFloor(alpha, seeds).needed(level, floor, seeds, runs, seeds + runs - 2)
    if measured.items > 1:
        count = len(items_of(measured.items, Stage.PROMOTION))
        steps = np.linspace(0.001, 1.0, 1000)
        enough = [step for step in steps
                  if log_e_process(np.full(count, step), 0.0, -1.0, 1.0)[-1] >= -math.log(level)]  # fmt: skip
        if not enough:
            return None
        needed = max(needed, float(enough[0]))
    return needed * (measured.high - measured.low) if needed < 1.0 else None


def words(found: Mapping[str, Any]) -> str:
    """Return what was made and measured, for people."""
    metric, least = found["metric"], found["least_gain"]
    place = os.path.relpath(found["directory"])
    known = found["lab"] if place == str(manifest.LABS / found["lab"]) else place
    lines = [
        f"Lab '{found['lab']}' is in {place}: {len(found['editable'])} editable files, {found['protected']} protected.",
        f"{metric} of the seed design over {found['seeds']} seeds: {found['mean']:.6g}, standard deviation "
        f"{found['seed_spread']:.3g} (the noise floor).",
    ]
    if least is None:
        lines.append(f"WARNING: {found['items']} values an evaluation can never decide: print more items, or one mean.")
    else:
        lines.append(f"The first candidate needs a gain of about {least:.3g}; less is not told from noise.")
    kind = "fresh for every evaluation" if found["fresh_questions"] else "fixed: looks are counted"
    lines.append(f"{found['items']} value{'s' if found['items'] > 1 else ''} per evaluation; the questions are {kind}.")
    if found["self_reported"]:
        lines.append("WARNING: without --evaluate the number is what the training says of itself. It can't be trusted; "
                     "nothing is promoted without --unsafe-self-reported.")  # fmt: skip
    if found["program"]:
        lines.append(f"{found['program']} goes into the brief of agents and models.")
    if found["gpu_metered"] is False:
        lines.append("GPU: memory and energy are not metered: NVML (the package nvidia-ml-py) is not there.")
    lines.append(f"Run it: instar run {known}")
    return "\n".join(lines)
