"""What `[builders.llm]` in instar.toml may say, checked before the run begins."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from instar.contracts.builder import BuilderContext
from instar.contracts.errors import BadInput

OPENAI = "https://api.openai.com/v1"
_USUAL_KEY = "OPENAI_API_KEY"
_NO_KEY = "none"  # what a server is told that asks for none


@dataclass(frozen=True)
class LlmOptions:
    """The builder's settings.

    Attributes:
        model: as the server calls it.
        base_url: of any OpenAI-compatible server, up to `/v1`.
        key: the server's key, read from the environment; it stands in no record, log, prompt or error.
        timeout: wall seconds for one request, its answer included.
        retries: further attempts after a failure that may pass (429, 5xx, a broken connection).
        temperature: None leaves it to the server.
        price_in, price_out: USD per million tokens read and written; None is unknown.
        max_tokens: most tokens of one answer.
        ahead: how many requests may be in flight.
        failures: so many in a row, and the embedded builder takes over for a while.
        pause: wall seconds of the first such while; it doubles from one to the next, up to an hour.
        prompt: version of the prompt, a file in `builders/prompts`.
        max_file_bytes: most bytes of an edited file.
        max_reply_bytes: most bytes that are read of one reply.
    """

    model: str
    base_url: str = OPENAI
    key: str = field(default=_NO_KEY, repr=False)
    timeout: float = 120.0
    retries: int = 2
    temperature: float | None = None
    price_in: float | None = None
    price_out: float | None = None
    max_tokens: int = 4096
    ahead: int = 2
    failures: int = 3
    pause: float = 30.0
    prompt: str = "llm-v1"
    max_file_bytes: int = 2**16
    max_reply_bytes: int = 2**21

    def usd(self, read: int, written: int) -> float:
        """Return what so many tokens cost; nothing is known to cost nothing."""
        return (read * (self.price_in or 0.0) + written * (self.price_out or 0.0)) / 1e6


_BOUNDS: Mapping[str, tuple[float, float]] = {
    "timeout": (0.05, 3600.0),
    "retries": (0, 10),
    "temperature": (0.0, 2.0),
    "price_in": (0.0, 1e6),
    "price_out": (0.0, 1e6),
    "max_tokens": (16, 2**20),
    "ahead": (1, 64),
    "failures": (1, 1000),
    "pause": (0.01, 3600.0),
    "max_file_bytes": (1, 2**22),
    "max_reply_bytes": (2**10, 2**28),
}
_WHOLE = ("retries", "max_tokens", "ahead", "failures", "max_file_bytes", "max_reply_bytes")


def read_options(context: BuilderContext, environment: Mapping[str, str] = os.environ) -> LlmOptions:
    """Return the settings that the builder context gives.

    Raises:
        BadInput: an option is unknown or out of range, the model or the key is missing, or a cap on money could not
            be held because a price is unknown.
    """
    given: dict[str, Any] = dict(context.options)
    if len(context.arguments) > 1:
        raise BadInput(f"builder 'llm' takes one model, not {', '.join(context.arguments)}", "Write llm:MODEL.")
    given |= {"model": context.arguments[0]} if context.arguments else {}
    variable = given.pop("api_key_env", None)
    known = [entry.name for entry in fields(LlmOptions) if entry.name != "key"]
    for name, value in given.items():
        if name not in known:
            raise BadInput(f"builders.llm: unknown option '{name}'", f"Known: {', '.join([*known, 'api_key_env'])}.")
        _check(name, value)
    if not given.get("model"):
        raise BadInput("builder 'llm' needs a model", "Write --builder llm:MODEL, or model under [builders.llm].")
    options = LlmOptions(**given, key=_key(variable, given.get("base_url", OPENAI), environment))
    missing = [name for name in ("price_in", "price_out") if getattr(options, name) is None]
    if context.max_cost is not None and missing:
        raise BadInput(
            f"builders.llm: {' and '.join(missing)} unknown, so a cap of {context.max_cost:g} USD could not be held",
            "Give the prices in USD per million tokens under [builders.llm] (0 where it costs nothing).",
        )
    return options


def _check(name: str, value: object) -> None:
    """Raise `BadInput` unless an option has its type and lies in its range."""
    if name not in _BOUNDS:
        if not (isinstance(value, str) and value.isprintable() and value.strip() == value):
            raise BadInput(f"builders.llm: {name} must be text, not {value!r}", "Put it into quotes.")
        if name == "base_url" and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise BadInput(f"builders.llm: base_url '{value}' is no address", "Such as http://127.0.0.1:8080/v1.")
        return
    low, high = _BOUNDS[name]
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (number and low <= value <= high and (name not in _WHOLE or value == int(value))):  # type: ignore[operator, call-overload]
        kind = "a whole number" if name in _WHOLE else "a number"
        raise BadInput(f"builders.llm: {name} must be {kind} from {low:g} to {high:g}, not {value!r}", "Mend it.")


def _key(variable: object, base_url: str, environment: Mapping[str, str]) -> str:
    """Return the key from the named variable; a server other than OpenAI's is told none that it was not meant for."""
    if variable is None:
        if base_url != OPENAI:
            return _NO_KEY
        variable = _USUAL_KEY
    if not isinstance(variable, str):
        raise BadInput("builders.llm: api_key_env must be the name of a variable", "Put it into quotes.")
    if not variable.isidentifier():  # perhaps the key itself: it is not repeated here
        raise BadInput("builders.llm: api_key_env is no name of a variable", "Name one; never write the key itself.")
    key = environment.get(variable, "")
    if not key.strip():
        raise BadInput(f"builder 'llm' needs a key in the variable {variable}", f"export {variable}=...")
    return key.strip()
