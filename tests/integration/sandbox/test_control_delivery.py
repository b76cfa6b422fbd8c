"""From a published event to the endpoint of a verified target."""

import base64
import hashlib
import hmac
import json

import pytest

from ingestd.sandbox.control.delivery import sign_jwt
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.faults import parse_script
from ingestd.sandbox.tokens import basic_matches
from tests.each import each
from tests.integration.sandbox.conftest import Client, HandClock, Start
from tests.integration.sandbox.control_support import ONLY_POLLS, TARGETS, get, make, until
from tests.integration.sandbox.test_event_bridge import event, publish

pytestmark = pytest.mark.anyio
HOOK = "/hooks/orders"


async def verified(client: Client, **changes: object) -> str:
    endpoint = {"endpointUrl": client.running.url + HOOK, "eventTypes": ["order.created"]}
    plain = {"authType": "NONE", "authConfig": ...}
    made = await make(client, TARGETS, **{**endpoint, **plain, **changes})
    for _ in range(2):
        last = await get(client, f"{made['selfUri']}/verify")
    assert last == {"status": "VERIFIED"}
    return str(made["id"])


async def test_an_event_flows_through_a_verified_target_byte_for_byte_and_in_order(start: Start) -> None:
    client = await start(control=ONLY_POLLS)
    id_ = await verified(client)
    sent = [event(number) for number in range(5)]
    for one in (*sent, event(9, type="order.deleted")):
        await publish(client, one, key=json.loads(one)["id"])
    await publish(client, sent[0], key="e-0")  # recognised: it goes nowhere a second time
    await until(lambda: client.sandbox.control.targets[id_].counts["delivered"] == 5)
    assert client.sandbox.kept(HOOK) == sent


async def test_a_target_that_is_not_verified_receives_nothing(start: Start) -> None:
    client = await start(control=ONLY_POLLS)
    endpoint = client.running.url + "/hooks/pending"
    await make(client, TARGETS, name="pending", endpointUrl=endpoint, eventTypes=["order.created"])
    id_ = await verified(client)
    await publish(client, event())
    await until(lambda: client.sandbox.control.targets[id_].counts["delivered"] == 1)
    assert client.sandbox.kept("/hooks/pending") == []


async def test_the_endpoint_gets_the_targets_headers_and_login(start: Start) -> None:
    seen: dict[str, str] = {}
    client = await start(control=ONLY_POLLS)
    take = client.sandbox.remote._webhooks._take

    async def look(exchange):  # type: ignore[no-untyped-def]
        seen.update(exchange.headers)
        return await take(exchange)

    client.sandbox.remote._webhooks._take = look  # type: ignore[method-assign]
    login = {"username": "relay", "password": "never-to-be-seen"}
    id_ = await verified(client, authType="BASIC", authConfig=login)
    await publish(client, event())
    await until(lambda: client.sandbox.control.targets[id_].counts["delivered"] == 1)
    assert seen["X-Source-System"] == "GenesysCloud"
    assert seen["Content-Type"] == "application/cloudevents+json"
    assert basic_matches(seen["Authorization"], "relay", "never-to-be-seen")


async def test_an_oauth_target_logs_in_at_its_token_endpoint_once(start: Start) -> None:
    client = await start(control=ONLY_POLLS)
    login = {"clientId": "sandbox", "clientSecret": "sandbox", "tokenUrl": client.running.token_url}
    id_ = await verified(client, authType="OAUTH2", authConfig=login)
    before = client.sandbox.stats().tokens_issued
    for number in range(3):
        await publish(client, event(number))
    await until(lambda: client.sandbox.control.targets[id_].counts["delivered"] == 3)
    assert client.sandbox.stats().tokens_issued == before + 1


async def test_a_delivery_is_repeated_as_the_retry_policy_says_and_then_given_up(start: Start) -> None:
    script = [{"match": {"path": HOOK, "nth": nth}, "answer": {"status": 503}} for nth in (1, 2, 3, 4, 5)]
    clock = HandClock()
    client = await start(control=ONLY_POLLS, rules=parse_script(json.dumps(script).encode()), clock=clock)
    policy = {"maxRetries": 2, "backoffStrategy": "EXPONENTIAL", "initialDelaySeconds": 2}
    counts = client.sandbox.control.targets[await verified(client, retryPolicy=policy)].counts
    await publish(client, event(1))
    await publish(client, event(2))
    await until(lambda: counts["delivered"] == 1)
    assert (counts["attempts"], counts["failed"]) == (6, 1)
    assert clock.slept == [2.0, 4.0, 2.0, 4.0]
    assert client.sandbox.kept(HOOK) == [event(2)]


async def test_nothing_is_sent_to_anywhere_but_loopback(start: Start) -> None:
    client = await start(control=ONLY_POLLS)
    id_ = await verified(client, endpointUrl="https://192.0.2.1/hook")
    await publish(client, event())
    assert client.sandbox.control.targets[id_].counts == {"elsewhere": 1}


@each(("place", "status"), [("/hooks/good", "VERIFIED"), ("/nowhere", "FAILED")])
async def test_by_option_the_endpoint_is_asked_before_it_is_verified(
    start: Start, place: str, status: str
) -> None:
    client = await start(control=ControlOptions(verify_endpoints=True))
    made = await make(client, TARGETS, endpointUrl=client.running.url + place)
    await until(lambda: client.sandbox.control.targets[made["id"]].probed is not None)
    answers = [await get(client, f"{made['selfUri']}/verify") for _ in range(2)]
    assert answers[-1]["status"] == status
    if status == "VERIFIED":
        (asked,) = client.sandbox.kept(place)
        assert json.loads(asked) == {"type": "target.verification", "targetId": made["id"]}


def test_a_jwt_is_signed_so_that_its_receiver_can_check_it() -> None:
    signed = sign_jwt("me", "you", "a-key", now=1_000.5)
    text, _, signature = signed.rpartition(".")
    head, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in text.split("."))
    assert (head, claims) == (
        {"alg": "HS256", "typ": "JWT"},
        {"iss": "me", "aud": "you", "iat": 1000, "exp": 1300},
    )
    expected = hmac.new(b"a-key", text.encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64decode(signature + "==") == expected
