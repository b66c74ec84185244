"""Tells models apart that answered under one name with different solvers or settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from instar.contracts.errors import BadInput

Settings = tuple[tuple[str, str], ...]


@dataclass
class Agents:
    """Models by name and settings, in the order in which they were met.

    Attributes:
        dates: release dates of a file beside the runs, by model.
    """

    dates: Mapping[str, date] = field(default_factory=dict)
    _numbers: dict[tuple[str, Settings], int] = field(default_factory=dict)
    _tasks: dict[tuple[str, Settings], set[str]] = field(default_factory=dict)  # the logs' tasks
    _released: dict[str, tuple[str, str]] = field(default_factory=dict)  # model -> date, where

    def number(
        self, where: str, model: str, released: str = "", settings: Mapping[str, str] | None = None, task: str = ""
    ) -> int:
        """Return the number of a model with its settings.

        Raises:
            BadInput: the model has another release date elsewhere.
        """
        beside = self.dates.get(model, self.dates.get(model.split("/")[-1]))
        day = released or (beside.isoformat() if beside else "")
        known, first = self._released.setdefault(model, (day, where))
        if day != known or (beside is not None and day != beside.isoformat()):
            other = known if day != known else (beside.isoformat() if beside else "")
            place = first if day != known else "the file of release dates"
            raise BadInput(f"{where}: column 'release_date': {model} has '{day}' here and '{other}' at {place}",
                           "Give a model one date.")  # fmt: skip
        key = model, tuple(sorted((settings or {}).items()))
        self._tasks.setdefault(key, set()).add(task)
        return self._numbers.setdefault(key, len(self._numbers))

    def released(self, model: str) -> str:
        """Return the release date of a model, or ""."""
        return self._released[model][0]

    def models(self, *, pool: bool) -> tuple[list[tuple[str, str]], list[int], list[str]]:
        """Decide which are models of their own.

        Two settings of one model on one task are two models; settings that differ from task to task alone are one,
        and that is said.

        Args:
            pool: take all settings of a model together.

        Returns:
            Each model's name and the name that is shown; the place of each number among them; and notes.
        """
        kept: dict[tuple[str, str], int] = {}
        place, notes = [], []
        labels = {model: self._labels(model) for model, _ in self._numbers}
        for model, settings in self._numbers:
            apart = self._clash(model) and not pool
            shown = f"{model} ({labels[model][settings]})" if apart else model
            place.append(kept.setdefault((model, shown), len(kept)))
        for model, found in labels.items():
            if len(found) > 1:
                notes.append(self._note(model, sorted(found.values()), pool=pool))
        return list(kept), place, notes + self._alike()

    def _note(self, model: str, labels: Sequence[str], *, pool: bool) -> str:
        named = "; ".join(labels)
        if not self._clash(model):
            return f"{model} answered with other settings from task to task, and is one model here: {named}"
        if pool:
            return f"{model} answered the same tasks with {len(labels)} settings, pooled as asked: {named}"
        return f"{model} answered the same tasks with {len(labels)} settings, which are kept apart: {named}"

    def _clash(self, model: str) -> bool:
        tasks = [task for key, found in self._tasks.items() if key[0] == model for task in found]
        return len(set(tasks)) < len(tasks)

    def _labels(self, model: str) -> dict[Settings, str]:
        """Return what tells a model's settings apart, in words."""
        mine = [settings for name, settings in self._numbers if name == model]
        keys = sorted({key for settings in mine for key, _ in settings}, key=lambda key: (key != "solver", key))
        differing = [key for key in keys if len({dict(settings).get(key) for settings in mine}) > 1]
        found = {}
        for settings in mine:
            given = dict(settings)
            said = [given[key] if key == "solver" else f"{key}={given[key]}" for key in differing if key in given]
            found[settings] = ", ".join(said) or "no such setting"
        return found

    def _alike(self) -> list[str]:
        """Name models whose names differ in case or blanks alone."""
        found: dict[str, list[str]] = {}
        for model in dict.fromkeys(name for name, _ in self._numbers):
            found.setdefault("".join(model.lower().split()), []).append(model)
        return [f"names that may be one model: {', '.join(names)}" for names in found.values() if len(names) > 1]
