"""Very many clients: those that do nothing, or hardly anything, are nothing to the others."""

import asyncio
import resource
from contextlib import AsyncExitStack

import pytest

from tests.event_api import event, events
from tests.machine import patience
from tests.process.cli.run_support import Keeper, numbers, producer, serve
from tests.process.cli.support import Place

pytestmark = pytest.mark.anyio

IDLE = 1_000


async def test_a_thousand_connections_and_a_slow_client_hold_up_nobody(place: Place) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < IDLE + 200:
        pytest.skip(f"only {soft} files may be open")
    env = {
        "INGESTD_INGEST_MAX_CONNECTIONS": str(IDLE + 2),
        "INGESTD_INGEST_BODY_TIMEOUT": f"{patience(60):.0f}s",
        "INGESTD_INGEST_IDLE_TIMEOUT": f"{patience(120):.0f}s",
        "INGESTD_BATCH_MAX_AGE": "1s",
    }
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(Keeper())
        serving = await stack.enter_async_context(serve(place, api, env=env))
        port = serving.ingest_port
        idle = [await stack.enter_async_context(producer(port)) for _ in range(IDLE)]
        slow = await stack.enter_async_context(producer(port))
        body = event(1)
        slow.client.send(b"POST /v1/events HTTP/1.1\r\nHost: ingest\r\nContent-Type: application/json\r\n")
        slow.client.send(b"Content-Length: %d\r\n\r\n" % len(body))
        dripping = asyncio.create_task(_drip(slow.client.send, body[:-1]))
        unanswered = asyncio.create_task(slow.client.answer())

        busy = await stack.enter_async_context(producer(port))
        for number in range(100):
            await busy.give([event(100 + number)])
        assert not unanswered.done()

        async with producer(port) as one_too_many:
            answer = await one_too_many.post(events(1))
            assert (answer.status, answer.closes) == (503, True)
            assert int(answer.headers["retry-after"]) >= 1
        assert (await serving.status())["http"]["connections"] == IDLE + 2
        assert await serving.metric("ingestd_http_refused_connections_total") == 1

        await asyncio.gather(*(one.give([event(1_000 + n)]) for n, one in enumerate(idle)))  # all at once
        await dripping
        slow.client.send(body[-1:])
        assert (await unanswered).status == 202
        await serving.until_empty()
        await serving.stop()
    assert sorted(numbers(api.kept)) == [1, *range(100, 200), *range(1_000, 1_000 + IDLE)]
    # what one sent after the other arrived in few requests: nobody's event went alone
    assert len(api.taken) < 300


async def _drip(send: object, data: bytes) -> None:
    assert callable(send)
    for position in range(len(data)):
        send(data[position : position + 1])
        await asyncio.sleep(0.002)
