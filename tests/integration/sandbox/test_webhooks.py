"""Webhooks under a token, plain hooks, their signatures and their handshake, over real connections."""

import base64
import hmac
from hashlib import sha256

import httpx
import pytest

from ingestd.core.errors import UserError
from ingestd.sandbox import inbox
from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.faults import parse_faults
from ingestd.sandbox.inbox import Inboxes, digest
from ingestd.sandbox.server import Sandbox
from ingestd.sandbox.tokens import RateLimit
from tests.each import each
from tests.integration.sandbox.conftest import Client, HandClock, Start

pytestmark = pytest.mark.anyio
WEBHOOK = "/api/v2/integrations/webhooks/sandbox/events"
LABEL = "/api/v2/integrations/webhooks/{token}/events"
HOOK = "/hooks/orders"
SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()


def signature(body: bytes, *, name: str = "msg_1", sent_at: int = 1_000, key: bytes = b"k" * 24) -> str:
    signed = f"{name}.{sent_at}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, sha256)).decode()


def signed(body: bytes, *, sent_at: int = 1_000, **changes: str) -> dict[str, str]:
    headers = {
        "webhook_id": "msg_1",
        "webhook_timestamp": str(sent_at),
        "webhook_signature": signature(body, sent_at=sent_at),
    }
    return {name: value for name, value in (headers | changes).items() if value}


async def test_a_webhook_takes_any_object_without_a_login(start: Start) -> None:
    client = await start(log_in=False)
    for body in (b'{"a":1}', b"{}", b'{"a":1}'):
        answer = await client.http.post(WEBHOOK, content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, list(answer.json())) == (202, ["invocationId"])
    counts = client.path(LABEL)
    assert (counts.requests, counts.events, counts.distinct, counts.duplicates) == (3, 3, 2, 1)
    assert "sandbox/events" not in str(client.sandbox.stats())
    for body in (b"{", b"5", b'"x"', b"[1,2]"):
        assert (await client.call(WEBHOOK, body)).status_code == 400
    assert (await client.call(WEBHOOK, b"[" * 100_000)).status_code == 400
    assert (await client.call(WEBHOOK, b" " * 512_001)).status_code == 413
    assert (await client.call(WEBHOOK.replace("sandbox", "other"), b"{}")).status_code == 404
    assert (await client.http.get(WEBHOOK)).headers["allow"] == "POST, OPTIONS"


@each("path", [WEBHOOK, HOOK])
async def test_a_signature_that_fits_opens_and_everything_else_is_401(start: Start, path: str) -> None:
    client = await start(clock=HandClock(), webhook_secrets=[SECRET], log_in=False)
    body = b'{"a":1}'
    wrong = [
        {},
        signed(body, webhook_signature=signature(b"{}")),
        signed(body, webhook_signature=signature(body, key=b"x" * 24)),
        signed(body, webhook_signature=signature(body).replace("v1,", "v1a,")),
        signed(body, webhook_id="msg_2"),
        signed(body, webhook_id=""),
        signed(body, sent_at=1_301),
        signed(body, sent_at=699),
        signed(body, webhook_timestamp="+1000"),
    ]
    for headers in wrong:
        answer = await client.call(path, body, **headers)
        assert answer.status_code == 401, headers
    assert client.path(LABEL if path == WEBHOOK else path).events == 0
    for sent_at in (700, 1_000, 1_300):
        name = f"msg_{sent_at}"
        both = f"v1,old {signature(body, name=name, sent_at=sent_at)}"
        headers = signed(body, sent_at=sent_at, webhook_id=name, webhook_signature=both)
        assert (await client.call(path, body, **headers)).status_code < 300


def test_a_secret_that_is_none_is_said_and_not_shown() -> None:
    for secret in ("whsec_!", "whsec_c2hvcnQ="):
        with pytest.raises(UserError, match="a webhook secret has ") as caught:
            Sandbox(SandboxOptions(schema=None, webhook_secrets=[secret]))
        assert secret not in str(caught.value)


async def ask(client: Client, path: str, **headers: str) -> httpx.Response:
    sent = {"WebHook-Request-Origin": "events.example.com"} | headers
    return await client.http.options(path, headers=sent)


@each("path", [WEBHOOK, HOOK])
async def test_the_handshake_allows_the_origin_and_a_rate(start: Start, path: str) -> None:
    client = await start(log_in=False)
    answer = await ask(client, path)
    assert answer.status_code == 200
    assert answer.headers["webhook-allowed-origin"] == "events.example.com"
    assert answer.headers["webhook-allowed-rate"] == "*"
    assert (await ask(client, path, **{"WebHook-Request-Rate": "120"})).headers[
        "webhook-allowed-rate"
    ] == "120"
    assert (await ask(client, path, **{"WebHook-Request-Rate": "0"})).status_code == 400
    assert (await ask(client, path, **{"WebHook-Request-Origin": ""})).status_code == 400
    label = f"OPTIONS {LABEL if path == WEBHOOK else path}"
    assert client.path(label).requests == 4
    assert (await ask(client, "/api/v2/integrations/webhooks/other/events")).status_code == 404


async def test_the_handshake_can_be_refused_and_its_rate_limited(start: Start) -> None:
    client = await start(hook_rate_per_minute=60)
    assert (await ask(client, HOOK)).headers["webhook-allowed-rate"] == "60"
    faster = await ask(client, HOOK, **{"WebHook-Request-Rate": "600"})
    assert faster.headers["webhook-allowed-rate"] == "60"
    client.sandbox.set_faults(parse_faults(["handshake-refuse:1"]), ())
    refused = await ask(client, HOOK)
    assert refused.status_code == 405
    assert not {"webhook-allowed-origin", "webhook-allowed-rate"} & set(refused.headers)


async def test_where_the_handshake_is_required_nobody_sends_before_it(start: Start) -> None:
    client = await start(handshake_required=True)
    origin = {"WebHook_Request_Origin": "events.example.com"}
    assert (await client.call(HOOK, b"{}", **origin)).status_code == 403
    await ask(client, HOOK)
    assert (await client.call(HOOK, b"{}", **origin)).status_code == 200
    assert (await client.call(HOOK, b"{}")).status_code == 403
    assert (await client.call("/hooks/other", b"{}", **origin)).status_code == 403


async def test_a_plain_hook_takes_any_body_and_counts_its_events(start: Start) -> None:
    client = await start(log_in=False)
    assert (await client.call(HOOK, b"\xff\x00", Content_Type="image/png")).json() == {"status": "ok"}
    await client.call(HOOK, b'[{"a":1},{"a":2}]')
    await client.call(HOOK, b'{"a":1}\n{"a":3}\n', Content_Type="application/x-ndjson")
    await client.call(HOOK, b"[not json")
    counts = client.path(HOOK)
    assert (counts.requests, counts.events, counts.distinct, counts.duplicates) == (4, 6, 5, 1)
    assert client.sandbox.kept(HOOK)[1:3] == [b'{"a":1}', b'{"a":2}']
    # One event can only be in one place.
    assert "/hooks/other" not in client.sandbox.stats().paths


async def test_a_plain_hook_knows_what_came_under_the_same_id(start: Start) -> None:
    client = await start(hook_status=204)
    for header in ("webhook_id", "Idempotency_Key"):
        answers = [await client.call(HOOK, b"{}", **{header: f"{header}-1"}) for _ in range(2)]
        assert [(answer.status_code, answer.content) for answer in answers] == [(204, b""), (204, b"")]
        assert (await client.call(HOOK, b"[]", **{header: f"{header}-1"})).status_code == 422
    counts = client.path(HOOK)
    assert (counts.events, counts.duplicates, counts.repeated) == (2, 1, 2)


async def test_binary_cloudevents_are_told_apart_by_source_and_id(start: Start) -> None:
    client = await start()
    for name in ("1", "2", "2"):
        await client.call(HOOK, b"{}", ce_source="/s", ce_id=name)
    counts = client.path(HOOK)
    assert (counts.events, counts.distinct, counts.duplicates) == (3, 2, 1)


async def test_hooks_have_a_rate_limit_each(start: Start) -> None:
    client = await start(rate_limit=RateLimit(1, 60.0), log_in=False)
    first, second = [await client.call(HOOK, b"{}") for _ in range(2)]
    assert (first.headers["inin-ratelimit-count"], second.status_code) == ("1", 429)
    assert (await client.call("/hooks/other", b"{}")).status_code == 200


def test_paths_and_what_is_kept_of_them_are_bounded() -> None:
    inboxes = Inboxes(keep_bytes=5, max_identities=3)
    for number in range(inbox.MAX_INBOXES + 10):
        inboxes.of(f"/hooks/{number}").requests += 1
    assert len(list(inboxes)) == inbox.MAX_INBOXES + 1
    assert inboxes.of("/hooks/of-a-stranger").requests == 10
    one, two = inboxes.of("/hooks/1"), inboxes.of("/hooks/2")
    for number in range(4):
        one.take(b"12", digest(b"%d" % number))
    two.take(b"1", digest(b"1"))
    assert (one.kept, two.kept) == ([b"12", b"12"], [b"1"])
    shown = one.stats()
    assert (shown.events, shown.distinct, shown.distinct_complete) == (4, 3, False)
