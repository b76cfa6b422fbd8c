"""``spool = true``: a message is acknowledged when its events are in the spool of ``ingestd run``."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingestd.sources.nats.consumer import Consumer
from tests.event_api import INVALID, EventApi, event, events, once_each
from tests.process.sources.nats.support import (
    NatsServer,
    letters,
    running,
    settings,
    stream,
    until,
)
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio


async def test_messages_are_acknowledged_while_the_api_is_away_and_are_delivered_later(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    """Poison is a dead letter with its place, whatever keep_rejected says of producers."""
    gate = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    attributes = {"ce-specversion": "1.0", "ce-id": "5", "ce-source": "/s", "ce-type": "t"}
    async with EventApi(answer) as api, stream(shared_nats.url) as made:
        for one in [*events(30), INVALID, b"", event(0), *events(10, first=30)]:
            await made.publish(one, headers=attributes)
        source = {"servers": [shared_nats.url], "stream": made.name, "spool": True}
        async with running(settings(tmp_path, api.url, source)) as service:
            await made.settled(43)
            assert service.ledger["in_flight"] == 40
            assert (service.ledger["rejected"], service.ledger["duplicate"]) == (2, 1)
            gate.set()
            await service.settled(43)
        assert sorted(api.events) == sorted(events(40))
        found = sorted(letters(tmp_path), key=lambda one: one["offset"])
        assert [(one["offset"], one["line"], one["payload"]) for one in found] == [
            (31, 1, INVALID),
            (32, 1, b""),
        ]
        assert f"sequence 31, subject {made.name}.events, headers ce-specversion: 1.0" in found[0]["detail"]


async def test_a_full_spool_holds_up_the_stream_and_nothing_is_lost(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    gate = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    many = events(2000, note="x" * 900)
    async with EventApi(answer) as api, stream(shared_nats.url) as made:
        js = made.client.jetstream(publish_async_max_pending=500)
        for one in many:
            await js.publish_async(f"{made.name}.x", one)
        await js.publish_async_completed()
        source = {"servers": [shared_nats.url], "stream": made.name, "spool": True}
        more = {"spool": {"max_bytes": "1MiB"}, "delivery": {"request_timeout": 60}}
        async with running(settings(tmp_path, api.url, source, **more)) as service:
            deferred = service.service.ingest.admission.deferred
            await until(lambda: deferred[429])
            assert 0 < service.ledger["in_flight"] < 1500
            gate.set()
            await service.settled(2000)
            await made.settled(2000)
        assert sorted(api.events) == sorted(many)


@asynccontextmanager
async def acks_are_lost(lost: bool) -> AsyncIterator[None]:
    """Of all consumers, from before the start: a feed may acknowledge before its consumer is found."""

    async def never(self: Consumer, replies: list[str]) -> None:
        """They have left, and do not arrive."""

    with pytest.MonkeyPatch.context() as patch:
        if lost:
            patch.setattr(Consumer, "ack", never)
        yield


async def test_what_is_in_the_spool_is_not_taken_again_after_a_crash(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    """Also where the acknowledgement got lost, and events have no key: the place is in the spool's commit. A
    work queue is told again."""
    async with EventApi() as api, stream(shared_nats.url, retention="workqueue") as made:
        source = {"servers": [shared_nats.url], "stream": made.name, "spool": True}
        given = settings(tmp_path, api.url, source, schema={"dedup_key": "nothing"})
        for number in range(4):
            for one in events(50, first=50 * number):
                await made.publish(one)
            async with acks_are_lost(number < 3), running(given) as service:
                await until(lambda n=number: len(api.events) >= 50 * (n + 1))
                if number == 3:
                    await made.settled(200)
                    assert await service.metric("ingestd_source_redelivered_total") >= 50
                    assert (await made.ask(f"STREAM.INFO.{made.name}"))["state"]["messages"] == 0
                await service.crash()
        # a batch that the crash cut off from its answer goes out again, under its key
        arrived = [one for batch in once_each(api.batches).values() for one in batch]
        assert sorted(arrived) == events(200)


async def test_batches_that_were_made_without_the_spool_have_to_be_delivered_first(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    gate = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    async with EventApi(answer) as api, stream(shared_nats.url) as made:
        await made.publish(event(1))
        source = {"servers": [shared_nats.url], "stream": made.name}
        async with running(settings(tmp_path, api.url, source)) as service:
            await until(lambda: api.batches)
            await service.crash()
        async with running(settings(tmp_path, api.url, source | {"spool": True})) as service:
            await asyncio.wait([service.task])
            assert "run it once more with spool = false" in str(service.service.error)
        gate.set()
        for is_spooled in (False, True):
            async with running(settings(tmp_path, api.url, source | {"spool": is_spooled})) as service:
                await made.settled(1)
        once_each(api.batches)
        assert set(api.events) == {event(1)}
