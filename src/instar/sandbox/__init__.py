"""The sandbox around untrusted code: it sees what a `Policy` names, and nothing else of this machine.

Read `wall` first (what happens when), then `namespaces`, `capabilities`, `landlock` and `seccomp`, one layer each.
`cgroups` holds memory and processes of a whole room where it can. `command` runs commands, `output` opens what was
left, `probe` says what holds on this machine.
"""

from instar.sandbox.policy import ROOM, UNSAFE, Policy, visible_here
from instar.sandbox.process import Inmate, start

__all__ = ["ROOM", "UNSAFE", "Inmate", "Policy", "start", "visible_here"]
