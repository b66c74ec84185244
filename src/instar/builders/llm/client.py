"""Asks an OpenAI-compatible server, within bounds of time, bytes and money; every attempt is paid for beforehand.

What an attempt may cost at worst is set aside before it is made: as many tokens as the request has bytes (a tokenizer
on bytes makes no more) and `max_tokens`, at the prices. A reply's usage settles it. Where nothing was generated (a 4xx
answer, a refused connection) it costs nothing; in every other case without a usage it is charged at the worst.
"""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from instar.builders.llm.options import LlmOptions
from instar.builders.spend_cap import SpendCap
from instar.contracts.errors import MissingPart
from instar.contracts.records import Spend
from instar.contracts.text import printable

Message = Mapping[str, str]

_TEMPLATE_TOKENS = 64  # of a message, for what a server wraps it in
_LONGEST_WAIT = 60.0  # seconds; where a server asks for more, the attempt is given up
_FIRST_WAIT = 0.5
_ERROR_BYTES = 2**14
_SHOWN = 200


class CallError(Exception):
    """A request that brought no usable reply; the message is one clean line.

    Args:
        reason: what went wrong.
        again: whether another attempt may do better.
        after: seconds that the server asks to wait before it.
        free: whether nothing can have been generated.
        status: of the HTTP answer; 0 without one.
    """

    def __init__(
        self, reason: str, *, again: bool = False, after: float | None = None, free: bool = False, status: int = 0
    ) -> None:
        super().__init__(reason)
        self.again, self.after, self.free, self.status = again, after, free, status


class TooDear(CallError):
    """A request that was not made, because its worst case does not fit into what is left."""


class Closed(CallError):
    """A request that was given up because the builder is closed."""


@dataclass
class Bill:
    """What one thought has cost so far, over all its attempts."""

    usd: float = 0.0
    tokens: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def spend(self) -> Spend:
        """The bill as a record."""
        return Spend(self.usd, self.tokens, time.monotonic() - self.began)


class Client:
    """The way to one server.

    Args:
        options: server, model, bounds and prices.
        spend_cap: where the money comes from.
    """

    def __init__(self, options: LlmOptions, spend_cap: SpendCap) -> None:
        try:
            import openai
        except ModuleNotFoundError:
            raise MissingPart("builder 'llm' needs the package 'openai'", "pip install 'instar[llm]'") from None
        self._openai, self._options, self._spend_cap = openai, options, spend_cap
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._lines: set[_Line] = set()  # in use
        self._mine = threading.local()  # its `line`: of the request that this thread makes
        self._made: Any = None
        self._structured = True  # whether the server takes response_format, as far as is known
        self._length = "max_tokens"  # what it calls the answer's length
        self._over_in = self._over_out = 1.0  # by how much it once exceeded the estimate

    def worst(self, body: Mapping[str, Any]) -> tuple[int, float]:
        """Return the most tokens that a request may read and write, and what they would cost in USD."""
        read = math.ceil(self._over_in * _size(body))
        written = math.ceil(self._over_out * self._options.max_tokens)
        return read + written, self._options.usd(read, written)

    def price(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> float:
        """Return the worst cost of asking this once, in USD."""
        return self.worst(self._body(messages, schema))[1]

    def ask(self, messages: Sequence[Message], schema: Mapping[str, Any], bill: Bill) -> str:
        """Return the text of the answer; `bill` grows by what it cost.

        Raises:
            CallError: after all retries; `TooDear` where the money for an attempt is missing.
        """
        for attempt in range(self._options.retries + 1):
            try:
                return self._ask_in_a_form_it_takes(messages, schema, bill)
            except CallError as error:
                wait = _FIRST_WAIT * 2**attempt if error.after is None else error.after
                if not error.again or attempt == self._options.retries or wait > _LONGEST_WAIT:
                    raise
                if self._closed.wait(wait):
                    raise Closed("the run ended") from None
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End every request under way. Safe to call twice."""
        self._closed.set()
        with self._lock:
            lines, made = list(self._lines), self._made
        for line in lines:
            line.hang_up()
        if made is not None:
            made.close()

    # --- one attempt ------------------------------------------------------------------------------------------------

    def _body(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._options.model, "messages": list(messages)}
        body[self._length] = self._options.max_tokens
        if self._options.temperature is not None:
            body["temperature"] = self._options.temperature
        if self._structured:
            wanted = {"name": "proposal", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        return body

    def _ask_in_a_form_it_takes(self, messages: Sequence[Message], schema: Mapping[str, Any], bill: Bill) -> str:
        """Ask once; a server that does not know an option of the request is asked again without it, at once."""
        structured = self._structured
        while True:
            body = self._body(messages, schema)
            try:
                return self._paid(body, bill)
            except CallError as error:
                if error.status not in (400, 422) or not self._plainer(body, str(error)):
                    self._structured = self._structured if error.status not in (400, 422) else structured
                    raise

    def _plainer(self, body: Mapping[str, Any], said: str) -> bool:
        """Note what the server does not take; return whether there is another form to try."""
        if "max_tokens" in body and "max_completion_tokens" in said:
            self._length = "max_completion_tokens"  # newer OpenAI models refuse the old name
            return True
        if "response_format" in body:
            self._structured = False
            return True
        return False

    def _paid(self, body: Mapping[str, Any], bill: Bill) -> str:
        """Set the worst case aside, ask, settle."""
        tokens, usd = self.worst(body)
        key = self._spend_cap.reserve(usd, tokens)
        if key is None:
            left = self._spend_cap.left or 0.0
            raise TooDear(f"the next call could cost {usd:.4g} USD, and {left:.4g} USD is left")
        try:
            reply = _parsed(self._post(body), self._options.key)
            counted = _usage(reply)
            if counted is not None:
                self._learn(body, *counted)
                tokens, usd = sum(counted), self._options.usd(*counted)
        except CallError as error:
            if error.free:
                tokens, usd = 0, 0.0
            raise
        finally:
            self._spend_cap.settle(key, usd, tokens)
            bill.usd, bill.tokens = bill.usd + usd, bill.tokens + tokens
        return _text(reply, self._options.key)

    def _learn(self, body: Mapping[str, Any], read: int, written: int) -> None:
        """Raise the estimate where the server counted more than it: the next call's worst case is to be one."""
        self._over_in = max(self._over_in, read / _size(body))
        self._over_out = max(self._over_out, written / self._options.max_tokens)

    def _post(self, body: Mapping[str, Any]) -> bytes:
        """Send one request; return the bytes of its reply, at most so many and within the time."""
        headers = {"Accept-Encoding": "identity", "Connection": "close"}  # a new connection each, so that it is known
        broke: Exception | None = None
        with self._dialling() as line:
            create = self._server().chat.completions.with_streaming_response.create
            try:
                with create(**body, extra_headers=headers) as reply:
                    content = _read(reply.http_response.iter_raw(), self._options.max_reply_bytes, line.ends)
            except CallError:
                raise
            except Exception as error:  # whatever a library makes of a hostile reply costs one attempt
                broke = error
        if self._closed.is_set():
            raise Closed("the run ended")
        if time.monotonic() >= line.ends:
            raise CallError(f"no whole reply within {self._options.timeout:g} s", again=True)
        if broke is not None:
            raise _broken(broke)
        return content

    @contextmanager
    def _dialling(self) -> Iterator[_Line]:
        """Give this thread a line, which is hung up when its time is over or the builder is closed."""
        line = _Line(time.monotonic() + self._options.timeout)
        alarm = threading.Timer(self._options.timeout, line.hang_up)
        alarm.daemon = True
        with self._lock:
            if self._closed.is_set():
                raise Closed("the run ended", free=True)
            self._lines.add(line)
        self._mine.line = line
        alarm.start()
        try:
            yield line
        finally:
            alarm.cancel()
            with self._lock:
                self._lines.discard(line)

    def _server(self) -> Any:
        """Return the way to the server, made when it is first wanted (loading certificates takes its time)."""
        with self._lock:
            if self._made is None:
                hooks: dict[str, Any] = {"request": [self._dialled], "response": [self._answered]}
                http = self._openai.DefaultHttpxClient(event_hooks=hooks, follow_redirects=False)
                self._made = self._openai.OpenAI(
                    api_key=self._options.key, base_url=self._options.base_url, max_retries=0,
                    timeout=self._options.timeout + 1.0, http_client=http,
                )  # fmt: skip
            return self._made

    def _dialled(self, request: Any) -> None:
        request.extensions["trace"] = self._mine.line.trace

    def _answered(self, response: Any) -> None:
        """Raise for any status but 200, with the beginning of what the server says."""
        if response.status_code != 200:
            said = _read(response.iter_raw(), _ERROR_BYTES, self._mine.line.ends, cut=True)
            after = response.headers.get("retry-after")
            raise _status_error(response.status_code, after, said, self._options.key)
        if response.headers.get("content-encoding", "identity") != "identity":
            raise CallError("the reply is compressed, which was not asked for")


class _Line:
    """The socket of one request: hanging up wakes whoever reads from it, which closing it would not.

    Args:
        ends: when its time is over (monotonic seconds).
    """

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self._socket: Any = None
        self._over = False

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Take the newest socket, as httpx tells of it (its documented `trace` extension)."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self._over:
                self.hang_up()

    def hang_up(self) -> None:
        """End the connection. Safe from any thread."""
        self._over = True
        if self._socket is not None:
            with suppress(OSError):
                # Not the method of a TLS socket, which would take the session from under its reader.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _size(body: Mapping[str, Any]) -> int:
    """Return as many tokens as a request can have at most: its bytes, and what a server wraps each message in."""
    said = json.dumps([body["messages"], body.get("response_format")], ensure_ascii=False)
    return len(said.encode("utf-8", "surrogatepass")) + _TEMPLATE_TOKENS * len(body["messages"])


def clean(text: str, key: str, most: int = _SHOWN) -> str:
    """Return text of others as one printable line without the key."""
    if key and len(key) >= 8:
        text = text.replace(key, "[key]")
    return printable(text, most)


def _read(chunks: Iterable[bytes], most: int, ends: float, cut: bool = False) -> bytes:
    """Return the bytes of a reply, as far as they come in time. Raises `CallError` where they are too many."""
    got = bytearray()
    for chunk in chunks:
        got += chunk
        if len(got) > most:
            if cut:
                return bytes(got[:most])
            raise CallError(f"the reply is longer than {most} bytes")
        if time.monotonic() > ends:
            break
    return bytes(got)


def _status_error(status: int, after: str | None, said: bytes, key: str) -> CallError:
    """Return what an HTTP answer other than 200 means."""
    try:
        wait = max(0.0, float(after)) if after is not None else None
    except ValueError:
        wait = None  # a date: the usual wait will do
    text = said.decode("utf-8", "replace")
    try:
        message = json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        message = text
    words = f"HTTP {status}: {clean(str(message), key)}" if str(message).strip() else f"HTTP {status}"
    again = status in (408, 409, 429) or status >= 500
    return CallError(words, again=again, after=wait, free=400 <= status < 500, status=status)


def _broken(error: Exception) -> CallError:
    """Return what a broken connection means; where none came about, nothing was generated."""
    cause = type(error.__cause__ or error).__name__
    never = cause in ("ConnectError", "ConnectTimeout", "UnsupportedProtocol", "ProxyError")
    what = "the server cannot be reached" if never else "the connection broke off"
    return CallError(f"{what} ({cause})", again=True, free=never)


def _parsed(content: bytes, key: str) -> Mapping[str, Any]:
    try:
        reply = json.loads(content)
    except (ValueError, RecursionError):
        start = clean(content[:80].decode("utf-8", "replace"), key, 60)
        raise CallError(f"the reply is not JSON: '{start}'") from None
    if not isinstance(reply, dict):
        raise CallError("the reply is not a JSON object")
    return reply


def _usage(reply: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the tokens read and written as the server counts them, or None where it does not say so properly."""
    usage = reply.get("usage")
    if not isinstance(usage, dict):
        return None
    counted = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    if any(isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 10**9 for count in counted):
        return None
    return counted  # type: ignore[return-value]


def _text(reply: Mapping[str, Any], key: str) -> str:
    """Return the answer's text. Raises `CallError` where there is none, or not all of it."""
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise CallError("the reply has no choices[0].message.content") from None
    if not isinstance(text, str) or not text.strip():
        raise CallError("the answer is empty")
    if choice.get("finish_reason") == "length":
        raise CallError("the answer was cut off at max_tokens")
    return text.replace(key, "[key]") if len(key) >= 8 else text
