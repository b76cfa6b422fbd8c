"""Whatever is posted to whichever path: it is answered, and it is never the sandbox's own fault."""

import logging

import pytest

from ingestd.schemas.genesys_models import event_api
from tests.integration.sandbox.conftest import INGEST, Start
from tests.integration.sandbox.test_event_bridge import PATH, event
from tests.integration.sandbox.test_genesys import JOURNEY
from tests.integration.sandbox.test_webhooks import HOOK, WEBHOOK

CONVERSATIONS, PRESENCE = event_api("conversations"), event_api("presence")
UUID = b"00000000-0000-0000-0000-000000000001"
VALUES = [
    b"[" * 900 + b"]" * 900,
    b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
    b'"\\ud800"',
    b'"\\u0000"',
    b"1e999",
    b"9" * 5_000,
    b"NaN",
    b"true",
    b"\xef\xbb\xbf{}",
    b"\xed\xa0\x80",
    b"{}{}",
    b'{"":{"":[]}}',
]
FRAMES = [
    (INGEST, b'{"events":[%b]}'),
    (PATH, b"%b"),
    (PATH, event()[:-1] + b',"x":%b}'),
    (PATH, event()[:-1].replace(b'"data"', b'"dat"') + b',"data":%b}'),
    (CONVERSATIONS.path, b'{"userEstablishedEvents":[%b]}'),
    (CONVERSATIONS.path, b'{"userEstablishedEvents":[{"eventId":"' + UUID + b'","a":%b}]}'),
    (CONVERSATIONS.path, b'{"userEstablishedEvents":[{"eventId":%b}]}'),
    (PRESENCE.path, b'{"userPresenceEvents":[{"eventId":"' + UUID + b'","eventDateTime":%b}]}'),
    (JOURNEY, b'{"entities":[%b]}'),
    (JOURNEY, b'{"entities":[{"id":%b}]}'),
    (JOURNEY, b'{"entities":[{"id":"1","dateCreated":"2026-01-01T00:00:00Z","identifiers":%b}]}'),
    (WEBHOOK, b"%b"),
    (HOOK, b"[%b]"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "frame"), FRAMES)
async def test_no_body_is_too_strange_to_be_answered(
    start: Start, path: str, frame: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(schema=None)
    media_type = "application/cloudevents+json" if path == PATH else "application/json"
    for value in VALUES:
        answer = await client.call(
            path, frame % value, Content_Type=media_type, Idempotency_Key=str(value)[:9]
        )
        assert answer.status_code in (200, 202, 400, 409, 422), (value[:20], answer.text)
    assert (await client.http.get("/_sandbox/stats")).status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.anyio
async def test_no_header_or_path_is_too_strange_to_be_answered(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(handshake_required=True, webhook_secrets=["whsec_" + "a2" * 24])
    strange = [b"\xff\xfe", b'"', b"%", b"%ff", b"x" * 5_000, b"1.0", b"-1", b"9" * 400]
    names = [b"ce-id", b"ce-source", b"idempotency-key", b"webhook-id", b"webhook-timestamp"]
    names += [b"webhook-signature", b"webhook-request-origin", b"webhook-request-rate"]
    for path in (PATH, HOOK, WEBHOOK):
        for name in names:
            for value in strange:
                headers = [(b"authorization", f"Bearer {client.token}".encode()), (name, value)]
                for method in ("POST", "OPTIONS"):
                    answer = await client.http.request(method, path, content=b"{}", headers=headers)
                    assert answer.status_code < 500, (path, name, value)
    for odd in ("/hooks/%00", "/hooks/%ff", "/hooks/" + "x" * 5_000, f"{PATH}/%2e%2e%2f", f"{PATH}/a/b"):
        assert (await client.call(odd, b"{}")).status_code in (401, 403, 404, 405)
    assert (await client.http.get("/_sandbox/stats")).status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
