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
        self.takes: Callable[[bytes], bool] = lambda _: self.open
        self.errors: Callable[[bytes], list[dict[str, object]]] = lambda _: []

    async def answer(self, request: web.Request) -> web.Response:
        came = request.headers["Idempotency-Key"], await request.read()
        if self.takes(came[1]):
            self.taken.append(came)
            return web.json_response({"errors": self.errors(came[1])}, status=202)
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
            await until(lambda: len(gateway.pages) >= 3 and bool(r.book.changes), patience(30.0))
            assert r.book.ends == {}, "neither delivered nor given up"
            assert r.lane.circuit.state is BreakerState.PAUSED
            ((state, why),) = r.book.changes
            assert state is BreakerState.PAUSED
            assert "200 with text/html: is this the API, or a sign-in page?" in why
            assert "a sign-in page" in r.lane.circuit.why
            gateway.open = True
        assert r.book.states == [BreakerState.PAUSED, BreakerState.CLOSED]
        assert r.book.delivered == [0, 1, 2]
        r.book.assert_balanced(given)
    (taken,) = gateway.taken
    assert {*gateway.pages} == {taken}, "the same bytes under the same key"
    assert taken[0] == batch.id
    assert all(event(number) in taken[1] for number in range(3))
    assert r.receiver.requests == []


async def test_two_pages_in_a_row_are_no_reason_to_pause() -> None:
    gateway = Gateway()
    gateway.takes = lambda _: len(gateway.pages) >= 2
    async with gateway.listening() as url, rig(Reply(), sink=SINKS["ingest_api"](url)) as r:
        await r.deliver(batches(1, size=3))
        assert (r.book.delivered, r.book.states) == ([0, 1, 2], [])
    assert {*gateway.pages} == {*gateway.taken}


async def test_a_batch_that_alone_gets_pages_is_given_up_and_holds_up_no_other() -> None:
    gateway = Gateway()
    gateway.takes = lambda body: event(0) not in body
    async with (
        gateway.listening() as url,
        rig(Reply(), sink=SINKS["ingest_api"](url), max_attempts=2, max_in_flight=1) as r,
    ):
        given = batches(6)
        await r.deliver(given)
        assert r.book.delivered == [1, 2, 3, 4, 5]
        assert "a sign-in page" in r.book.buried[0].detail
        assert r.book.buried[0].ambiguous, "it may have been taken"
        r.book.assert_balanced(given)


async def test_an_error_that_names_nobody_is_found_by_halving_and_the_others_are_delivered() -> None:
    gateway = Gateway()
    gateway.open = True
    gateway.errors = lambda body: [{"message": "it is bad"}] * (event(3) in body)
    async with gateway.listening() as url, rig(Reply(), sink=SINKS["ingest_api"](url)) as r:
        given = batches(1, size=8)
        await r.deliver(given)
        assert sorted(r.book.delivered) == [0, 1, 2, 4, 5, 6, 7]
        assert {number: end.detail for number, end in r.book.buried.items()} == {3: "it is bad"}
        r.book.assert_balanced(given)
    assert len(gateway.taken) == 7


async def test_one_that_may_pass_is_waited_out_with_the_same_bytes_under_the_same_key() -> None:
    gateway = Gateway()
    gateway.open = True
    down = [{"message": "the presence service is down", "retryable": True}]
    gateway.errors = lambda _: down if len(gateway.taken) < 3 else []
    async with gateway.listening() as url, rig(Reply(), sink=SINKS["ingest_api"](url)) as r:
        given = batches(1, size=4)
        await r.deliver(given)
        assert (r.book.delivered, r.book.buried) == ([0, 1, 2, 3], {})
    assert (len(gateway.taken), len({*gateway.taken})) == (3, 1)
