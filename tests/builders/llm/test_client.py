"""Every way in which a server can go wrong costs one request: bounded in time, bytes and money, told in one line."""

from __future__ import annotations

import gzip
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from instar.builders.llm.client import Bill, CallError, Client, Closed, TooDear
from instar.builders.llm.options import LlmOptions
from instar.builders.spend_cap import SpendCap, paid
from instar.contracts.records import Spend
from instar.testing import standin
from instar.testing.standin import Behaviour, StandIn, status

pytest.importorskip("openai")

KEY = "sk-a-secret-of-mine"
SCHEMA = {"type": "object", "properties": {"a": {"type": "number"}}}
MESSAGES = [{"role": "user", "content": "Propose something: größer."}]


def client(server: StandIn, place: Path, cap: float | None = None, **given: Any) -> Client:
    options = {"timeout": 5.0, "retries": 0, "price_in": 1.0, "price_out": 2.0, "max_tokens": 100} | given
    return Client(LlmOptions("m", server.url, KEY, **options), SpendCap(place / "spend_cap.jsonl", "llm", cap))


def test_a_reply_is_charged_as_the_server_counts(tmp_path: Path) -> None:
    with StandIn() as server:
        bill = Bill()
        text = client(server, tmp_path).ask(MESSAGES, SCHEMA, bill)
    assert "a" in json.loads(text)
    assert bill.usd == pytest.approx(server.usd(1.0, 2.0))
    assert bill.tokens == server.read_tokens + server.written_tokens
    assert paid(tmp_path / "spend_cap.jsonl")["llm"].usd == pytest.approx(bill.usd)
    request = server.requests[0]
    assert (request["model"], request["max_tokens"]) == ("m", 100)
    assert request["response_format"]["json_schema"]["schema"] == SCHEMA
    assert "temperature" not in request
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


FAULTS: list[tuple[Behaviour, str, str]] = [
    (standin.garbage, "the reply is not JSON: '", "worst"),
    (standin.truncated, "the reply is not JSON: '", "worst"),
    (standin.raw(b"[1]"), "not a JSON object", "worst"),
    (standin.raw(b"[" * 100_000), "the reply is not JSON", "worst"),
    (standin.raw(b'{"choices": []}'), "no choices", "worst"),
    (standin.saying(" "), "the answer is empty", "usage"),
    (standin.cut_off, "cut off at max_tokens", "usage"),
    (standin.endless, "the reply is longer than 2097152 bytes", "worst"),
    (standin.trickle, "no whole reply within 0.4 s", "worst"),
    (standin.endless_head, "no whole reply within 0.4 s", "worst"),
    (standin.slow(9.0), "no whole reply within 0.4 s", "worst"),
    (standin.reset, "the connection broke off", "worst"),
    (standin.raw(gzip.compress(b" " * 10**6), {"Content-Encoding": "gzip"}), "compressed", "worst"),
    (status(401, f"Incorrect key {KEY}\x1b[31m\nprovided"), "HTTP 401: Incorrect key [key]?[31m provided", "nothing"),
    (status(404, "no such model"), "HTTP 404: no such model", "nothing"),
    (status(429, "slow down"), "HTTP 429: slow down", "nothing"),
    (status(500, "x" * 10**6), "HTTP 500: ", "worst"),
    (standin.raw(b"", {"Location": "http://127.0.0.1:1/"}), "the reply is not JSON", "worst"),
]


@pytest.mark.parametrize(("behaviour", "words", "charge"), FAULTS, ids=[f"{number}" for number in range(len(FAULTS))])
def test_a_fault_is_one_line_and_paid_for(tmp_path: Path, behaviour: Behaviour, words: str, charge: str) -> None:
    with StandIn(then=behaviour) as server:
        asking, bill = client(server, tmp_path, timeout=0.4 if "0.4 s" in words else 10.0), Bill()
        worst = asking.price(MESSAGES, SCHEMA)
        began = time.monotonic()
        with pytest.raises(CallError) as caught:
            asking.ask(MESSAGES, SCHEMA, bill)
        assert time.monotonic() - began < 3.0
        said = str(caught.value)
        assert words in said
        assert said.isprintable()
        assert len(said) < 300
        assert KEY not in said
        assert server.usd(1.0, 2.0) <= worst
        expected = {"worst": worst, "nothing": 0.0, "usage": server.usd(1.0, 2.0)}[charge]
        assert bill.usd == pytest.approx(expected)
        assert paid(tmp_path / "spend_cap.jsonl")["llm"].usd == pytest.approx(expected)


def test_a_usage_that_makes_no_sense_is_none(tmp_path: Path) -> None:
    for usage in ({"prompt_tokens": -1, "completion_tokens": 1}, {"prompt_tokens": "1", "completion_tokens": 1}, [], 7):
        reply = {"choices": [{"message": {"content": "{}"}}], "usage": usage}
        with StandIn(then=standin.raw(json.dumps(reply).encode())) as server:
            bill = Bill()
            asking = client(server, tmp_path)
            asking.ask(MESSAGES, SCHEMA, bill)
            assert bill.usd == pytest.approx(asking.price(MESSAGES, SCHEMA))


def test_a_server_that_counts_more_than_the_worst_case_is_taken_at_its_word_next_time(tmp_path: Path) -> None:
    reply = {"choices": [{"message": {"content": "{}"}}], "usage": {"prompt_tokens": 10**5, "completion_tokens": 400}}
    with StandIn(then=standin.raw(json.dumps(reply).encode())) as server:
        asking, bill = client(server, tmp_path), Bill()
        asking.ask(MESSAGES, SCHEMA, bill)
        assert bill.usd == pytest.approx((10**5 + 2 * 400) / 1e6)
        assert asking.price(MESSAGES, SCHEMA) >= 0.999 * bill.usd


def test_what_may_pass_is_tried_again_after_the_time_that_the_server_asks_for(tmp_path: Path) -> None:
    with StandIn([status(429, retry_after="0.2"), status(503, retry_after="0"), standin.reset]) as server:
        began = time.monotonic()
        asking = client(server, tmp_path, retries=3)
        text = asking.ask(MESSAGES, SCHEMA, Bill())
        assert json.loads(text)
        assert time.monotonic() - began > 0.2
        assert len(server.requests) == 4


@pytest.mark.parametrize("behaviour", [status(401), status(429, retry_after="3600"), standin.garbage])
def test_what_will_not_pass_is_not_tried_again(tmp_path: Path, behaviour: Behaviour) -> None:
    with StandIn(then=behaviour) as server:
        with pytest.raises(CallError):
            client(server, tmp_path, retries=5).ask(MESSAGES, SCHEMA, Bill())
        assert len(server.requests) == 1


def test_a_dead_server_costs_nothing(tmp_path: Path) -> None:
    server, bill = StandIn(), Bill()
    with server:
        pass
    with pytest.raises(CallError, match="the server cannot be reached"):
        client(server, tmp_path).ask(MESSAGES, SCHEMA, bill)
    assert bill.usd == 0.0


def test_a_server_without_schemas_is_asked_without(tmp_path: Path) -> None:
    with StandIn(takes_schema=False) as server:
        asking = client(server, tmp_path)
        for _ in range(2):
            asking.ask(MESSAGES, SCHEMA, Bill())
        assert ["response_format" in request for request in server.requests] == [False, False]


def test_a_server_that_wants_the_other_name_for_the_length_gets_it(tmp_path: Path) -> None:
    with StandIn([status(400, "Unsupported parameter: use 'max_completion_tokens'.")]) as server:
        client(server, tmp_path, temperature=0.5).ask(MESSAGES, SCHEMA, Bill())
        asked = server.requests[1]
        assert asked["max_completion_tokens"] == 100
        assert "max_tokens" not in asked
        assert asked["temperature"] == 0.5
        assert "response_format" in asked


def test_a_request_that_is_refused_in_every_form_fails_and_the_schema_is_tried_again(tmp_path: Path) -> None:
    with StandIn([status(400, "too long"), status(400, "too long")]) as server:
        asking = client(server, tmp_path)
        with pytest.raises(CallError, match="HTTP 400: too long"):
            asking.ask(MESSAGES, SCHEMA, Bill())
        asking.ask(MESSAGES, SCHEMA, Bill())
        assert "response_format" in server.requests[2]


def test_no_call_is_made_whose_worst_case_does_not_fit(tmp_path: Path) -> None:
    with StandIn() as server:
        worst = client(server, tmp_path).price(MESSAGES, SCHEMA)
        asking, calls = client(server, tmp_path / "capped", cap=3.5 * worst), 0
        while (
            asking.price(MESSAGES, SCHEMA)
            <= 3.5 * worst - paid(tmp_path / "capped" / "spend_cap.jsonl").get("llm", Spend()).usd
        ):
            asking.ask(MESSAGES, SCHEMA, Bill())
            calls += 1
        with pytest.raises(TooDear, match="USD is left"):
            asking.ask(MESSAGES, SCHEMA, Bill())
        assert calls == len(server.requests) > 3  # a call costs less than its worst case
        assert server.usd(1.0, 2.0) <= 3.5 * worst
        assert server.usd(1.0, 2.0) + worst > 3.5 * worst, "nor was money left lying about"


def test_closing_ends_a_request_at_once(tmp_path: Path) -> None:
    caught: list[Exception] = []
    with StandIn(then=standin.slow(60.0)) as server:
        asking = client(server, tmp_path, timeout=60.0, retries=5)

        def ask() -> None:
            try:
                asking.ask(MESSAGES, SCHEMA, Bill())
            except CallError as error:
                caught.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while not server.requests:
            time.sleep(0.005)
        began = time.monotonic()
        asking.close()
        thread.join()
        assert time.monotonic() - began < 2.0
    assert isinstance(caught[0], Closed)
    with pytest.raises(Closed):
        asking.ask(MESSAGES, SCHEMA, Bill())
