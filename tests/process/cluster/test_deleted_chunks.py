"""Chunks that somebody deletes from the stream of events, or its retention does, while they are on their way:
nothing waits for them, and of the others none is lost or overtaken.
"""

import asyncio
from collections.abc import Sequence

import pytest

from tests.event_api import EventApi, event, events_of, once_each
from tests.nats_server import NatsServer
from tests.process.cluster.in_process import Process, spool, until
from tests.process.sources.support import number_of
from tests.receiver import Cut, Reply, Request

pytestmark = pytest.mark.anyio
IN_CHUNK = 5


def chunks(first: int, last: int, *gone: int) -> list[bytes]:
    """Events of these chunks but for those; they have three order keys."""
    kept = [at for at in range(first, last + 1) if at not in gone]
    numbers = [(at - 1) * IN_CHUNK + n for at in kept for n in range(IN_CHUNK)]
    return [event(number, note=f"k{number % 3}") for number in numbers]


async def give(process: Process, first: int, last: int) -> None:
    for number in range(first, last + 1):
        await process.take(chunks(number, number))


def numbers_in(request: Request) -> set[int]:
    return {number_of(one) for one in events_of(request)}


def assert_in_order(published: Sequence[bytes], came: Sequence[bytes]) -> None:
    """By order key."""
    for key in (b'"k0"', b'"k1"', b'"k2"'):
        assert [one for one in came if key in one] == [one for one in published if key in one]


async def test_what_is_left_of_a_batch_goes_first_and_copies_of_what_is_gone_go_out(
    shared_nats: NatsServer,
) -> None:
    for gone in ((3,), (1, 8), (8, 9, 10), (*range(1, 9),)):
        async with (
            EventApi(lambda request: Cut("rst")) as away,
            EventApi() as api,
            spool(shared_nats) as stream,
        ):
            async with stream.serving(away, worker=False) as edge:
                await give(edge, 1, 10)
            async with stream.serving(away) as first:
                await until(lambda: away.batches)
                await first.crash()
            assert numbers_in(away.batches[0]) == set(range(40)), "the first eight chunks"
            await stream.delete(*gone)
            async with stream.serving(api) as second:
                left = chunks(1, 10, *gone)
                await stream.settled(accepted=len(left), delivered=len(left))
                assert_in_order(left, api.events)
                once_each(api.batches)
                await give(second, 1, 10)  # as a producer that had no answer
                await stream.settled(accepted=50 + len(left), delivered=50, duplicate=len(left))
            assert set(api.events) == set(chunks(1, 10)), gone


async def test_what_a_batch_that_cannot_be_rebuilt_had_is_delivered_though_its_next_owner_dies(
    shared_nats: NatsServer,
) -> None:
    """Before it has made another of it."""

    async def dropped() -> bool:
        return any(one.places == [] for record in await stream.records() for one in record.settled)

    async with EventApi(lambda request: Cut("rst")) as away, EventApi() as api, spool(shared_nats) as stream:
        async with stream.serving(away, worker=False) as edge:
            await give(edge, 1, 8)
        async with stream.serving(away) as first:
            await until(lambda: away.batches)
            await first.crash()
        assert numbers_in(away.batches[0]) == set(range(40)), "all eight chunks"
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
                await give(first, 1, 4)
                await until(stream.has_delivered)
            gate.set()
            await stream.delete(gone)
            count = 4 * IN_CHUNK
            for more in (5, 6):
                async with stream.serving(api) as its_next:
                    await stream.settled(accepted=count, delivered=count)
                    await give(its_next, more, more)
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
            await give(first, 1, 5)
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
