"""Faults to order: their grammar, their dice, and what a client sees of them."""

import asyncio
import json
import logging
from collections import Counter

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.sandbox.faults import Faults, parse_fault, parse_faults, parse_script
from ingestd.sandbox.item_faults import MAX_PARTIAL
from tests.each import each
from tests.integration.sandbox.conftest import INGEST, HandClock, Start, batch

GOOD, OTHER = b'{"id":"g"}', b'{"id":"h"}'


@each(
    ("text", "expected"),
    [
        ("429:0.05", ("429", 0.05, 429, "1", 0.0)),
        ("503:1", ("503", 1.0, 503, "1", 0.0)),
        ("500:0", ("500", 0.0, 500, None, 0.0)),
        ("429:0.05:-1", ("429", 0.05, 429, "-1", 0.0)),
        ("503:.5:Wed, 21 Oct 2026 07:28:00 GMT", ("503", 0.5, 503, "Wed, 21 Oct 2026 07:28:00 GMT", 0.0)),
        ("429:0.05:", ("429", 0.05, 429, "", 0.0)),
        ("token-503:0.5:7", ("token-503", 0.5, 503, "7", 0.0)),
        ("token-throttle:1", ("token-throttle", 1.0, 0, None, 0.0)),
        ("slow:0.1:20ms", ("slow", 0.1, 0, None, 0.02)),
        ("cut-before:0.1", ("cut-before", 0.1, 0, None, 0.0)),
    ],
)
def test_grammar(text: str, expected: tuple[object, ...]) -> None:
    assert tuple(parse_fault(text)) == expected


@each(
    "text",
    [
        "",
        "429",
        "429:",
        "429:2",
        "429:-0.1",
        "429:nan",
        "429:1_0",
        "200:0.1",
        "600:0.1",
        "cut:0.1:3",
        "boom:0.1",
        "slow:0.1:x",
        "slow:0.1:2h",
        "429:0.1:a\r\nX: y",
        "429:0.1:" + "1" * 300,
        "\u0664\u0662\u0669:0.1",
        "429:\u0660",
    ],
)
def test_what_is_not_a_fault_is_said_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"429|expected|duration|hour|printable|nothing else") as caught:
        parse_fault(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_a_fault_or_a_value_error(text: str) -> None:
    try:
        fault = parse_fault(text)
    except ValueError:
        return
    assert 0 <= fault.rate <= 1


def test_rates_add_up_to_one_at_most_for_each_endpoint() -> None:
    assert len(parse_faults(["429:0.5", "503:0.5", "token-503:1"])) == 3
    with pytest.raises(ValueError, match=r"add up to 1\.1"):
        parse_faults(["429:0.5", "503:0.6"])
    with pytest.raises(ValueError, match="more than 100"):
        parse_faults(["429:0"] * 101)


def throw(seed: int, texts: list[str], count: int, *, logins: int = 0) -> list[str]:
    faults = Faults(parse_faults(texts), seed=seed)
    for _ in range(logins):
        faults.order_for("/oauth/token", is_token=True)
    orders = [faults.order_for(INGEST, is_token=False) for _ in range(count)]
    return [order.kind if order else "" for order in orders]


def test_the_same_seed_gives_the_same_faults_at_the_rates_asked_for() -> None:
    texts = ["429:0.05", "cut:0.02", "token-503:1"]
    kinds = throw(7, texts, 20_000)
    assert kinds == throw(7, texts, 20_000, logins=50)
    assert kinds != throw(8, texts, 20_000)
    counts = Counter(kinds)
    assert counts["429"] == pytest.approx(1_000, rel=0.15)
    assert counts["cut"] == pytest.approx(400, rel=0.2)
    assert set(counts) == {"", "429", "cut"}


@each(
    ("script", "said"),
    [
        (b"", "not a list of rules"),
        (b'{"match":1}', "not a list of rules"),
        (b'[{"match":{"path":"/"}}]', r"missing required field `nth` - at `\$\[0\]\.match`"),
        (b'[{"match":{"path":"/","nth":1},"staus":1}]', "unknown field `staus`"),
        (b'[{"match":{"path":"/","nth":0}}]', "rule 1 of the script: nth counts from 1"),
        (b'[{"match":{"path":"/","nth":1},"delay":"soon"}]', "not a duration"),
        (b'[{"match":{"path":"/","nth":1},"answer":{"status":100}}]', "status from 200"),
        (b'[{"match":{"path":"/","nth":1},"answer":{"status":200},"cut":true}]', "not both"),
        (b'[{"match":{"path":"/","nth":1},"answer":{"status":200,"headers":{"A":"b\\n"}}}]', "not a header"),
        (b"[" * 100_000, "not a list of rules"),
    ],
)
def test_a_wrong_script_is_explained(script: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=f"(?i){said}"):
        parse_script(script)


@pytest.mark.anyio
@each("status", [300, 302, 304, 400, 404, 408, 418, 429, 499, 500, 503, 599])
async def test_an_injected_status_is_answered_and_nothing_taken(start: Start, status: int) -> None:
    client = await start(faults=parse_faults([f"{status}:1"]))
    answer = await client.send(batch(GOOD), key="k")
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == ("1" if status in (429, 503) else None)
    assert status == 304 or answer.json()["status"] == status
    stats = client.sandbox.stats()
    assert (stats.events, stats.keys, stats.faults) == (0, 0, {str(status): 1})


@pytest.mark.anyio
async def test_absurd_retry_after_goes_out_as_it_is(start: Start) -> None:
    client = await start(faults=parse_faults(["429:1:-1"]))
    answer = await client.send(batch(GOOD))
    assert answer.headers["retry-after"] == "-1"
    assert answer.json()["code"] == "too.many.requests.retry.after"


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "taken"), [("cut", 1), ("cut-before", 0)])
async def test_a_cut_is_no_answer_at_all_before_or_after_taking(
    start: Start, kind: str, taken: int, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(faults=parse_faults([f"{kind}:1"]))
    with pytest.raises(httpx.RemoteProtocolError):
        await client.send(batch(GOOD), key="k")
    assert client.sandbox.stats().events == taken
    client.sandbox.set_faults((), ())
    again = await client.send(batch(GOOD), key="k")
    assert again.status_code == 200
    assert ("idempotency-replayed" in again.headers) == bool(taken)
    stats = client.sandbox.stats()
    assert (stats.events, stats.by_status, stats.faults) == (1, {"200": 1, "none": 1}, {kind: 1})
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.anyio
async def test_partial_refuses_a_few_and_takes_them_the_next_time(start: Start) -> None:
    client = await start(faults=parse_faults(["partial:1"]))
    events = [b'{"id":"%d"}' % n for n in range(20)]
    answer = await client.send(batch(*events))
    refused = answer.json()["errors"]
    assert (answer.status_code, answer.json()["accepted"]) == (200, 20 - MAX_PARTIAL)
    assert [error["eventId"] for error in refused] == [str(error["index"]) for error in refused]
    assert all(error["retryable"] for error in refused)
    again = await client.send(batch(*[events[error["index"]] for error in refused]))
    assert again.json() == {"status": "accepted", "accepted": MAX_PARTIAL, "requestId": ""}
    assert sorted(await client.events()) == sorted(events)


@pytest.mark.anyio
async def test_garbage_is_html_for_a_batch_that_was_taken_and_never_hides_a_refusal(start: Start) -> None:
    client = await start(faults=parse_faults(["garbage:1"]))
    answer = await client.send(batch(GOOD))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html")
    assert answer.text.startswith("<html>")
    assert (await client.send(batch(b'"bad"'))).status_code == 400
    assert client.sandbox.stats().events == 1


@pytest.mark.anyio
async def test_an_expired_token_is_of_no_use_any_more(start: Start) -> None:
    client = await start(faults=parse_faults(["expire:1"]))
    assert (await client.send(batch(GOOD))).status_code == 401
    client.sandbox.set_faults((), ())
    assert (await client.send(batch(GOOD))).status_code == 401
    await client.log_in()
    assert (await client.send(batch(GOOD))).status_code == 200


@pytest.mark.anyio
async def test_faults_of_the_token_endpoint(start: Start) -> None:
    client = await start(faults=parse_faults(["token-throttle:1"]), log_in=False)
    answer = await client.log_in()
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert answer.json()["error_description"].startswith("invalid_request (rate limit exceeded;")
    client.sandbox.set_faults(parse_faults(["token-503:1:9"]), ())
    answer = await client.log_in()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "9")
    stats = client.sandbox.stats()
    assert (stats.token_requests, stats.tokens_issued, stats.requests) == (2, 0, 0)
    assert stats.faults == {"token-503": 1, "token-throttle": 1}


@pytest.mark.anyio
async def test_slow_and_latency_wait_before_the_events_are_taken(start: Start) -> None:
    clock = HandClock()
    client = await start(clock=clock, faults=parse_faults(["slow:1:2s"]), latency_s=0.5)
    await client.send(batch(GOOD))
    assert clock.slept == [0.5, 2.5]  # the login, the batch


class GateClock(HandClock):
    """A sleep lasts until the gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeping = asyncio.Event()
        self.gate = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.sleeping.set()
        await self.gate.wait()


@pytest.mark.anyio
async def test_a_key_whose_first_request_is_open_is_409(start: Start) -> None:
    clock = GateClock()
    client = await start(clock=clock, faults=parse_faults(["slow:1"]))
    first = asyncio.create_task(client.send(batch(GOOD), key="k"))
    await clock.sleeping.wait()
    again = await client.send(batch(GOOD), key="k")
    assert (again.status_code, again.json()["code"]) == (409, "idempotency.key.in.progress")
    assert (await client.send(batch(OTHER), key="k")).status_code == 422
    clock.gate.set()
    assert (await first).status_code == 200
    assert (await client.send(batch(GOOD), key="k")).headers["idempotency-replayed"] == "true"
    stats = client.sandbox.stats()
    assert (stats.events, stats.max_concurrent) == (1, 2)


@pytest.mark.anyio
async def test_a_client_that_gives_up_is_served_nevertheless(start: Start) -> None:
    clock = GateClock()
    client = await start(clock=clock, faults=parse_faults(["slow:1"]))
    first = asyncio.create_task(client.send(batch(GOOD), key="k"))
    await clock.sleeping.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    clock.gate.set()
    client.sandbox.set_faults((), ())
    answers = [await client.send(batch(GOOD), key="k") for _ in range(2)]
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert client.sandbox.stats().events == 1


@pytest.mark.anyio
async def test_a_script_decides_by_the_number_of_the_request(start: Start) -> None:
    script = [
        {
            "match": {"path": INGEST, "nth": 2},
            "answer": {"status": 503, "headers": {"Retry-After": "2"}, "body": "no"},
        },
        {"match": {"path": INGEST, "nth": 3}, "answer": {"status": 504, "body": "taken"}, "take": True},
        {"match": {"path": INGEST, "nth": 4}, "cut": True, "take": True},
        {"match": {"path": INGEST, "nth": 5}, "cut": True},
        {"match": {"path": INGEST, "nth": 6}, "delay": "2s"},
        {"match": {"path": "/oauth/token", "nth": 2}, "answer": {"status": 500}},
    ]
    clock = HandClock()
    client = await start(clock=clock, rules=parse_script(json.dumps(script).encode()))
    assert (await client.send(batch(b"1"))).status_code == 200
    second = await client.send(batch(b"2"))
    assert (second.status_code, second.text, second.headers["retry-after"]) == (503, "no", "2")
    assert (await client.send(batch(b"3"))).status_code == 504
    for event in (b"4", b"5"):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.send(batch(event))
    assert (await client.send(batch(b"6"))).status_code == 200
    assert clock.slept == [2.0]
    assert (await client.log_in()).status_code == 500
    assert await client.events() == [b"1", b"3", b"4", b"6"]
    assert client.sandbox.stats().faults == {"script": 6}
    client.sandbox.reset()
    assert (await client.send(batch(b"1"))).status_code == 200
    assert (await client.send(batch(b"2"))).status_code == 503


@pytest.mark.anyio
async def test_faults_are_replaced_at_run_time(start: Start) -> None:
    client = await start()
    answer = await client.http.post("/_sandbox/faults", json=["429:1"])
    assert answer.json() == {"status": "set", "faults": 1, "rules": 0}
    assert (await client.send(batch(GOOD))).status_code == 429
    rule = {"match": {"path": INGEST, "nth": 1}, "answer": {"status": 500}}
    await client.http.post("/_sandbox/faults", json={"script": [rule]})
    assert [(await client.send(batch(GOOD))).status_code for _ in range(2)] == [500, 200]
    for wrong in (b"", b"[1]", b'{"fault":[]}', b'["boom:1"]', b'{"script":[{}]}', b"\xff", b"[" * 100_000):
        answer = await client.http.post("/_sandbox/faults", content=wrong)
        assert (answer.status_code, set(answer.json())) == (400, {"message"})
    assert (await client.send(batch(GOOD))).status_code == 200
