"""Chunks that somebody deletes from the stream of events, or its retention does, while they are on their way:
nothing waits for them, and of the others none is lost or overtaken.

Edge and worker are in this process; the server is a real one, for the rest of the run, too.
"""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ingestd.app.cluster.judgement import open_connection
from ingestd.app.cluster.run import open_cluster_service, run
from ingestd.app.cluster.service import ClusterService
from ingestd.app.cluster.spool import is_balanced, stat_of
from ingestd.cluster import installation
from ingestd.cluster.names import Share, StreamNames
from ingestd.cluster.parked_sinks import ParkEntry, set_parked
from ingestd.cluster.share_log import Record, ShareLog
from ingestd.cluster.share_owner import ShareOwner
from ingestd.config import Settings
from ingestd.core.clock import SystemClock, system_rng
from tests.event_api import EventApi, event, events_of, once_each
from tests.machine import patience
from tests.nats_server import NatsServer
from tests.process.cli.run_support import post
from tests.process.sources.support import number_of
from tests.receiver import Cut, Reply, Request

if TYPE_CHECKING:
    from ingestd.sources.nats.connection import NatsConnection

pytestmark = pytest.mark.anyio
_names = itertools.count()
IN_CHUNK = 5


def chunks(first: int, last: int, *gone: int) -> list[bytes]:
    """Events of these chunks but for those; they have three order keys."""
    kept = [at for at in range(first, last + 1) if at not in gone]
    numbers = [(at - 1) * IN_CHUNK + n for at in kept for n in range(IN_CHUNK)]
    return [event(number, note=f"k{number % 3}") for number in numbers]


def numbers_in(request: Request) -> set[int]:
    return {number_of(one) for one in events_of(request)}


def assert_in_order(published: Sequence[bytes], came: Sequence[bytes]) -> None:
    """By order key."""
    for key in (b'"k0"', b'"k1"', b'"k2"'):
        assert [one for one in came if key in one] == [one for one in published if key in one]


async def until(condition: Callable[[], object] | Callable[[], Awaitable[object]]) -> None:
    end = time.monotonic() + patience(20)
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.03)


class Spool:
    """One partition, one sink; a process of it is an edge and a worker."""

    def __init__(self, server: NatsServer, batch_events: int, order_by: str) -> None:
        self._tree: dict[str, Any] = {
            "spool": {
                "kind": "nats",
                "servers": [server.url],
                "name": f"D{os.getpid()}-{next(_names)}",
                "partitions": 1,
                "max_bytes": "4MiB",
            },
            "ingest": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0"},
            "batch": {"max_events": batch_events, "max_age": 0.05},
            "delivery": {"order_by": order_by, "backoff_base": 0.01, "backoff_cap": 0.05},
        }
        self.names = StreamNames(self._tree["spool"]["name"])
        self.connection: NatsConnection

    def settings(self, url: str = "http://127.0.0.1:9") -> Settings:
        sink = {"type": "ingest_api", "url": url, "auth": {"type": "none"}}
        return Settings.model_validate(self._tree | {"sinks": {"one": sink}})

    @asynccontextmanager
    async def serving(self, api: EventApi) -> AsyncIterator["Process"]:
        settings = self.settings(api.url)
        async with open_cluster_service(lambda: settings, settings, edge=True, worker=True) as service:
            process = Process(service, asyncio.create_task(run(service)))
            try:
                await until(lambda: service.link and service.link.connection)
                yield process
            finally:
                await process.crash()

    async def delete(self, *sequences: int) -> None:
        for sequence in sequences:
            await self.connection.ask(f"STREAM.MSG.DELETE.{self.names.events}", {"seq": sequence})

    async def park(self, on: bool) -> None:
        entry = ParkEntry(time.time() if on else 0.0)
        await set_parked(self.connection, self.names, "one", entry)

    async def records(self) -> list[Record]:
        log = ShareLog(self.connection, self.names, Share("one", 0), SystemClock())
        return [one.record for one in await log.read()]

    async def has_delivered(self) -> bool:
        return any(record.counts.delivered for record in await self.records())

    async def first_chunk(self) -> int:
        return int((await self.connection.ask(f"STREAM.INFO.{self.names.events}"))["state"]["first_seq"])

    async def is_purged_to(self, first: int) -> bool:
        return await self.first_chunk() >= first

    async def settled(self, **counts: int) -> None:
        """Wait until nothing waits any more, and it is these that did not."""
        end = time.monotonic() + patience(20)
        while True:
            (found,) = (await stat_of(self.connection, self.settings()))["sinks"]
            assert is_balanced(found), found
            if counts.items() <= found.items() and found["in_flight"] == found["chunks_behind"] == 0:
                return
            assert time.monotonic() < end, (counts, found)
            await asyncio.sleep(0.05)


class Process:
    def __init__(self, service: ClusterService, task: "asyncio.Task[None]") -> None:
        self.service = service
        self._task = task

    @property
    def owner(self) -> ShareOwner:
        assert self.service.worker
        (owned,) = self.service.worker.owned.values()
        return owned.owner

    async def crash(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def take(self, first: int, last: int) -> None:
        """Events of these chunks, as many chunks."""
        assert self.service.server
        for number in range(first, last + 1):
            assert (await post(self.service.server.port, chunks(number, number))).status == 202


@asynccontextmanager
async def spool(
    server: NatsServer, *, batch_events: int = 40, order_by: str = "attributes.note"
) -> AsyncIterator[Spool]:
    made = Spool(server, batch_events, order_by)
    async with open_connection(made.settings()) as made.connection:
        await installation.create(made.connection, made.settings(), system_rng())
        yield made
        for name in (made.names.events, made.names.frozen, made.names.dead, made.names.state):
            await made.connection.ask(f"STREAM.DELETE.{name}")


async def test_what_is_left_of_a_batch_goes_first_and_copies_of_what_is_gone_go_out(
    shared_nats: NatsServer,
) -> None:
    for gone in ((3,), (1, 8), (8, 9, 10), (*range(1, 9),)):
        async with (
            EventApi(lambda request: Cut("rst")) as away,
            EventApi() as api,
            spool(shared_nats) as stream,
        ):
            async with stream.serving(away) as first:
                await first.take(1, 10)
                await until(lambda: away.batches)
                await first.crash()
            assert numbers_in(away.batches[0]) == set(range(40)), "the first eight chunks"
            await stream.delete(*gone)
            async with stream.serving(api) as second:
                left = chunks(1, 10, *gone)
                await stream.settled(accepted=len(left), delivered=len(left))
                assert_in_order(left, api.events)
                once_each(api.batches)
                await second.take(1, 10)  # as a producer that had no answer
                await stream.settled(accepted=50 + len(left), delivered=50, duplicate=len(left))
            assert set(api.events) == set(chunks(1, 10)), gone


async def test_what_a_batch_that_cannot_be_rebuilt_had_is_delivered_though_its_next_owner_dies(
    shared_nats: NatsServer,
) -> None:
    """Before it has made another of it."""

    async def dropped() -> bool:
        return any(one.places == [] for record in await stream.records() for one in record.settled)

    async with EventApi(lambda request: Cut("rst")) as away, EventApi() as api, spool(shared_nats) as stream:
        async with stream.serving(away) as first:
            await first.take(1, 8)
            await until(lambda: away.batches)
            await first.crash()
        await stream.delete(3)
        await stream.park(True)
        async with stream.serving(api):
            await until(dropped)
        await stream.park(False)
        async with stream.serving(api):
            await stream.settled(accepted=35, delivered=35)
        assert_in_order(chunks(1, 8, 3), api.events)
        once_each(api.batches)


async def test_a_chunk_that_was_settled_before_it_was_deleted_stays_in_the_ledger(
    shared_nats: NatsServer,
) -> None:
    for gone in (2, 4):
        gate = asyncio.Event()

        async def answer(request: Request, *, gone: int = gone, gate: asyncio.Event = gate) -> Reply:
            if (gone - 1) * IN_CHUNK not in numbers_in(request):
                await gate.wait()
            return Reply()

        async with (
            EventApi(answer) as slow,
            EventApi() as api,
            spool(shared_nats, batch_events=IN_CHUNK, order_by="") as stream,
        ):
            async with stream.serving(slow) as first:
                await first.take(1, 4)
                await until(stream.has_delivered)
            gate.set()
            await stream.delete(gone)
            count = 4 * IN_CHUNK
            for more in (5, 6):
                async with stream.serving(api) as its_next:
                    await stream.settled(accepted=count, delivered=count)
                    await its_next.take(more, more)
                    count += IN_CHUNK
                    await stream.settled(accepted=count, delivered=count)


async def test_a_chunk_that_is_deleted_on_its_way_takes_none_before_it_along(shared_nats: NatsServer) -> None:
    """The server takes all before it for settled."""
    gates = {number: asyncio.Event() for number in (1, 2)}

    async def answer(request: Request) -> Reply:
        for number, gate in gates.items():
            if (number - 1) * IN_CHUNK in numbers_in(request):
                await gate.wait()
        return Reply()

    async with EventApi(answer) as api, spool(shared_nats, batch_events=IN_CHUNK, order_by="") as stream:
        async with stream.serving(api) as first:
            await first.take(1, 5)
            await until(lambda: len(api.batches) == 5)
            owner = first.owner
            await stream.delete(4)
            gates[1].set()
            await until(lambda: stream.is_purged_to(2))
            assert await stream.first_chunk() == 2
            assert first.owner is owner, "it did not begin again"
            await first.crash()
        gates[2].set()
        async with stream.serving(api):
            await stream.settled(accepted=25, delivered=25)
        assert set(once_each(api.batches).keys()) == set(api.keys[:5])
        assert numbers_in(api.batches[5]) == set(range(IN_CHUNK, 2 * IN_CHUNK))
