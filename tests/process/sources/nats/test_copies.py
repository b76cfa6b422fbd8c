"""Copies, and several sinks, where events come from a stream of a real NATS server and are posted, too."""

import asyncio
import sqlite3
from pathlib import Path

import aiohttp
import pytest

from tests.event_api import EventApi, event, events, once_each
from tests.process.sources.nats.support import (
    NatsServer,
    Running,
    letters,
    running,
    settings,
    stream,
    until,
)
from tests.receiver import Cut, Reply, Request

pytestmark = pytest.mark.anyio


async def post(service: Running, *posted: bytes) -> dict[str, int]:
    url = f"http://127.0.0.1:{service.service.server.port}/v1/events"
    async with aiohttp.ClientSession() as session:
        headers = {"Content-Type": "application/x-ndjson"}
        async with session.post(url, data=b"\n".join(posted), headers=headers) as answer:
            assert answer.status == 202, await answer.text()
            told: dict[str, int] = await answer.json()
            return told


async def test_an_event_that_is_posted_and_published_is_delivered_once(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    """Whichever came first, and also while that is on its way."""
    gate = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    async with EventApi(answer) as api, stream(shared_nats.url) as made:
        source = {"servers": [shared_nats.url], "stream": made.name}
        async with running(settings(tmp_path, api.url, source)) as service:
            await made.publish(event(1))
            await until(lambda: service.ledger["accepted"] == 1)
            assert (await post(service, event(1), event(2)))["duplicates"] == 1
            await made.publish(event(2))
            await made.publish(event(2))
            await until(lambda: service.ledger["duplicate"] == 3)
            gate.set()
            await service.settled(5)
            await made.settled(3)
            assert service.ledger["delivered"] == 2
        assert sorted(api.events) == [event(1), event(2)]


async def test_a_copy_of_what_is_not_on_disk_after_all_goes_in_its_place(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    """Another program holds the state file while an event is posted; the same one comes from the stream."""
    async with EventApi() as api, stream(shared_nats.url) as made:
        source = {"servers": [shared_nats.url], "stream": made.name}
        async with running(settings(tmp_path, api.url, source)) as service:
            (feed,) = service.service.brokers.feeds
            await until(lambda: feed.intake)
            connection = sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            url = f"http://127.0.0.1:{service.service.server.port}/v1/events"
            async with aiohttp.ClientSession() as session:
                headers = {"Content-Type": "application/x-ndjson"}
                posting = asyncio.create_task(session.post(url, data=event(1), headers=headers))
                await until(lambda: service.service.pipeline.window.pending)
                await made.publish(event(1))
                await until(lambda: service.service.pipeline.window.follower_count)
                answer = await posting
                assert answer.status == 503
            connection.execute("ROLLBACK")
            connection.close()
            await service.settled(1)
            await made.settled(1)
        assert api.events == [event(1)]


async def test_a_stream_is_acknowledged_when_the_slowest_sink_is_done(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    gate = asyncio.Event()

    async def slow(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    async with EventApi(slow) as api, EventApi() as quick, stream(shared_nats.url) as made:
        for one in events(20):
            await made.publish(one)
        sinks = {
            "slow": {"type": "ingest_api"},
            "quick": {"type": "ingest_api", "url": quick.url},
        }
        source = {"servers": [shared_nats.url], "stream": made.name}
        given = settings(tmp_path, api.url, source, sinks=sinks, schema={"dedup_key": "nothing"})
        async with running(given) as service:
            await until(lambda: len(quick.events) == 20 and api.batches)
            assert (await made.consumer())["ack_floor"]["stream_seq"] == 0
            await service.crash()
        gate.set()
        async with running(given) as service:
            await service.settled(20)
            await made.settled(20)
        once_each(api.batches)
        once_each(quick.batches)
        assert (set(api.events), quick.events) == (set(events(20)), events(20))


async def test_what_is_left_of_a_batch_whose_messages_are_gone_is_sent(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    """The stream has deleted some between the crash and the start: by its age, or somebody did. Nothing waits
    for them, and of the others none is lost, or overtaken by a later one of its key."""
    published = [event(at, note=f"k{at % 3}") for at in range(13)]
    ordered = {"delivery": {"order_by": "attributes.note"}}
    for number, gone in enumerate(([3], [1], [10], [*range(1, 11)], [9, 10, 11])):
        directory = tmp_path / str(number)
        async with EventApi(lambda request: Cut("rst")) as away, stream(shared_nats.url) as made:
            for one in published[:10]:
                await made.publish(one)
            source = {"servers": [shared_nats.url], "stream": made.name}
            async with running(settings(directory, away.url, source, **ordered)) as service:
                await until(lambda api=away: api.batches)
                await service.crash()
            for one in published[10:]:
                await made.publish(one)
            for sequence in gone:
                assert (await made.ask(f"STREAM.MSG.DELETE.{made.name}", {"seq": sequence}))["success"]
            left = [one for at, one in enumerate(published) if at + 1 not in gone]
            async with EventApi() as api:
                async with running(settings(directory, api.url, source, **ordered)) as service:
                    await until(lambda api=api, left=left: set(left) <= set(api.events))
                    await made.settled(13)
                    await until(lambda s=service: s.ledger["in_flight"] == 0)
                for kind in (b'"k0"', b'"k1"', b'"k2"'):
                    assert [one for one in api.events if kind in one] == [
                        one for one in left if kind in one
                    ], gone
            assert letters(directory) == []
