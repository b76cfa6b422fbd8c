"""The gateway that is told of changes (fault 18: the seed's is unsigned, tried once, and sent anywhere)."""

import base64
import hmac
import json
from typing import Any

import pytest

from ingestd.control.engine.resource import RemoteResource
from ingestd.control.engine.secret import SecretRef
from ingestd.control.target.target import Target
from ingestd.control.target.webhook_sync import MAX_ATTEMPTS, Webhook, sync
from ingestd.core.errors import UserError
from ingestd.sandbox.faults import parse_fault
from tests.each import each
from tests.integration.control.target_support import PASSWORD, SECRETS, Session, open_api, open_sandbox, parse
from tests.integration.transport.support import FakeClock
from tests.receiver import Cut, Receiver, Reply, Request, in_turn

pytestmark = pytest.mark.anyio
TARGET = Target()
FOUND = RemoteResource("target", "orders", "t-1", {}, "VERIFIED")
HOOK = SecretRef("env:HOOK")


def hook(url: str) -> dict[str, str]:
    return {"url": url + "/hooks/private-path", "secret": "env:HOOK"}


def check_signature(request: Request) -> None:
    """As Standard Webhooks 1.0.0 says, without our own code."""
    key = base64.b64decode(SECRETS["env:HOOK"].removeprefix("whsec_"))
    signed = (
        f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    )
    expected = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert int(request.headers["webhook-timestamp"]) == FakeClock().wall()


async def send(session: Session, url: str, **changes: Any) -> bool:
    context = session.context(**{"allow_private": True} | changes)
    return await sync(context, FOUND, Webhook(url + "/hooks/private-path", HOOK))


async def test_the_gateway_is_told_once_the_target_is_verified_and_again_of_a_change() -> None:
    async with Receiver() as gateway, open_sandbox() as session:
        context = session.context(allow_private=True)
        wanted = parse(webhook=hook(gateway.url))
        found = await TARGET.create(context, wanted, {})
        assert gateway.requests == []
        found = await TARGET.settle(context, found, wanted)
        assert session.entries() == ["TARGET_CREATED", "TARGET_VERIFIED", "WEBHOOK_SYNCED"]
        [request] = gateway.requests
        check_signature(request)
        body = request.json()
        assert body.pop("timestamp").endswith("Z")
        assert body == {
            "eventType": "TARGET_CONFIGURATION_UPDATED",
            "targetId": found.id,
            "name": "orders",
            "status": "VERIFIED",
            "source": "ingestd",
        }
        assert "authorization" not in request.headers  # fault 12: the API's token stays with the API
        assert PASSWORD.encode() not in request.body

        session.clock.wall_now += 1
        changed = parse(webhook=hook(gateway.url), event_types=["OTHER"])
        found = await TARGET.update(context, found, changed, {})
        await TARGET.settle(context, found, changed)
        assert [request.method for request in gateway.requests] == ["POST", "POST"]
        ids = {request.headers["webhook-id"] for request in gateway.requests}
        assert len(ids) == 2


async def test_nobody_is_told_of_a_target_that_was_not_verified() -> None:
    async with Receiver() as gateway, open_sandbox() as session:
        assert session.sandbox
        session.sandbox.set_faults([parse_fault("verify-fail:1")], [])
        context = session.context(allow_private=True)
        wanted = parse(webhook=hook(gateway.url))
        found = await TARGET.create(context, wanted, {})
        with pytest.raises(UserError, match="FAILED"):
            await TARGET.settle(context, found, wanted)
        assert gateway.requests == []


async def test_it_is_tried_again_under_the_same_id_as_late_as_it_asks() -> None:
    script = in_turn(
        Reply(503),
        Cut("rst"),
        Reply(429, {"Retry-After": "9"}),
        Reply(500),
        Reply(204, {"Content-Length": "0"}, b""),
    )
    async with Receiver(script) as gateway, open_api(gateway.url) as session:
        assert await send(session, gateway.url)
        assert len(gateway.requests) == 5
        assert len({(request.headers["webhook-id"], request.body) for request in gateway.requests}) == 1
        for request in gateway.requests:
            check_signature(request)
        slept = session.clock.slept
        assert slept[2] >= 9
        assert len(slept) == len(set(slept)) == 4
        [step] = session.notes
        assert step.entry == "WEBHOOK_SYNCED"
        assert (step.fields["attempts"], step.fields["status"]) == (5, 204)


@each(
    ("reply", "requests", "error"),
    [
        (Reply(400), 1, "the gateway answered 400"),
        (Reply(302, {"Location": "http://127.0.0.1:1/"}), 1, "the gateway answered 302"),
        (Reply(503), MAX_ATTEMPTS, "the gateway answered 503"),
        (Cut(), MAX_ATTEMPTS, "connection closed before an answer came"),
    ],
)
async def test_a_gateway_that_does_not_take_it_is_told_and_is_no_error(
    reply: Reply | Cut, requests: int, error: str
) -> None:
    async with Receiver(in_turn(reply)) as gateway, open_api(gateway.url) as session:
        assert not await send(session, gateway.url)
        assert len(gateway.requests) == requests
        [step] = session.notes
        assert step.entry == "WEBHOOK_FAILED"
        assert step.fields["error"] == error
        assert step.fields["host"] == "127.0.0.1"
        told = json.dumps(dict(step.fields))
        assert "private-path" not in told
        assert "whsec_" not in told
        assert len(session.clock.slept) == requests - 1, "it does not wait after the last attempt"


async def test_the_deadline_ends_the_attempts() -> None:
    async with (
        Receiver(in_turn(Reply(503, {"Retry-After": "30"}))) as gateway,
        open_api(gateway.url) as session,
    ):
        assert not await send(session, gateway.url, deadline_s=20.0)
        assert len(gateway.requests) == 1


@each(
    "url",
    [
        "http://127.0.0.1:9/hook",
        "https://localhost/hook",
        "https://10.1.2.3/hook",
        "https://[fe80::1]/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/hook",
        "https://user@example.com/hook",
    ],
)
async def test_internal_addresses_are_not_asked(url: str) -> None:
    async with open_sandbox() as session:
        with pytest.raises(UserError, match=r"target orders: webhook\.url: "):
            await sync(session.context(), FOUND, Webhook(url, HOOK))
        assert session.notes == []


async def test_plain_http_is_for_this_machine_alone_also_where_private_addresses_are_allowed() -> None:
    async with open_sandbox() as session:
        with pytest.raises(UserError, match="must begin with https://"):
            await send(session, "http://gateway.example.com")


async def test_a_name_of_an_internal_address_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it resolves to at that moment counts: between a look at the name and the request it may change."""
    async with Receiver() as gateway, open_api(gateway.url) as session:
        loopback = [(2, 1, 6, "", ("127.0.0.1", gateway.port))]
        monkeypatch.setattr("socket.getaddrinfo", lambda *args, **kwargs: loopback)
        url = f"https://gateway.example.com:{gateway.port}"
        assert not await send(session, url, allow_private=False)
        assert gateway.connections == 0
        [step] = session.notes
        assert "127.0.0.1" in str(step.fields["error"])


@each("secret", ["plain-secret", "whsec_c2hvcnQ=", "whsec_!!!"])
async def test_a_secret_that_does_not_serve_is_found_before_anything_is_made(secret: str) -> None:
    async with open_sandbox() as session:
        session.secrets["env:HOOK"] = secret
        wanted = parse(webhook={"url": "https://example.com/hook", "secret": "env:HOOK"})
        with pytest.raises(UserError, match=r"target orders: webhook\.secret: env:HOOK: ") as caught:
            await TARGET.create(session.context(), wanted, {})
        assert secret not in str(caught.value)
        assert session.sandbox
        assert session.sandbox.stats().requests == 0
