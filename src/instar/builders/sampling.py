"""Optuna's samplers behind one function: from what was tried, and what is under way, to what to try next.

Every call sets up a study of its own from the rows that it is given, so that the answer depends on them and on the
seed alone: nothing has to be kept in step, and a restart changes nothing. Pending designs stand in the study as
running trials, which the samplers take into account (TPE by its constant liar, the Gaussian process by the joint
expected improvement of the batch). CMA-ES keeps its distribution in notes on the trials that it was asked for; they
are opaque here, and are handed back with the rows.

As a program (`python -m instar.builders.sampling`) it answers requests in JSON, one a line: a sampler that needs
torch must not run in the conductor. Optuna is imported where it is needed: it takes 0.4 s.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from instar.contracts.records import Floats
from instar.contracts.space import Choice, Integer, Parameters, Real, Space, Value

SAMPLERS = ("tpe", "gp", "cma")

STARTUP = 10
"""Finished designs before TPE and the Gaussian process have an opinion (Optuna's default); CMA-ES needs one."""

ATTEMPTS = 8
"""How often a sampler is asked again that repeats what is under way."""

Notes = Mapping[str, Any]


@dataclass(frozen=True)
class DesignRow:
    """A design, what it was worth (None while it is under way), and the sampler's own notes on it."""

    parameters: Parameters
    worth: float | None
    notes: Notes = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """All that a sampler is told.

    Attributes:
        rows: finished designs in the order in which they ended, then those under way.
        founders: finished designs that CMA-ES may take its first distribution from (Nomura et al. 2021,
            "Warm starting CMA-ES", arXiv:2012.06932); none where it should begin in the middle.
        count: how many designs are wanted.
    """

    sampler: str
    space: Space
    rows: Sequence[DesignRow]
    founders: Sequence[DesignRow]
    count: int
    seed: int


@dataclass(frozen=True)
class Gaussian:
    """Where CMA-ES samples numbers, in the unit cube: mean (D,) and covariance (D, D) over the axes by name."""

    axes: tuple[str, ...]
    mean: Floats
    covariance: Floats


def suggest(request: Request) -> list[DesignRow]:
    """Return `count` designs with the sampler's notes; none is under way already unless the space is used up."""
    optuna = _quiet_optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's remarks on experimental arguments
        study = _study(optuna, request)
        distributions = {name: _distribution(optuna, allowed) for name, allowed in request.space.ranges.items()}
        taken = {_key(row.parameters, request.space) for row in request.rows if row.worth is None}
        rng, found = np.random.default_rng(request.seed), []
        for _ in range(request.count):
            row = _fresh(optuna, study, distributions, request.space, taken)
            if row is None:
                row = DesignRow(_sample(request.space, taken, rng), None)
            taken.add(_key(row.parameters, request.space))
            found.append(row)
    return found


def gaussian(request: Request) -> Gaussian | None:
    """Return the distribution that CMA-ES has come to; None before its first generation is complete."""
    optuna = _quiet_optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = _study(optuna, request)
        finished = [trial for trial in study.trials if trial.value is not None]
        state = study.sampler._restore_optimizer(finished)  # Optuna 5 offers no public way; a test holds it
    if state is None:
        return None
    axes = tuple(sorted(name for name, allowed in request.space.ranges.items() if not isinstance(allowed, Choice)))
    return Gaussian(axes, np.asarray(state.mean), np.asarray(state._sigma**2 * state._C))


def _quiet_optuna() -> ModuleType:
    import optuna  # here, for only who searches should wait for it

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    module: ModuleType = optuna
    return module


def _study(optuna: ModuleType, request: Request) -> Any:
    """Set up a study that knows all rows."""
    ranges, states = request.space.ranges, optuna.trial.TrialState
    distributions = {name: _distribution(optuna, allowed) for name, allowed in ranges.items()}
    numbers = [name for name, allowed in ranges.items() if not isinstance(allowed, Choice)]

    def trial(row: DesignRow, names: Sequence[str]) -> Any:
        return optuna.trial.create_trial(
            state=states.RUNNING if row.worth is None else states.COMPLETE,
            value=row.worth,
            params={name: row.parameters[name] for name in names},
            distributions={name: distributions[name] for name in names},
            system_attrs=dict(row.notes),
        )

    sampler = _sampler(optuna, request, [trial(row, numbers) for row in request.founders])
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials([trial(row, list(ranges)) for row in request.rows])
    return study


def _sampler(optuna: ModuleType, request: Request, founders: Sequence[Any]) -> Any:
    samplers, seed = optuna.samplers, request.seed
    tpe = samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
    if request.sampler == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=STARTUP, warn_independent_sampling=False)
    if request.sampler == "cma":  # it knows no choices without an order: TPE makes those
        return samplers.CmaEsSampler(
            seed=seed, independent_sampler=tpe, warn_independent_sampling=False, source_trials=founders or None
        )
    return tpe


def _distribution(optuna: ModuleType, allowed: Real | Integer | Choice) -> Any:
    kinds = optuna.distributions
    if isinstance(allowed, Choice):
        return kinds.CategoricalDistribution(allowed.options)
    kind = kinds.FloatDistribution if isinstance(allowed, Real) else kinds.IntDistribution
    return kind(allowed.low, allowed.high, log=allowed.log)


def _fresh(optuna: ModuleType, study: Any, distributions: Any, space: Space, taken: set[Any]) -> DesignRow | None:
    """Ask until the design is not under way; a repeated one is told as failed, so that it counts for nothing."""
    for _ in range(ATTEMPTS):
        trial = study.ask(distributions)
        parameters = {name: trial.params[name] for name in space.ranges}
        if _key(parameters, space) not in taken:
            return DesignRow(parameters, None, dict(study.trials[-1].system_attrs))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return None


def _sample(space: Space, taken: set[Any], rng: np.random.Generator) -> dict[str, Value]:
    """Return a uniform sample that isn't under way; in a small space that is used up, the last one drawn."""
    for _ in range(100):
        parameters = space.sample(rng)
        if _key(parameters, space) not in taken:
            break
    return dict(parameters)


def _key(parameters: Parameters, space: Space) -> tuple[Value, ...]:
    return tuple(parameters[name] for name in space.ranges)


# --- as a program of its own ----------------------------------------------------------------------------------------

_KINDS: Mapping[str, type[Real] | type[Integer] | type[Choice]] = {"Real": Real, "Integer": Integer, "Choice": Choice}


def to_json(request: Request) -> str:
    """Return a request as one line."""
    plain = asdict(request)
    plain["space"] = [[name, type(one).__name__, asdict(one)] for name, one in request.space.ranges.items()]
    return json.dumps(plain)


def from_json(line: str) -> Request:
    """Return the request that `to_json` wrote."""
    plain = json.loads(line)
    ranges = {name: _KINDS[kind](**given) for name, kind, given in plain["space"]}
    for name, one in ranges.items():
        if isinstance(one, Choice):
            ranges[name] = Choice(tuple(one.options))
    rows = {key: [DesignRow(**row) for row in plain[key]] for key in ("rows", "founders")}
    return Request(**{**plain, "space": Space(ranges), **rows})


def main() -> int:
    """Answer requests until standard input ends."""
    for line in sys.stdin:
        answer = [asdict(row) for row in suggest(from_json(line))]
        print(json.dumps(answer), flush=True)  # noqa: T201 (the answer's way back)
    return 0


if __name__ == "__main__":
    sys.exit(main())
