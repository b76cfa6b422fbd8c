"""``delivery.order_by`` through the service: per key, what was accepted first arrives first."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable

import msgspec
import pytest

from tests.effort import seeds
from tests.event_api import events_of
from tests.process.cli.run_support import Keeper, Serving, producer, serve
from tests.process.cli.support import Place
from tests.receiver import Action, Cut, Reply, Request

pytestmark = pytest.mark.anyio

KEYS, EACH, CLIENTS = 12, 60, 3


class _Event(msgspec.Struct, rename="camel"):
    interaction_id: str
    event_time: str


def of_key(key: int, number: int) -> bytes:
    """One of the events of an interaction; its time tells its number."""
    return (
        f'{{"eventType":"routing.interaction.queue","interactionId":"k-{key:03}","schemaVersion":1,'
        f'"eventTime":"2026-01-01T09:{number // 60:02}:{number % 60:02}Z",'
        '"routingMetadata":{"queueId":"q","skill":"s","actionType":"QUEUE"}}'
    ).encode()


def first_of_each(found: Iterable[bytes]) -> dict[str, list[str]]:
    """Key -> times of its events, in the order in which each came first."""
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    for one in dict.fromkeys(found):
        event = msgspec.json.decode(one, type=_Event)
        by_key[event.interaction_id].append(event.event_time)
    return by_key


def assert_in_order(found: Iterable[bytes]) -> None:
    for name, times in first_of_each(found).items():
        assert times == sorted(times), name


class Unruly:
    """Fails a third of all requests, in one of four ways."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng

    def __call__(self, request: Request) -> Action | None:
        if self._random.random() < 0.7:
            return None
        late = {"Retry-After": "0"}
        faults: list[Action] = [Reply(503), Reply(429, late), Cut("rst"), Cut("before_headers")]
        return self._random.choice(faults)


async def _post_keys(serving: Serving, client: int, numbers: range, rng: random.Random) -> None:
    """The next events of this client's keys: of each key in their order, the keys mixed."""
    mine = [key for key in range(KEYS) if key % CLIENTS == client]
    left = {key: list(numbers) for key in mine}
    async with producer(serving.ingest_port) as one:
        while any(left.values()):
            keys = rng.choices([key for key in mine if left[key]], k=rng.choice([1, 5, 20]))
            batch = [of_key(key, left[key].pop(0)) for key in keys if left[key]]
            if batch:
                await one.give(batch)


@pytest.mark.parametrize("seed", seeds(1, 10))
async def test_of_each_key_the_first_arrivals_are_in_order_through_failures_and_kills(
    place: Place, seed: int
) -> None:
    rng = random.Random(seed)
    place.env = {
        "INGESTD_DELIVERY_RETRY_RATIO": "10",
        "INGESTD_DELIVERY_ORDER_BY": "interactionId",
        "INGESTD_DELIVERY_MAX_IN_FLIGHT": "5",
        "INGESTD_BATCH_MAX_EVENTS": "8",
    }
    async with Keeper(Unruly(rng), most_s=0.01) as api:
        for numbers in (range(EACH // 2), range(EACH // 2, EACH)):
            async with serve(place, api) as serving:
                enough = len(api.taken) + rng.randrange(3, 12)
                async with asyncio.TaskGroup() as tasks:
                    for client in range(CLIENTS):
                        tasks.create_task(_post_keys(serving, client, numbers, rng))
                await api.until(lambda _, enough=enough: len(api.taken) >= enough)  # type: ignore[misc]
                await serving.kill()
        async with serve(place, api) as serving:
            await serving.until_empty()
            await serving.stop()
    assert_in_order(one for request in api.batches for one in events_of(request))  # whatever the answer was
    assert_in_order(api.kept)
    expected = {of_key(key, number) for key in range(KEYS) for number in range(EACH)}
    assert set(api.kept) == expected
