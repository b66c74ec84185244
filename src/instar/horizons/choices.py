"""What the reader of evaluation runs may choose: what counts as a run, and which files stand beside the runs."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path


class Unusable(enum.Enum):
    """What becomes of a run that ended in an error or has no score."""

    LEFT_OUT = "left-out"
    FAILURE = "failure"
    AS_SCORED = "as-scored"  # for errors: by its score where it has one, else left out


class Cheating(enum.Enum):
    """What a run counts as in which the model cheated."""

    FAILURE = "failure"
    DISCARDED = "discarded"
    SUCCESS = "success"


@dataclass(frozen=True)
class Choices:
    """How runs are read.

    Attributes:
        score: the column, or Inspect's scorer; by default the first of `reading.SCORES`, or the only scorer.
        lengths: a table of `task_id`, `human_minutes` and maybe `task_family`, for runs that don't say their lengths.
        release_dates: a file of release dates by model, for runs that don't say them.
        errored: what samples of a log count as that ended in an error.
        unscored: what runs without a score count as; None leaves out those of logs and refuses those of tables.
        cheated: the column, key of the metadata or scorer that marks runs in which the model cheated; None takes
            `cheated` where it is there.
        pool_solvers: take the runs of one model together, whatever solvers and settings they had.
        leave_out_bad_files: name files that cannot be read and go on, in place of stopping.
    """

    score: str | None = None
    lengths: Path | None = None
    release_dates: Path | None = None
    errored: Unusable = Unusable.AS_SCORED
    unscored: Unusable | None = None
    cheated: str | None = None
    pool_solvers: bool = False
    leave_out_bad_files: bool = False
