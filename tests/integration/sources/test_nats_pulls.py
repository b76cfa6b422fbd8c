"""How often a consumer is pulled."""

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ingestd.sources.nats.consumer import Consumer
from ingestd.sources.nats.settings import NatsConfig
from ingestd.sources.nats.stream_state import StreamState
from tests.integration.delivery.virtual_time import VIRTUAL, LoopClock

if TYPE_CHECKING:
    from ingestd.sources.nats.connection import NatsConnection

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [VIRTUAL], ids=["virtual time"])]


class Connection:
    """Of a server that ends each pull after ``expires_s``; ``waiting``: messages for the next pulls."""

    api_prefix, max_payload = "$JS.API", 1_048_576

    def __init__(self, expires_s: float) -> None:
        self.expires_s = expires_s
        self.pulls: list[float] = []
        self.waiting = self.given = 0

    async def claim(self, subject: str, own: str) -> bool:
        return True

    async def ask(self, what: str, body: Any = None) -> dict[str, Any]:
        config = {"ack_policy": "all", "max_expires": int(self.expires_s * 1e9)}
        return {"config": config, "delivered": {"stream_seq": 0}, "ack_floor": {"stream_seq": 0}}

    async def listen(self, message: Callable[[Any], None]) -> str:
        self.message = message
        return "inbox"

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        assert json.loads(data)["expires"] == int(self.expires_s * 1e9)
        loop = asyncio.get_running_loop()
        self.pulls.append(loop.time())
        while self.waiting:
            self.waiting -= 1
            self.given += 1
            self.message(_message(f"$JS.ACK.S.ingestd.1.{self.given}.{self.given}.0.0", {}))
        over = _message("", {"Status": "408", "Description": "Request Timeout"})
        loop.call_later(self.expires_s, self.message, over)


def _message(reply: str, headers: dict[str, str]) -> Any:
    return SimpleNamespace(reply=reply, headers=headers, data=b"{}", subject="s")


async def begun(expires_s: float) -> tuple[Consumer, Connection, asyncio.Event]:
    connection, news = Connection(expires_s), asyncio.Event()
    settings = NatsConfig.model_validate({"stream": "S"})
    consumer = Consumer(cast("NatsConnection", connection), settings, LoopClock(), news, owner="o")
    await consumer.begin(StreamState("S", "", 0, 0, 0), after=None)
    return consumer, connection, news


async def test_a_consumer_that_ends_each_pull_at_once_is_pulled_four_times_a_second() -> None:
    consumer, connection, _ = await begun(0.002)
    loop = asyncio.get_running_loop()
    while loop.time() < 10:
        assert await consumer.deliveries() == []
    assert 35 < len(connection.pulls) <= 41


async def test_a_pull_that_brought_some_is_followed_at_once() -> None:
    consumer, connection, _ = await begun(0.002)
    for _ in range(100):
        connection.waiting = 1
        while not await consumer.deliveries():
            pass
    assert asyncio.get_running_loop().time() < 0.5


async def test_who_wants_a_paused_consumer_to_return_does_not_wait() -> None:
    consumer, connection, news = await begun(0.002)
    assert await consumer.deliveries() == []
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, news.set)
    begun_at = loop.time()
    assert await consumer.deliveries() == []
    assert loop.time() - begun_at < 0.02
    assert len(connection.pulls) == 1
