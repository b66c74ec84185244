"""A lab made of somebody's own repository: a command that trains, one that evaluates, and the files that may change.

Read `manifest` first (what `lab.toml` says), then `task` (the lab), `work` (what runs in the sandbox), `exam` and
`reading` (how a number comes about), `snapshot` and `knobs`.
"""

from instar.labs.command.manifest import MANIFEST, directory_of, is_lab
from instar.labs.command.task import CommandLab, open_lab

__all__ = ["MANIFEST", "CommandLab", "directory_of", "is_lab", "open_lab"]
