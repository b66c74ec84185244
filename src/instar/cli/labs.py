"""Commands on labs: `lab list`, `lab check`, `lab new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from instar.cli.options import Json, emit, tell
from instar.cli.running import lab_and_options
from instar.contracts.errors import BadInput

Many = list[str] | None


def register(app: typer.Typer) -> None:
    """Add `lab` and what stands under it."""
    labs = typer.Typer(help="The labs that are installed.", rich_markup_mode=None)
    labs.command("list")(lab_list)
    labs.command("check", context_settings={"ignore_unknown_options": True})(lab_check)
    labs.command("new")(new)
    app.add_typer(labs, name="lab")


def lab_list(as_json: Json = False) -> None:
    """List the installed labs with their options."""
    from instar.session import overview

    found = overview.installed_labs()
    emit({"labs": found}, as_json, overview.labs(found))


def lab_check(
    words: Annotated[list[str], typer.Argument(metavar="LAB|--OPTION VALUE", help="A lab, its own options.")],
    executor: Annotated[str, typer.Option(metavar="NAME", help="Where a founder is made, if one is needed.")] = "local",
    as_json: Json = False,
) -> None:
    """Let a lab's exam examine itself: planted cheats must fail, known-good answers must pass."""
    from instar.run import parts
    from instar.studies import lab_check as checking

    lab, options = lab_and_options(words)
    if lab is None:
        raise BadInput("no lab is given", "Name one: `instar lab list` shows them.")
    found = checking.check(parts.make_lab(lab, options), executor)
    emit(found, as_json, checking.words(found))
    raise typer.Exit(0 if found["holds"] else 1)


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the lab is called.")],
    repository: Annotated[Path, typer.Option("--from", metavar="DIR", help="The repository; it is copied.")],
    editable: Annotated[Many, typer.Option(metavar="PATTERN", help="Files that may change; may be given again.")],
    run: Annotated[str, typer.Option(metavar="COMMAND", help="Trains; heeds INSTAR_SEED.")],
    metric: Annotated[str, typer.Option(metavar="NAME:min|max", help="What is measured, and which way is better.")],
    evaluate: Annotated[str, typer.Option(metavar="COMMAND", help="Trusted: measures what the run has left.")] = "",
    artefact: Annotated[Many, typer.Option(metavar="PATTERN", help="What the run leaves; else artefact/*, ...")] = None,
    held_out: Annotated[Many, typer.Option(metavar="PATTERN", help="Files that only the evaluation sees.")] = None,
    knob: Annotated[Many, typer.Option(metavar="NAME:KIND:...", help="A value that a search may turn.")] = None,
    metric_range: Annotated[
        str, typer.Option("--range", metavar="LOW:HIGH", help="Of the metric; else from what was seen.")
    ] = "",
    program: Annotated[str, typer.Option(metavar="FILE", help="Instructions for agents; else program.md.")] = "",
    into: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the lab goes; else instar-labs/.")] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Runs of the seed design, for the noise floor.")] = 5,
    wall: Annotated[str, typer.Option(metavar="TIME", help="Wall time of one job.")] = "10m",
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory of one job.")] = "4G",
    threads: Annotated[int, typer.Option(metavar="N", min=1, help="Threads of one job.")] = 1,
    rungs: Annotated[int, typer.Option(metavar="N", min=1, max=5, help="Above 1: run heeds INSTAR_EFFORT.")] = 1,
    gpu: Annotated[str, typer.Option(metavar="DEVICE[:MEMORY[:JOULES]]", help="A GPU, and its limits.")] = "",
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Artefacts may run code on loading, and so forge their metric.")
    ] = False,
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Slots.")] = 2,
    executor: Annotated[str, typer.Option(metavar="NAME", help="Where the seed design runs.")] = "local",
    as_json: Json = False,
) -> None:
    """Make a lab of a repository: what trains, what evaluates, what may change; measure its noise floor."""
    from instar.studies import new_lab
    from instar.studies.wanted_lab import Wanted

    wanted = Wanted(
        name, repository, editable or [], run, metric, evaluate, artefact or [], held_out or [], knob or [],
        metric_range, program, into, seeds, wall, memory, threads, rungs, gpu, allow_pickle,
    )  # fmt: skip
    found = new_lab.create(wanted, executor, workers, tell)
    emit(found, as_json, new_lab.words(found))
