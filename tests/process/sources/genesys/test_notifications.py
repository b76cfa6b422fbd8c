"""Notifications of Genesys Cloud under ``ingestd run``; the sandbox is the platform."""

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ingestd.app.status import describe
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.server import Running as Platform
from ingestd.sandbox.server import Sandbox
from ingestd.sources.genesys.channel import Channel
from ingestd.sources.genesys.settings import NotificationsConfig
from ingestd.sources.genesys.source import NotificationsSource
from ingestd.sources.source import Source
from ingestd.telemetry.audit_entry import no_audit
from ingestd.transport.api_client import ApiClient
from ingestd.transport.auth import NoAuth
from ingestd.transport.websocket import WebSocketClient
from ingestd.wiring.http_clients import make_client
from tests.contract import test_sources as contract
from tests.event_api import INVALID, event
from tests.process.sources.nats.support import Running, letters, running, until

pytestmark = pytest.mark.anyio
TOPIC, OTHER = "v2.users.a.presence", "v2.users.b.presence"
NAME = "genesys_notifications.genesys_notifications"


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    async with Sandbox(SandboxOptions(heartbeat_s=0.05)).serve() as running:
        yield running


def settings(directory: Path, platform: Platform, **more: Any) -> Settings:
    source = {"topics": [TOPIC, OTHER], "unwrap": "eventBody", **more}
    return Settings.model_validate(
        {
            "api": {
                "url": platform.url,
                "token_url": platform.token_url,
                "client_id": "sandbox",
                "client_secret": "sandbox",
            },
            "state": {"dir": str(directory / "state")},
            "ingest": {"listen": "127.0.0.1:0", "genesys_notifications": source},
            "admin": {"listen": "127.0.0.1:0"},
            "batch": {"max_age": 0.05},
            "delivery": {"backoff_base": 0.01, "backoff_cap": 0.05, "shutdown_timeout": 5},
        }
    )


async def emit(platform: Platform, number: int, topic: str = TOPIC) -> int:
    """Over HTTP, as a person would."""
    body = {"topicName": topic, "eventBody": json.loads(event(number))}
    return int((await ask(platform, "", body))["sent"])


async def ask(platform: Platform, what: str = "", body: Any = None) -> Any:
    async with (
        aiohttp.ClientSession() as person,
        person.post(f"{platform.url}/_sandbox/notifications{what}", json=body) as answer,
    ):
        assert answer.status == 200
        return await answer.json()


def listening(platform: Platform) -> bool:
    return any(one["connected"] and len(one["topics"]) == 2 for one in platform.sandbox.notifications.shown)


def delivered(platform: Platform) -> list[int]:
    return [int(json.loads(one)["interactionId"][2:]) for one in platform.sandbox.kept()]


def told(directory: Path, entry: str) -> list[dict[str, Any]]:
    lines = (directory / "state" / "audit.jsonl").read_text().splitlines()
    return [found for line in lines if (found := json.loads(line))["event"] == entry]


def source_of(service: Running) -> dict[str, Any]:
    (found,) = describe(service.service)["sources"]
    return dict(found)


async def test_events_come_out_of_their_envelopes_and_a_closing_socket_costs_none(
    tmp_path: Path, platform: Platform
) -> None:
    async with running(settings(tmp_path, platform)) as service:
        await until(lambda: listening(platform), service.task)
        for number in range(5):
            assert await emit(platform, number, TOPIC if number % 2 else OTHER) == 1
        assert await emit(platform, 99, "v2.users.c.presence") == 0
        await ask(platform, "", {"topicName": TOPIC, "eventBody": json.loads(INVALID)})
        assert (await ask(platform, "/closing"))["told"] == 1
        await until(lambda: sum(one["connected"] for one in platform.sandbox.notifications.shown) == 2)
        await until(lambda: sum(len(one["topics"]) for one in platform.sandbox.notifications.shown) == 4)
        for number in range(5, 10):
            assert await emit(platform, number) == 2, "both are listened to for a while"
        await until(lambda: len(delivered(platform)) == 10, service.task)
        assert await service.metric("ingestd_source_redelivered_total") == 5
        assert await service.metric("ingestd_source_connected") == 1
        found = source_of(service)
        assert (found["gaps"], found["connected"]) == (0, True)
    assert sorted(delivered(platform)) == [*range(10)]
    (buried,) = letters(tmp_path)
    assert json.loads(buried["payload"]) == json.loads(INVALID)
    assert re.search(rf"topic {TOPIC}, correlation id [0-9a-f-]{{36}}", buried["detail"])
    assert told(tmp_path, "SOURCE_GAP") == []


async def test_a_time_when_nobody_listened_is_told_as_a_gap(
    tmp_path: Path, platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    """After a cut, and after a crash: then from the last heartbeat that is on disk."""
    async with running(settings(tmp_path, platform)) as service:
        await until(lambda: listening(platform), service.task)
        await emit(platform, 1)
        await until(lambda: delivered(platform) == [1], service.task)
        platform.sandbox.notifications.deaf = True
        assert (await ask(platform, "/cut"))["cut"] == 1
        await until(lambda: not source_of(service)["connected"], service.task)
        assert await emit(platform, 2) == 0
        platform.sandbox.notifications.deaf = False
        await until(lambda: source_of(service)["gaps"] == 1 and listening(platform), service.task)
        assert await emit(platform, 3) == 1
        await until(lambda: delivered(platform) == [1, 3], service.task)
        assert await service.metric("ingestd_source_gaps_total") == 1
        assert await service.metric("ingestd_source_gap_seconds_total") > 0
        assert await service.metric("ingestd_source_connected") == 1
        last = source_of(service)["last_gap"]
        await service.crash()
    assert await emit(platform, 4) == 0
    async with running(settings(tmp_path, platform)) as service:
        await until(lambda: listening(platform), service.task)
        await emit(platform, 5)
        await until(lambda: delivered(platform) == [1, 3, 5], service.task)
        assert source_of(service)["gaps"] == 1
    gaps = told(tmp_path, "SOURCE_GAP")
    assert [(one["source"], one["topics"]) for one in gaps] == [(NAME, 2)] * 2
    assert all(one["since"] < one["until"] for one in gaps)
    assert gaps[0]["until"] <= gaps[1]["since"]
    said = "\n".join(caplog.messages)
    assert f"gap: notifications from {last} were not received" in said
    assert "/channels/streaming" not in said, "who has the address can listen"


async def test_it_waits_for_a_platform_that_is_away(tmp_path: Path, platform: Platform) -> None:
    platform.sandbox.notifications.deaf = True
    async with running(settings(tmp_path, platform)) as service:
        await until(lambda: platform.sandbox.notifications.shown, service.task)
        assert not source_of(service)["connected"]
        platform.sandbox.notifications.deaf = False
        await until(lambda: listening(platform), service.task)
        assert source_of(service)["gaps"] == 0, "it had not listened before"
        assert len(platform.sandbox.notifications.shown) <= 20


# --- the contract of sources ---


@asynccontextmanager
async def notifications(directory: Path) -> AsyncIterator[Source]:
    clock = SystemClock()
    client = make_client(Settings(), max_connections=4)
    async with (
        Sandbox(SandboxOptions()).serve() as platform,
        contract.journal(directory) as journal,
        client,
        WebSocketClient(ca_file=None, trust_env=False, clock=clock) as sockets,
    ):
        async with (
            aiohttp.ClientSession() as person,
            person.post(
                platform.token_url,
                data={"grant_type": "client_credentials"},
                headers={"Authorization": "Basic c2FuZGJveDpzYW5kYm94"},
            ) as answer,
        ):
            token = (await answer.json())["access_token"]
        api = ApiClient(client, _Token(token), base_url=platform.url, clock=clock)
        source = NotificationsSource(
            "events",
            NotificationsConfig(topics=[TOPIC], unwrap="eventBody.text"),
            journal,
            channel=lambda: Channel(api, sockets, clock),
            clock=clock,
            rng=random.Random(0),
            warn=print,
            audit=no_audit,
        )
        await source.open()
        for one in contract.EVENTS:
            body = {"topicName": TOPIC, "eventBody": {"text": one.decode()}}
            await platform.sandbox.notifications.emit(body)
        try:
            yield source
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await source.close()


class _Token(NoAuth):
    def __init__(self, token: str) -> None:
        self._token = token

    async def headers(self, url: str, body: bytes, headers: Any) -> tuple[dict[str, str], int]:
        return {"Authorization": f"Bearer {self._token}"}, 0


async def test_it_keeps_the_contract_of_sources(tmp_path: Path) -> None:
    for number, test in enumerate(
        (
            contract.test_events_come_in_order_and_each_chunk_has_a_receipt_that_counts_them,
            contract.test_stop_ends_it_also_while_it_waits_for_more,
        )
    ):
        directory = tmp_path / str(number)
        directory.mkdir()
        await test(tmp_path=directory, opened=notifications)
