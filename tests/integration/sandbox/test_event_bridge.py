"""``/api/v2/eventbridge/events`` over real connections: modes, keys, what becomes of an event."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from ingestd.sandbox.faults import parse_faults, parse_script
from ingestd.sandbox.tokens import RateLimit
from tests.each import each
from tests.integration.sandbox.conftest import Client, HandClock, Start
from tests.integration.sandbox.test_faults import GateClock

pytestmark = pytest.mark.anyio
PATH = "/api/v2/eventbridge/events"
ONE = PATH + "/{id}"


def event(number: int = 1, **changes: object) -> bytes:
    content = {
        "specversion": "1.0",
        "id": f"e-{number}",
        "source": "com.example.ordering",
        "type": "order.created",
        "time": "2024-05-15T10:30:00.000Z",
        "data": {"amount": 150.00},
    }
    return json.dumps({k: v for k, v in (content | changes).items() if v is not ...}).encode()


async def publish(client: Client, body: bytes, *, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency_Key": key}
    return await client.call(
        PATH, body, Content_Type="application/cloudevents+json; charset=utf-8", **headers
    )


async def status(client: Client, name: str) -> httpx.Response:
    return await client.call(f"{PATH}/{name}", method="GET")


async def follow(client: Client, name: str, questions: int) -> list[str]:
    answers = [await status(client, name) for _ in range(questions)]
    return [str(answer.json()["status"]) for answer in answers]


async def test_an_event_is_accepted_in_the_words_of_the_seed(start: Start) -> None:
    client = await start()
    answer = await publish(client, event())
    assert answer.status_code == 202
    content = answer.json()
    assert content.pop("id").startswith("evt-")
    assert content == {
        "specversion": "1.0",
        "type": "order.created",
        "source": "com.example.ordering",
        "time": "2024-05-15T10:30:00.000Z",
        "status": "accepted",
        "deliveryStatus": "pending",
    }
    assert client.sandbox.kept(PATH) == [event()]
    assert await client.events(f"?path={PATH}") == [event()]


@each(
    ("body", "field"),
    [
        (event(specversion=...), "specversion"),
        (event(specversion="0.3"), "specversion"),
        (event(id=...), "id"),
        (event(time="yesterday"), "time"),
        (event(data_base64="AA=="), ""),
        (b"{", ""),
        (b"[]", ""),
        (b"\xff", ""),
        (b"[" * 100_000, ""),
    ],
)
async def test_what_is_no_cloudevent_is_400_with_the_field(start: Start, body: bytes, field: str) -> None:
    client = await start()
    answer = await publish(client, body, key="k")
    content = answer.json()
    assert (answer.status_code, content["code"]) == (400, "bad.request")
    assert content["contextId"] == answer.headers["inin-correlation-id"]
    assert content["details"][0]["fieldName"] == field
    assert content["errors"] == []
    # The key of a refused event is free again.
    assert (await publish(client, event(), key="k")).status_code == 202


async def test_a_used_key_gives_back_the_original_as_it_stands(start: Start) -> None:
    client = await start(clock=HandClock())
    first = (await publish(client, event(), key="k")).json()
    again = await publish(client, event(), key="k")
    assert (again.status_code, again.json()) == (409, first)
    assert await follow(client, first["id"], 2) == ["accepted", "delivered"]
    assert (await publish(client, event(), key="k")).json()["status"] == "delivered"
    other = await publish(client, event(2), key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency.key.reused")
    counts = client.path(PATH)
    assert (counts.events, counts.distinct, counts.duplicates, counts.repeated) == (1, 1, 0, 2)
    assert (counts.requests, counts.by_status) == (4, {"202": 1, "409": 2, "422": 1})


async def test_a_key_ends_with_its_day(start: Start) -> None:
    clock = HandClock()
    client = await start(clock=clock, token_lifetime_s=1e9)
    await publish(client, event(), key="k")
    clock.now += 86_401
    assert (await publish(client, event(), key="k")).status_code == 202
    assert client.path(PATH).duplicates == 1


async def test_a_key_whose_first_request_is_open_is_told_apart_from_a_used_one(start: Start) -> None:
    clock = GateClock()
    client = await start(clock=clock, faults=parse_faults(["slow:1"]))
    first = asyncio.create_task(publish(client, event(), key="k"))
    await clock.sleeping.wait()
    again = await publish(client, event(), key="k")
    assert (again.status_code, again.json()["code"]) == (409, "idempotency.key.in.progress")
    clock.gate.set()
    assert (await first).status_code == 202


async def test_the_same_event_without_a_key_is_taken_twice_and_told(start: Start) -> None:
    client = await start()
    ids = {(await publish(client, event())).json()["id"] for _ in range(2)}
    assert len(ids) == 2
    counts = client.path(PATH)
    assert (counts.events, counts.distinct, counts.duplicates) == (2, 1, 1)


async def test_binary_mode_says_the_same_event(start: Start) -> None:
    client = await start()
    headers = {
        "ce_specversion": "1.0",
        "ce_type": "order.created",
        "ce_source": "com.example.ordering",
        "ce_id": '"a \\"b\\""',
        "CE_Subject": "Euro%20%E2%82%AC",
    }
    answer = await client.call(PATH, b'{"a":1.50}', **headers)
    assert answer.status_code == 202
    [kept] = client.sandbox.kept(PATH)
    assert b'"data":{"a":1.50}' in kept
    content = json.loads(kept)
    assert (content["id"], content["subject"]) == ('a "b"', "Euro €")
    assert content["datacontenttype"] == "application/json"
    plain = await client.call(PATH, b"\xff\x00", Content_Type="image/png", **headers | {"ce_id": "2"})
    assert plain.status_code == 202
    assert json.loads(client.sandbox.kept(PATH)[1])["data_base64"] == "/wA="


@each(
    "headers",
    [
        {"ce_specversion": "1.0", "ce_type": "t", "ce_source": "/s"},
        {"ce_id": "1", "ce_type": "t", "ce_source": "/s"},
        {"ce_datacontenttype": "text/plain"},
        {"ce_Bad_name": "x"},
        {"ce_subject": "%C0%A0"},
        {"ce_subject": "%zz"},
        {"ce_subject": "with space"},
        {"ce_subject": '"open'},
        {"ce_time": "2026-01-01"},
    ],
)
async def test_binary_mode_is_strict(start: Start, headers: dict[str, str]) -> None:
    client = await start()
    good = {"ce_specversion": "1.0", "ce_type": "t", "ce_source": "/s", "ce_id": "1"}
    whole = headers if len(headers) == 3 else good | headers
    answer = await client.call(PATH, b"{}", **whole)
    assert answer.status_code == 400, answer.text


async def test_an_attribute_given_twice_and_data_that_is_no_json_are_400(start: Start) -> None:
    client = await start()
    headers = [(f"ce-{n}", v) for n, v in (("specversion", "1.0"), ("type", "t"), ("source", "/s"))]
    headers += [("ce-id", "1"), ("Authorization", f"Bearer {client.token}")]
    headers += [("Content-Type", "application/json")]
    answer = await client.http.post(PATH, content=b"{}", headers=[*headers, ("CE-ID", "2")])
    assert answer.status_code == 400
    assert (await client.http.post(PATH, content=b"{", headers=headers)).status_code == 400
    assert (await client.http.post(PATH, content=b"{}", headers=headers)).status_code == 202


async def test_a_batch_is_answered_event_by_event(start: Start) -> None:
    client = await start()
    media_type = "application/cloudevents-batch+json"
    body = b"[%b,%b]" % (event(1), event(2))
    answer = await client.call(PATH, body, Content_Type=media_type, Idempotency_Key="k")
    content = answer.json()
    assert (answer.status_code, content["accepted"], len(content["events"])) == (202, 2, 2)
    again = await client.call(PATH, body, Content_Type=media_type, Idempotency_Key="k")
    assert (again.status_code, again.json()) == (409, content)
    assert (await client.call(PATH, b"[]", Content_Type=media_type)).json()["events"] == []
    wrong = await client.call(PATH, b"[%b,{}]" % event(3), Content_Type=media_type)
    assert wrong.status_code == 400
    assert wrong.json()["message"].startswith("event 1 is not a CloudEvent: ")
    assert client.path(PATH).events == 2


@each(
    "media_type",
    ["application/json", "text/plain", "application/cloudevents+avro", "application/cloudevents"],
)
async def test_other_formats_are_415(start: Start, media_type: str) -> None:
    client = await start()
    assert (await client.call(PATH, event(), Content_Type=media_type)).status_code == 415


async def test_size_login_and_method_are_checked(start: Start) -> None:
    client = await start(max_body_bytes=len(event()))
    assert (await publish(client, event())).status_code == 202
    assert (await publish(client, event() + b" ")).status_code == 413
    refused = await client.http.put(PATH)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert (await client.http.post(f"{PATH}/evt-1")).headers["allow"] == "GET"
    client.token = "wrong"
    assert (await publish(client, event())).status_code == 401
    assert (await status(client, "evt-1")).status_code == 401


async def test_an_event_is_delivered_at_its_second_question_or_after_its_time(start: Start) -> None:
    clock = HandClock()
    client = await start(clock=clock)
    names = [str((await publish(client, event(n))).json()["id"]) for n in range(2)]
    assert await follow(client, names[0], 3) == ["accepted", "delivered", "delivered"]
    clock.now += 0.2
    assert await follow(client, names[1], 1) == ["delivered"]
    unknown = await status(client, "evt-unknown")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not.found")
    assert client.path(ONE).requests == 5


async def test_delay_and_number_of_questions_are_settable(start: Start) -> None:
    clock = HandClock()
    client = await start(clock=clock, delivered_after_s=9.0, delivered_at_question=0)
    name = str((await publish(client, event())).json()["id"])
    assert await follow(client, name, 5) == ["accepted"] * 5
    clock.now += 9
    delivered = (await status(client, name)).json()
    assert (delivered["status"], delivered["deliveryStatus"]) == ("delivered", "delivered")


async def test_shares_fail_and_stay_for_ever_and_the_same_seed_says_which(start: Start) -> None:
    clock = HandClock()
    client = await start(clock=clock, faults=parse_faults(["status-fail:0.3", "status-stuck:0.3"]))
    names = [str((await publish(client, event(n))).json()["id"]) for n in range(60)]
    clock.now += 1_000
    ends = [(await follow(client, name, 1))[0] for name in names]
    counted = {end: ends.count(end) for end in ("accepted", "delivered", "failed")}
    assert all(8 <= count <= 34 for count in counted.values()), counted
    struck = client.sandbox.stats().faults
    assert struck == {"status-fail": counted["failed"], "status-stuck": counted["accepted"]}
    failed = (await status(client, names[ends.index("failed")])).json()
    assert (failed["deliveryStatus"], failed["error"]["code"]) == ("failed", "delivery.failed")
    other = await start(clock=clock, faults=parse_faults(["status-fail:0.3", "status-stuck:0.3"]))
    name = str((await publish(other, event(ends.index("failed")))).json()["id"])
    clock.now += 1
    assert await follow(other, name, 1) == ["failed"]


async def test_an_event_can_be_hidden_at_first_and_late(start: Start) -> None:
    clock = HandClock()
    client = await start(clock=clock, faults=parse_faults(["status-hidden:1:300ms", "status-late:1:5s"]))
    name = str((await publish(client, event())).json()["id"])
    assert (await status(client, name)).status_code == 404
    clock.now += 0.3
    assert await follow(client, name, 4) == ["accepted"] * 4
    clock.now += 5
    assert await follow(client, name, 1) == ["delivered"]


async def test_events_are_refused_one_by_one_to_order(start: Start) -> None:
    client = await start(faults=parse_faults(["event-retry:1"]))
    first = await publish(client, event(), key="k")
    assert (first.status_code, first.json()["errors"][0]["retryable"]) == (503, True)
    assert (await publish(client, event(), key="k")).status_code == 202
    client.sandbox.set_faults(parse_faults(["event-dead:1"]), ())
    dead = [await publish(client, event(2)) for _ in range(2)]
    assert [answer.status_code for answer in dead] == [400, 400]
    body = b"[%b]" % event(3)
    batch = (await client.call(PATH, body, Content_Type="application/cloudevents-batch+json")).json()
    assert (batch["accepted"], batch["errors"][0]["eventId"]) == (0, "e-3")
    assert client.path(PATH).item_errors == 4


async def test_the_other_faults_and_scripts_work_here_too(start: Start) -> None:
    rules: list[dict[str, Any]] = [
        {"match": {"path": PATH, "nth": 1}, "cut": True, "take": True},
        {"match": {"path": ONE, "nth": 2}, "answer": {"status": 503}},
    ]
    client = await start(rules=parse_script(json.dumps(rules).encode()))
    with pytest.raises(httpx.RemoteProtocolError):
        await publish(client, event(), key="k")
    original = await publish(client, event(), key="k")
    assert original.status_code == 409
    answers = [await status(client, original.json()["id"]) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 503, 200]
    assert client.path(PATH).by_status == {"409": 1, "none": 1}


async def test_rate_headers_are_on_every_answer_and_429_says_when(start: Start) -> None:
    client = await start(rate_limit=RateLimit(3, 60.0))
    answers = [await publish(client, event()), await status(client, "no"), await publish(client, b"{")]
    assert [answer.status_code for answer in answers] == [202, 404, 400]
    assert [answer.headers["inin-ratelimit-count"] for answer in answers] == ["1", "2", "3"]
    refused = await publish(client, event(2))
    assert refused.status_code == 429
    assert refused.headers["inin-ratelimit-allowed"] == "3"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["code"] == "too.many.requests.retry.after"


async def test_reset_forgets_events_and_keys(start: Start) -> None:
    client = await start()
    name = str((await publish(client, event(), key="k")).json()["id"])
    client.sandbox.reset()
    assert client.sandbox.stats().paths == {}
    assert (await status(client, name)).status_code == 404
    assert (await publish(client, event(2), key="k")).status_code == 202
