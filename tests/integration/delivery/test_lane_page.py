"""A web page with status 200, as a proxy or a sign-in gives it: who knows whether the API saw the request."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.sinks.answers import AnswerReader
from ingestd.sinks.ingest_api import IngestApi
from ingestd.sinks.sink import Sink
from ingestd.sinks.webhook import WebhookSink
from tests.each import each
from tests.integration.delivery.support import batches, event, rig, until
from tests.machine import patience
from tests.receiver import Reply

pytestmark = pytest.mark.anyio

PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
JSON_ONLY = AnswerReader(expect_json=True)
SINKS: dict[str, Callable[[str], Sink]] = {
    "ingest_api": lambda url: IngestApi(url, reading=JSON_ONLY),
    "webhook, expect json": lambda url: WebhookSink(url=url, name="hook", body="array", reading=JSON_ONLY),
}


class Gateway:
    """An aiohttp server that answers with a web page for as long as it is not ``open``."""

    def __init__(self) -> None:
        self.open = False
        self.pages: list[tuple[str, bytes]] = []
        self.taken: list[tuple[str, bytes]] = []

    async def answer(self, request: web.Request) -> web.Response:
        came = request.headers["Idempotency-Key"], await request.read()
        if self.open:
            self.taken.append(came)
            return web.json_response({"status": "accepted"}, status=202)
        self.pages.append(came)
        return web.Response(text=PAGE, content_type="text/html")

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/{path:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


@each("kind", SINKS)
async def test_a_page_instead_of_an_answer_is_no_delivery_and_the_same_request_is_repeated(kind: str) -> None:
    gateway = Gateway()
    async with (
        gateway.listening() as url,
        rig(Reply(), sink=SINKS[kind](url), max_attempts=1, give_up_after_s=0.01) as r,
    ):
        (batch,) = given = batches(1, size=3)
        await r.feed(given)
        async with r.running():
            await until(lambda: len(gateway.pages) >= 3, patience(30.0))
            assert r.book.ends == {}, "neither delivered nor given up"
            assert r.lane.circuit.state is BreakerState.PAUSED
            ((state, why),) = r.book.changes
            assert state is BreakerState.PAUSED
            assert "it answered with a web page: is this the API?" in why
            assert "a web page" in r.lane.circuit.why
            gateway.open = True
        assert r.book.states == [BreakerState.PAUSED, BreakerState.CLOSED]
        assert r.book.delivered == [0, 1, 2]
        r.book.assert_balanced(given)
    (taken,) = gateway.taken
    assert {*gateway.pages} == {taken}, "the same bytes under the same key"
    assert taken[0] == batch.id
    assert all(event(number) in taken[1] for number in range(3))
    assert r.receiver.requests == []
