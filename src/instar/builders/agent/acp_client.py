"""A program inside the sandbox: talks to an agent by the Agent Client Protocol (version 1), by standard streams.

It sends what it reads from standard input as the one prompt of one session, lets the agent read and write files of the
job directory and have every permission that it asks for (the sandbox is what holds it). At the end it prints one line
of JSON.
What it prints is the agent's word like any other.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import acp
from acp import schema

_LINE_BYTES = 2**24


class AcpHost:
    """The client's side of the protocol."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.cost: schema.Cost | None = None

    async def request_permission(
        self, session_id: str, tool_call: Any, options: list[schema.PermissionOption], **_: Any
    ) -> schema.RequestPermissionResponse:
        """Allow whatever can be allowed."""
        del session_id, tool_call
        for option in options:
            if option.kind.startswith("allow"):
                allowed = schema.AllowedOutcome(option_id=option.option_id, outcome="selected")
                return schema.RequestPermissionResponse(outcome=allowed)
        return schema.RequestPermissionResponse(outcome=schema.DeniedOutcome(outcome="cancelled"))

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        """Keep what the agent says, and what it says that it costs."""
        del session_id
        if isinstance(update, schema.AgentMessageChunk) and isinstance(update.content, schema.TextContentBlock):
            self.said.append(update.content.text)
        if isinstance(update, schema.UsageUpdate) and update.cost is not None:
            self.cost = update.cost

    async def read_text_file(
        self, session_id: str, path: str, line: int | None = None, limit: int | None = None, **_: Any
    ) -> schema.ReadTextFileResponse:
        """Read a file of the job directory."""
        del session_id
        lines = Path(path).read_text().splitlines(keepends=True)
        first = max(0, (line or 1) - 1)
        wanted = lines[first:] if limit is None else lines[first : first + limit]
        return schema.ReadTextFileResponse(content="".join(wanted))

    async def write_text_file(self, session_id: str, path: str, content: str, **_: Any) -> schema.WriteTextFileResponse:
        """Write a file of the job directory."""
        del session_id
        Path(path).write_text(content)
        return schema.WriteTextFileResponse()


async def talk(command: list[str], prompt: str, directory: str) -> None:
    """Let an agent work on one prompt; print what `accounts.acp` reads, and end with all that it has started."""
    host = AcpHost()
    limits = {"limit": _LINE_BYTES}
    async with acp.spawn_agent_process(host, *command, cwd=directory, transport_kwargs=limits) as (agent, _):  # type: ignore[arg-type]
        files = schema.FileSystemCapabilities(read_text_file=True, write_text_file=True)
        await agent.initialize(acp.PROTOCOL_VERSION, client_capabilities=schema.ClientCapabilities(fs=files))
        session = await agent.new_session(cwd=directory, mcp_servers=[])
        answer = await agent.prompt(session_id=session.session_id, prompt=[acp.text_block(prompt)])
        print(json.dumps(_told(host, answer)), flush=True)  # noqa: T201
        os._exit(0)  # to wait for the agent's own end would take seconds; it ends with the sandbox


def _told(host: AcpHost, answer: schema.PromptResponse) -> dict[str, Any]:
    usage, cost = answer.usage, host.cost
    return {
        "type": "acp",
        "said": "".join(host.said),
        "fault": "" if answer.stop_reason == "end_turn" else f"it ended with {answer.stop_reason}",
        "tokens_in": usage.input_tokens if usage else None,
        "tokens_out": usage.output_tokens if usage else None,
        "usd": cost.amount if cost is not None and cost.currency == "USD" else None,
    }


if __name__ == "__main__":
    asyncio.run(talk(sys.argv[1:], sys.stdin.read(), str(Path.cwd())))
