"""Commands that run the loop, ask its model, and point back: `run`, `solve`, `rollback`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from instar.cli.options import Home, Json, NewHome, Words, at, emit, tell
from instar.contracts.errors import BadInput
from instar.session.meter import Meter

if TYPE_CHECKING:
    from instar.session.assembly import Plan
    from instar.session.session import View


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(context_settings={"ignore_unknown_options": True})(run)
    app.command()(solve)
    app.command()(rollback)


def run(
    words: Words = None,
    generations: Annotated[int | None, typer.Option(metavar="N", min=1, help="End at this generation.")] = None,
    budget: Annotated[str | None, typer.Option(metavar="TIME", help="Wall time, such as 90s, 3m, 1h30m.")] = None,
    budget_cpu: Annotated[str | None, typer.Option(metavar="TIME", help="CPU time of all trials together.")] = None,
    budget_disk: Annotated[str | None, typer.Option(metavar="SIZE", help="Run directory's size, such as 2G.")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Slots for trials.")] = None,
    max_cost: Annotated[
        float | None, typer.Option(metavar="USD", min=0.0, help="Money for all proposals together.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="Seed of the run.")] = None,
    home: NewHome = None,
    builder: Annotated[str | None, typer.Option(metavar="NAME", help="Who proposes, such as incumbent.")] = None,
    rung: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=4, help="Of autonomy: 0 by hand .. 4 closed loop.")
    ] = None,
    builder_frozen_at: Annotated[
        int | None, typer.Option(metavar="N", help="Control arm: generation N builds for ever.")
    ] = None,
    feedback: Annotated[
        str | None, typer.Option(metavar="KIND", help="What judges experience: verified, self, none.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="ARM", help="loop, or a plain recipe of the lab (walks).")
    ] = None,
    executor: Annotated[str | None, typer.Option(metavar="NAME", help="local, or inline for debugging.")] = None,
    unsafe_no_sandbox: Annotated[
        bool, typer.Option("--unsafe-no-sandbox", help="Run untrusted code without a sandbox; every result is marked.")
    ] = False,
    unsafe_self_reported: Annotated[
        bool, typer.Option("--unsafe-self-reported", help="Promote by what a training says of itself; marked.")
    ] = False,
    acknowledge_incidents: Annotated[
        str | None, typer.Option(metavar="WHY", help="Let a run that was paused for its conduct go on.")
    ] = None,
    curriculum: Annotated[
        bool, typer.Option("--curriculum", help="Once the exam is exhausted, go on with the lab's longer tasks.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the closed loop, or resume it: the same command goes on where it was cut off."""
    meter = Meter()
    lab, options = lab_and_options(words or [])
    given = {
        "lab": lab, "options": options or None, "generations": generations, "budget": budget, "budget_cpu": budget_cpu,
        "budget_disk": budget_disk, "max_cost": max_cost, "workers": workers, "seed": seed, "home": home,
        "builder": builder, "builder_frozen_at": builder_frozen_at, "feedback": feedback, "baseline": baseline,
        "executor": executor, "unsafe_no_sandbox": unsafe_no_sandbox or None, "rung": rung,
        "curriculum": curriculum or None, "unsafe_self_reported": unsafe_self_reported or None,
    }  # fmt: skip
    result, said = _carried_out(_plan(given), meter, acknowledge_incidents)
    emit(result, as_json, said)
    raise typer.Exit({"interrupted": 130, "paused: conduct": 1}.get(result["status"], 0))


def _carried_out(plan: Plan, meter: Meter, acknowledged: str | None = None) -> tuple[dict[str, Any], str]:
    """Run, and run on where the lab has longer tasks to offer; return the result object and the morning's words."""
    from instar.session import curriculum, session

    result = session.carry_out(plan, _view(), meter, acknowledged)
    with session.disk_faults(plan.home):
        said = _morning(plan, result)
    if not plan.settings.curriculum:
        return result, said
    further = curriculum.following(plan, result)
    if further is None:
        return result | {"curriculum": None}, said
    tell(f"The exam is exhausted: on to longer tasks ({further.settings.options}), in {further.home}.")
    following, more = _carried_out(further, Meter())
    return result | {"curriculum": following}, f"{said}\n\n{more}"


def lab_and_options(words: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """Split what `run` itself doesn't know into the lab and the lab's own options.

    Raises:
        BadInput: an option without a value, or two labs.
    """
    lab, options, rest = None, {}, list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--") and len(word) > 2:
            key, equals, value = word[2:].partition("=")
            if not equals:
                if not rest or rest[0].startswith("-"):
                    raise BadInput(f"option --{key} needs a value", f"Write --{key} VALUE." + near_miss(key))
                value = rest.pop(0)
            options[key.replace("-", "_")] = value
        elif word.startswith("-"):
            raise BadInput(f"unknown option {word}", "See `instar run --help`.")
        elif lab is not None:
            raise BadInput(f"two labs are given: {lab} and {word}", "Name one; a lab's options are --OPTION VALUE.")
        else:
            lab = word
    return lab, options


def near_miss(key: str) -> str:
    """Return a hint at an option of `run` that is spelt nearly so, or ''."""
    from difflib import get_close_matches
    from inspect import signature

    known = [name.replace("_", "-") for name in signature(run).parameters if name not in ("words", "as_json")]
    close = get_close_matches(key.replace("_", "-"), [*known, "json"], n=1, cutoff=0.75)
    return f" Did you mean --{close[0]}?" if close else ""


def _plan(given: Mapping[str, Any]) -> Plan:
    from instar.contracts import settings
    from instar.session import assembly

    try:
        return assembly.plan(settings.load(given))
    except BadInput as error:
        hint = "".join(near_miss(key) for key in given["options"] or {} if f"unknown option '{key}'" in error.what)
        raise BadInput(error.what, error.fix + hint) from None


def _view() -> View:
    """Return the live view for a terminal, or the plain log."""
    if not sys.stderr.isatty():
        from instar.report.narration import PlainLog

        return PlainLog(sys.stderr)
    from rich.console import Console

    from instar.report.live import LiveView

    return LiveView(Console(stderr=True))


def _morning(plan: Plan, result: Mapping[str, Any]) -> str:
    """Write the report's pages and return the half screen that a person reads in the morning."""
    from instar.report import morning, page

    unit, metric = plan.lab.metric.unit_of_length, plan.lab.metric.name
    if result["generations"]:
        page.write(plan.home, result=result, unit=unit, metric=metric)
    return morning.morning(plan.home, result, unit=unit, metric=metric)


def solve(
    board: Annotated[list[str], typer.Argument(metavar="BOARD...", help="The instance, as the lab reads it.")],
    home: Home = None,
    executor: Annotated[str, typer.Option(metavar="NAME", help="Where the attempt runs.")] = "local",
    as_json: Json = False,
) -> None:
    """Let the incumbent solve an instance; the lab verifies what it says."""
    from instar.archive import read_archive
    from instar.session import overview, solving

    place = at(home)
    with read_archive(place / "archive.db") as archive:
        identity = archive.identity
    found = solving.solve(place, identity, " ".join(board), executor)
    emit(found, as_json, overview.solution(found))
    raise typer.Exit(0 if found["solved"] else 1)


def rollback(
    to: Annotated[int | None, typer.Option(metavar="N", help="Generation; by default the one before.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Point the champion at an older generation; the record itself never shrinks."""
    from instar.run import promotion
    from instar.session import result, solving
    from instar.session.session import disk_faults

    place = at(home)
    count = len(result.read(place)["generations"])
    target = solving.champion(place) - 1 if to is None else to
    with disk_faults(place):
        promotion.rollback(place, count, target)
    found = {"run_directory": str(place.absolute()), "champion": target}
    emit(found, as_json, f"The champion of {place} is generation {target}. Resuming the run names the newest again.")
