"""Where the seeds contradict each other: their faults 1 to 7, each as what is right."""

from collections.abc import Callable
from typing import Any

import pytest

from ingestd.config import genesys_regions
from ingestd.control.engine.document import make_document
from ingestd.control.engine.kinds import KINDS
from ingestd.sinks.cloudevents import CloudEventsSink
from ingestd.transport.api_client import ApiClient
from ingestd.transport.auth import NoAuth
from ingestd.transport.client import Client
from ingestd.transport.oauth import TokenSource
from tests.each import each
from tests.integration.transport.support import FakeClock
from tests.machine import patience
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio

EVENT = b'{"specversion":"1.0","id":"1","source":"s","type":"order.created"}'
DOCUMENT: dict[str, Any] = {
    "target": {
        "orders": {
            "endpoint_url": "https://gateway.example.com/events",
            "event_types": ["order.created"],
            "auth": {"type": "NONE"},
        }
    },
    "integration": {
        "bridge": {
            "aws_account_id": "123456789012",
            "aws_region": "eu-central-1",
            "suffix": "main",
            "event_filter": ["v2.users.{id}.presence"],
        }
    },
}


def scripted(answer: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
    """The token's path answers with a token of 20 minutes, the others as told."""

    def script(request: Request) -> Reply:
        if request.path == "/oauth/token":
            return Reply(body=b'{"access_token":"t","expires_in":1200}')
        return answer(request)

    return script


def test_fault_1_there_is_one_table_of_hosts() -> None:
    assert genesys_regions.hosts("eu-central-1") == (
        "https://api.mypurecloud.de",
        "https://login.mypurecloud.de/oauth/token",
    )


async def test_fault_2_a_token_lasts_as_long_as_it_says_less_a_margin_and_is_renewed_once() -> None:
    clock = FakeClock()
    async with (
        Receiver(scripted(lambda request: Reply())) as receiver,
        Client(timeout_s=patience(2)) as client,
    ):
        tokens = TokenSource(
            client, token_url=f"{receiver.url}/oauth/token", client_id="i", client_secret="s", clock=clock
        )
        first = (await tokens.get()).generation
        clock.now += 1130
        assert (await tokens.get()).generation == first
        clock.now += 71
        assert (await tokens.get()).generation == first + 1
        await tokens.aclose()
    assert len(receiver.requests) == 2


@each("status", [200, 201, 202])
async def test_fault_3_every_2xx_is_a_success(status: int) -> None:
    async with (
        Receiver(lambda request: Reply(status, body=b'{"id":"1"}')) as receiver,
        Client(timeout_s=patience(2)) as client,
    ):
        api = ApiClient(client, NoAuth(), base_url=receiver.url, clock=FakeClock())
        assert await api.post("/api/v2/integrations", {"name": "a"}) == {"id": "1"}
    assert len(receiver.requests) == 1


def test_fault_4_one_file_declares_what_goes_to_either_control_plane() -> None:
    wanted = make_document(DOCUMENT).wanted
    assert {one.address for one in wanted} == {("target", "orders"), ("integration", "bridge")}
    assert {one.kind for one in wanted} <= set(KINDS)


async def test_fault_5_retry_after_is_a_floor_wherever_it_comes_from() -> None:
    clock = FakeClock()
    answers = iter([Reply(429, {"Retry-After": "7"}), Reply(503, {"Retry-After": "3"}), Reply(body=b"{}")])
    async with Receiver(lambda request: next(answers)) as receiver, Client(timeout_s=patience(2)) as client:
        api = ApiClient(client, NoAuth(), base_url=receiver.url, clock=clock)
        await api.get("/api/v2/integrations")
    assert sum(clock.slept) >= 10


def test_faults_6_and_7_an_event_has_one_key_wherever_and_whenever_it_is_sent() -> None:
    first, second = (CloudEventsSink(url="https://h/e", name=name) for name in ("one", "two"))
    key = first.headers("batch-1", [EVENT])["Idempotency-Key"]
    assert second.headers("batch-2", [EVENT])["Idempotency-Key"] == key
    assert first.headers("batch-1", [EVENT.replace(b'"1"', b'"2"')])["Idempotency-Key"] != key
