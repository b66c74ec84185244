"""The sandbox around untrusted code: it sees what a `Policy` names, and nothing else of this machine.

Read `process` first (what happens when), then `namespaces`, `capabilities`, `landlock` and `seccomp`, one layer each.
`cgroups` holds memory and processes of a whole job where it can. `command` runs commands, `output` opens what was
left, `probe` says what holds on this machine.
"""

from instar.sandbox.policy import JOB_DIR, UNSAFE, Policy, visible_here
from instar.sandbox.process import SandboxedProcess, start

__all__ = ["JOB_DIR", "UNSAFE", "Policy", "SandboxedProcess", "start", "visible_here"]
