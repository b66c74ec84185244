"""Builder `agent`: a coding agent's command line in the sandbox, given a brief and a work tree, returning a patch.

Read `builder` first. `options` says which command and on what terms, `brief` what the agent is told, `worktree` what it
may change and how that is read back, `calling` how it is run in the sandbox, `accounts` what it says of its own cost.
"""

from instar.builders.agent.builder import AgentBuilder, create

__all__ = ["AgentBuilder", "create"]
