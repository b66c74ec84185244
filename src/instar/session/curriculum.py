"""Where an exam is exhausted the goal moves on: a run with longer tasks takes over what is left of the budget.

It is a run of its own, in `curriculum/` inside the run directory of the one before: other tasks are another exam, so
that no generation of the one is held against a generation of the other. The same command resumes either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instar.contracts.units import seconds
from instar.run.endings import EndReason
from instar.session import assembly, baselines
from instar.session.assembly import Plan

FOLDER = "curriculum"
LEAST_SECONDS = 10.0
"""A run is not begun for less."""


def following(plan: Plan, found: Mapping[str, Any]) -> Plan | None:
    """Return the run with longer tasks that goes on after this one, or None.

    Args:
        plan: of the run that has ended; with `settings.curriculum`.
        found: its result object.

    Raises:
        BadInput: the longer tasks do not go with the other settings.
    """
    settings, lab = plan.settings, plan.lab
    if not settings.curriculum or settings.baseline != baselines.LOOP or found["reason"] != EndReason.EXHAUSTED:
        return None
    options = lab.longer()
    left = seconds(settings.budget) - found["cost"]["wall_seconds"]
    if options is None or left < LEAST_SECONDS:
        return None
    changed: dict[str, Any] = {"options": dict(options), "home": plan.home / FOLDER, "budget": f"{left:.0f}s"}
    if settings.budget_cpu is not None:
        cpu = seconds(settings.budget_cpu) - found["cost"]["cpu_seconds"]
        if cpu < LEAST_SECONDS:
            return None
        changed["budget_cpu"] = f"{cpu:.0f}s"
    return assembly.plan(settings.model_copy(update=changed))
