"""What the sandbox takes and what it refuses, over real connections."""

import asyncio
import logging

import pytest

from ingestd.core.errors import UserError
from ingestd.sandbox import contract
from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.server import Sandbox
from ingestd.sandbox.tokens import RateLimit
from tests.each import each
from tests.integration.sandbox.conftest import INGEST, HandClock, NoBad, Start, batch

pytestmark = pytest.mark.anyio
GOOD, BAD = b'{"id":"g"}', b'{"interactionId":"i-7","x":"bad"}'


@each("path", ["/oauth/token", "/login/oauth2/token"])
async def test_a_token_is_issued_at_both_paths_and_opens_the_api(start: Start, path: str) -> None:
    client = await start(log_in=False, token_lifetime_s=120)
    form = {"grant_type": "client_credentials"}
    answer = await client.http.post(path, data=form, auth=("sandbox", "sandbox"))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    content = answer.json()
    assert (content["token_type"], content["expires_in"]) == ("bearer", 120)
    client.token = content["access_token"]
    assert (await client.send(batch(GOOD))).status_code == 200


async def test_wrong_credentials_and_wrong_grants_are_told_apart(start: Start) -> None:
    client = await start(log_in=False)
    answer = await client.log_in(auth=("sandbox", "wrong"))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    for headers in ({}, {"Authorization": "Basic ???"}, {"Authorization": "Basic c2FuZGJveA=="}):
        answer = await client.http.post("/oauth/token", data={"grant_type": "x"}, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    auth = ("sandbox", "sandbox")
    answer = await client.http.post("/oauth/token", data={"grant_type": "password"}, auth=auth)
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    answer = await client.http.post("/oauth/token", json={"grant_type": "client_credentials"}, auth=auth)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    many = "&".join(f"f{i}=1" for i in range(100))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.http.post("/oauth/token", content=many, auth=auth, headers=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert client.sandbox.stats().tokens_issued == 0


async def test_any_credentials_do_where_none_are_set(start: Start) -> None:
    client = await start(log_in=False, client_id=None, client_secret=None)
    assert (await client.log_in(auth=("who", "ever"))).status_code == 200


async def test_a_request_without_a_good_token_is_401(start: Start) -> None:
    clock = HandClock()
    client = await start(clock=clock, token_lifetime_s=60)
    good = client.token
    assert (await client.send(batch(GOOD))).status_code == 200
    clock.now += 60
    assert (await client.send(batch(GOOD))).status_code == 401
    client.token = good + "x"
    assert (await client.send(batch(GOOD))).json()["code"] == "bad.credentials"
    assert (await client.send(batch(GOOD), Authorization="Basic eA==")).json()["code"] == (
        "authentication.required"
    )
    assert client.sandbox.stats().events == 1


async def test_events_are_kept_byte_for_byte_and_in_order(start: Start) -> None:
    client = await start(schema=None)
    sent = [b'{"b" : 1,\t"a":1.50}', '{"é":"\\u00e9 🙂"}'.encode(), b'{"a":1e400}', b'"text"']
    answer = await client.send(
        b' { "other":1, "events" : [ ' + b" , ".join(sent) + b" ] } ", X_Request_Id="r1"
    )
    assert answer.status_code == 200
    assert answer.json() == {"status": "accepted", "accepted": 4, "requestId": "r1"}
    assert answer.headers["inin-correlation-id"]
    assert client.sandbox.api.accepted.kept == sent
    assert await client.events() == sent
    assert await client.events("?offset=1&limit=2") == sent[1:3]
    assert await client.events("?offset=9") == []
    assert (await client.http.get("/_sandbox/events?offset=-1")).status_code == 400


async def test_newlines_inside_an_event_do_not_break_the_listing(start: Start) -> None:
    client = await start(schema=None)
    await client.send(batch(b'{"a":\r\n1}', GOOD))
    assert await client.events() == [b'{"a":  1}', GOOD]


DEEP = b"[" * 100_000


@each(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"events":{}}',
        b'{"events":[]}',
        b'{"events":[{]}',
        b"\xff",
        DEEP,
        b'{"events":[' + DEEP + b"]}",
    ],
)
async def test_a_body_that_is_not_a_list_of_events_is_400(start: Start, body: bytes) -> None:
    client = await start()
    answer = await client.send(body)
    content = answer.json()
    assert (answer.status_code, content["status"], content["code"]) == (400, 400, "bad.request")
    assert content["contextId"] == answer.headers["inin-correlation-id"]


async def test_one_invalid_event_refuses_the_batch_and_is_named(start: Start) -> None:
    client = await start()
    answer = await client.send(batch(GOOD, BAD, GOOD))
    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {
            "index": 1,
            "eventId": "i-7",
            "field": "routing.action",
            "message": "bad (and 1 more)",
            "retryable": False,
        }
    ]
    assert client.sandbox.stats().events == 0


async def test_in_partial_mode_the_good_ones_are_taken(start: Start) -> None:
    client = await start(partial=True)
    answer = await client.send(batch(GOOD, b'["bad"]', b'{"id":"h"}'))
    assert (answer.status_code, answer.json()["accepted"]) == (200, 2)
    assert [(error["index"], error["eventId"]) for error in answer.json()["errors"]] == [(1, None)]
    assert await client.events() == [GOOD, b'{"id":"h"}']


async def test_partial_mode_never_takes_more_than_it_can_account_for(start: Start) -> None:
    client = await start(partial=True)
    answer = await client.send(batch(GOOD, *[BAD] * contract.MAX_ITEM_ERRORS, BAD))
    assert answer.status_code == 400
    assert len(answer.json()["errors"]) == contract.MAX_ITEM_ERRORS
    assert client.sandbox.stats().events == 0


async def test_form_and_size_are_checked(start: Start) -> None:
    client = await start(max_body_bytes=100)
    assert (await client.send(batch(GOOD), Content_Type="text/plain")).status_code == 415
    assert (await client.send(batch(GOOD), Content_Encoding="gzip")).status_code == 415
    exact = batch(GOOD) + b" " * (100 - len(batch(GOOD)))
    assert (await client.send(exact)).status_code == 200
    assert (await client.send(exact + b" ")).status_code == 413
    assert (await client.send(b" " * 3_000_000)).json()["code"] == "request.entity.too.large"
    assert client.sandbox.stats().by_status == {"200": 1, "413": 2, "415": 2}


async def test_other_paths_and_methods(start: Start) -> None:
    client = await start()
    assert (await client.http.get(INGEST)).json()["code"] == "method.not.allowed"
    assert (await client.http.post("/api/v2/nothing")).json()["code"] == "not.found"


async def test_a_used_key_replays_the_first_answer_and_takes_nothing_twice(start: Start) -> None:
    client = await start()
    first = await client.send(batch(GOOD), key="k", X_Request_Id="one")
    again = await client.send(batch(GOOD), key="k", X_Request_Id="two")
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    other = await client.send(batch(GOOD, GOOD), key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency.key.reused")
    assert (await client.send(batch(GOOD), key="k" * 256)).status_code == 400
    stats = client.sandbox.stats()
    assert (stats.events, stats.keys, stats.replays) == (1, 1, 1)


async def test_a_refusal_is_replayed_too(start: Start) -> None:
    client = await start()
    first, again = [await client.send(batch(BAD), key="k") for _ in range(2)]
    assert (again.status_code, again.content) == (400, first.content)
    assert again.headers["idempotency-replayed"] == "true"


async def test_headers_cannot_harm(start: Start) -> None:
    client = await start()
    for number, header in enumerate((b"\xff\xfe", b'"\\', b"x" * 5000)):
        headers = [
            (b"authorization", f"Bearer {client.token}".encode()),
            (b"content-type", b"application/json"),
            (b"idempotency-key", bytes([255, number + 33])),
            (b"x-request-id", header),
        ]
        answer = await client.http.post(INGEST, content=batch(GOOD), headers=headers)
        assert answer.status_code == 200
        assert len(answer.json()["requestId"]) <= contract.MAX_ECHO
    assert client.sandbox.stats().keys == 3


async def test_the_rate_limit_is_per_token_and_window(start: Start) -> None:
    clock = HandClock()
    client = await start(clock=clock, rate_limit=RateLimit(2, 10.0))
    answers = [await client.send(batch(GOOD)) for _ in range(2)]
    assert [answer.headers["inin-ratelimit-count"] for answer in answers] == ["1", "2"]
    assert answers[0].headers["inin-ratelimit-allowed"] == "2"
    assert answers[0].headers["inin-ratelimit-reset"] == "10"
    clock.now += 2.5
    refused = await client.send(batch(GOOD))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "8")
    content = refused.json()
    assert content["message"] == "Rate limit exceeded the maximum. Retry the request in [8] seconds"
    assert (content["code"], content["details"], content["errors"]) == (
        "too.many.requests.retry.after",
        [],
        [],
    )
    first = client.token
    await client.log_in()
    assert (await client.send(batch(GOOD))).status_code == 200
    client.token = first
    clock.now += 7.5
    assert (await client.send(batch(GOOD))).status_code == 200


async def test_kept_bytes_are_bounded_and_the_stats_say_so(start: Start) -> None:
    client = await start(keep_bytes=25)
    for event in (GOOD, b'{"id":"h"}', GOOD, b"1"):
        assert (await client.send(batch(event))).status_code == 200
    stats = client.sandbox.stats()
    assert (stats.events, stats.distinct, stats.duplicates) == (4, 3, 1)
    assert (stats.events_kept, stats.kept_bytes, stats.kept_complete) == (2, 20, False)
    assert await client.events() == [GOOD, b'{"id":"h"}']


async def test_reset_forgets_all_but_the_tokens(start: Start) -> None:
    client = await start()
    await client.send(batch(GOOD), key="k")
    assert (await client.http.post("/_sandbox/reset")).status_code == 200
    stats = (await client.http.get("/_sandbox/stats")).json()
    assert not any(value for name, value in stats.items() if not name.endswith("_complete"))
    assert (await client.send(batch(GOOD, GOOD), key="k")).status_code == 200


async def test_an_address_in_use_is_one_line(start: Start) -> None:
    client = await start()
    port = int(client.running.url.rpartition(":")[2])
    with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*use"):
        async with Sandbox(SandboxOptions(schema=NoBad())).serve("127.0.0.1", port):
            pytest.fail("it serves")
    with pytest.raises(UserError, match="schema 'nonsense'"):
        Sandbox(SandboxOptions(schema="nonsense"))


async def test_an_upload_that_breaks_off_takes_nothing_and_is_no_error(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start()
    port = int(client.running.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {INGEST} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n"
    writer.write(f'{head}Authorization: Bearer {client.token}\r\n\r\n{{"events":['.encode())
    await writer.drain()
    # Its turn comes before that of a request sent later; so does its end.
    assert (await client.send(b"")).status_code == 400
    writer.close()
    await writer.wait_closed()
    assert (await client.send(b"")).status_code == 400
    assert client.sandbox.stats().by_status == {"400": 2, "none": 1}
    assert client.sandbox.stats().events == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@each("chunk", [b"zz\r\n", b"-1\r\n", b"3\r\n{}"])
async def test_a_body_in_broken_chunks_takes_nothing(start: Start, chunk: bytes) -> None:
    client = await start()
    port = int(client.running.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {INGEST} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode() + chunk)
    writer.write_eof()
    assert (await reader.read())[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.0 400")
    writer.close()
    await writer.wait_closed()
    assert (await client.send(batch(GOOD))).status_code == 200
    assert await client.events() == [GOOD]
