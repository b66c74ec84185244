"""EXPERIMENTAL, never run on a Mac so far: a profile for `sandbox-exec` from Apple's description of the language.

Everything is denied by default; what the policy shows may be read, the workspace may be written, and there is no
network. It is for commands only. There are no namespaces: inputs stay where they are, other processes can be
seen, and nothing is counted. Jobs of the `local` executor have no sandbox on macOS, so that it refuses to run there.
"""

from __future__ import annotations

from collections.abc import Sequence

from instar.contracts.errors import BadInput
from instar.sandbox.policy import Policy

_SYSTEM = ("/usr/lib", "/usr/bin", "/bin", "/System/Library", "/Library/Apple", "/private/var/db/dyld", "/dev")


def command(arguments: Sequence[str], policy: Policy) -> list[str]:
    """Return the command that runs `arguments` under the policy. Raises `BadInput`, see `profile`."""
    return ["/usr/bin/sandbox-exec", "-p", profile(policy), *arguments]


def profile(policy: Policy) -> str:
    """Return the policy as a profile; later rules win, so that what is hidden comes last.

    Raises:
        BadInput: a path that can't be quoted.
    """
    shown = [*_SYSTEM, *policy.visible, *policy.inputs.values(), policy.workspace]
    lines = [
        "(version 1)",
        "(deny default)",
        "(deny network*)",
        "(allow process-fork)",
        "(allow process-exec)",
        "(allow signal (target same-sandbox))",
        "(allow sysctl-read)",
        '(allow file-read-metadata (subpath "/"))',
        *(f"(allow file-read* (subpath {_quoted(path)}))" for path in shown),
        f"(allow file-write* (subpath {_quoted(policy.workspace)}))",
        '(allow file-write-data (literal "/dev/null"))',
        *(f"(deny file-read* file-write* (subpath {_quoted(path)}))" for path in policy.hidden),
    ]
    return "\n".join(lines) + "\n"


def _quoted(path: str) -> str:
    if not path.isprintable():
        raise BadInput(f"the path {path!r} cannot stand in a sandbox profile", "Choose one without control characters.")
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
