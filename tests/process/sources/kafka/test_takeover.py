"""Two members of a group, of which one is killed at any moment, and its partitions move; a real broker."""

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.effort import FUZZ, seeds
from tests.event_api import EventApi, event, events, events_of, once_each
from tests.machine import patience, patience_of_test
from tests.process.cli.run_support import Serving, serve
from tests.process.cli.support import Place
from tests.process.cli.test_run_kill import POISON, FaultyApi
from tests.process.sources.kafka.support import (
    KafkaServer,
    Topic,
    kafka_server,
    running,
    settings,
    topic,
    until,
)
from tests.process.sources.nats.test_kill import assert_order
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio

ROUNDS = 12 if FUZZ else 4
PARTITIONS = 4
SESSION_S = 3
NO_KEY = {"schema": {"dedup_key": "nothing"}}
"""That events arrive once is not the window's doing."""


class Member:
    """One that may be killed, and comes again with the same state directory."""

    def __init__(self, place: Place, api: FaultyApi, config: Path) -> None:
        self.place = place
        self._api = api
        self._config = config
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        self.serving: Serving = await self._stack.enter_async_context(
            serve(self.place, self._api, "--config", self._config)
        )

    async def kill(self) -> None:
        await self.serving.kill()
        await self._stack.aclose()

    async def stop(self) -> None:
        await self.serving.stop()
        await self._stack.aclose()


async def publish(made: Topic, rng: random.Random, published: list[bytes], stop: asyncio.Event) -> None:
    while not stop.is_set():
        for _ in range(rng.choice([1, 5, 40])):
            number = len(published)
            note = POISON.decode() if rng.random() < 0.01 else f"k{number % 5}"
            published.append(event(number, note=note))
            made.send(published[-1], number % 5 % PARTITIONS)
        await asyncio.to_thread(made.produce)
        await asyncio.sleep(rng.uniform(0, 0.02))


async def all_committed(made: Topic) -> None:
    made.committed(made.name)  # makes the reader
    for partition in range(PARTITIONS):
        at = made.kafka.TopicPartition(made.name, partition)
        _, last = await asyncio.to_thread(made._readers[made.name].get_watermark_offsets, at)
        await made.settled(last, made.name, partition)


@asynccontextmanager
async def two_members(tmp_path: Path, made: Topic, api: FaultyApi) -> AsyncIterator[list[Member]]:
    members = []
    for name in ("one", "two"):
        place = Place(tmp_path / name)
        place.directory.mkdir()
        place.env = {
            "INGESTD_BATCH_MAX_EVENTS": "20",
            "INGESTD_DELIVERY_MAX_IN_FLIGHT": "3",
            "INGESTD_DELIVERY_ORDER_BY": "attributes.note",
            "INGESTD_SCHEMA_DEDUP_KEY": "nothing",
        }
        config = place / "ingestd.toml"
        config.write_text(
            f'[ingest.kafka]\nbootstrap_servers = "{made.bootstrap}"\ntopics = "{made.name}"\n'
            f'group = "{made.name}"\nsession_timeout = {SESSION_S}\nstatic_member = false\n'
        )
        members.append(Member(place, api, config))
    async with AsyncExitStack() as stack:
        for one in members:
            stack.push_async_callback(one._stack.aclose)
            await one.start()
        yield members


def has(count: int) -> Any:
    """Whether a member's sources have so many partitions that were given to it."""
    return lambda told: sum(one.get("partitions", 0) for one in told["sources"]) >= count


@pytest.mark.parametrize("seed", seeds(2, 10))
@pytest.mark.timeout(patience_of_test(120 + 30 * ROUNDS))
async def test_whoever_is_killed_the_next_owner_repeats_the_same_requests_and_nothing_else(
    tmp_path: Path, shared_kafka: KafkaServer, seed: int
) -> None:
    """Sometimes the one that was killed is back before the group has noticed that it is gone, sometimes the
    other has all of its partitions by then, and may be killed next."""
    rng = random.Random(seed)
    made = topic(shared_kafka, PARTITIONS)
    published: list[bytes] = []
    stop = asyncio.Event()
    async with FaultyApi(rng) as api, asyncio.TaskGroup() as tasks:
        publishing = tasks.create_task(publish(made, rng, published, stop))
        async with two_members(tmp_path, made, api) as members:
            for _ in range(ROUNDS):
                enough = len(api.taken) + rng.randrange(3, 12)
                await api.until(lambda _, n=enough: len(api.taken) >= n, timeout_s=patience(60))
                await asyncio.sleep(rng.uniform(0, 0.03))
                killed, other = rng.sample(members, 2)
                await killed.kill()
                api.life += 1
                if rng.random() < 0.7:
                    await other.serving.until(has(PARTITIONS), timeout_s=patience(60), balanced=False)
                    enough = len(api.taken) + rng.randrange(1, 12)
                    await api.until(lambda _, n=enough: len(api.taken) >= n, timeout_s=patience(60))
                await killed.start()
            stop.set()
            await publishing
            await all_committed(made)
            for one in members:
                final = await one.serving.until_empty(timeout_s=patience(60))
                assert final["ledger"]["in_flight"] == 0
                await one.stop()
    arrived = [one for batch in once_each([request for _, request in api.taken]).values() for one in batch]
    buried = {letter["payload"] for one in members for letter in one.place.letters()}
    assert Counter(arrived) + Counter(buried) == Counter(published)
    assert all(POISON in one for one in buried)
    assert_order(api)


async def test_a_batch_is_named_before_it_is_sent_and_the_next_owner_sends_it_first(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    """Of what was settled beyond it nothing goes out again."""
    gate = asyncio.Event()
    first: list[bytes] = []

    async def answer(request: Request) -> Reply:
        first.append(request.body)
        if len(first) == 1:
            await gate.wait()
        return Reply()

    made = topic(shared_kafka)
    made.produce(*events(40))
    source = {"static_member": False, "session_timeout": SESSION_S}
    more = {"batch": {"max_events": 7, "max_age": 0.05}, **NO_KEY}
    async with EventApi(answer) as api:
        async with running(settings(tmp_path / "one", api.url, made, source, **more)) as one:
            await until(lambda: len(api.batches) == 6 and one.ledger["delivered"] == 33)
            await one.crash()
        seen = len(api.batches)
        gate.set()
        async with running(settings(tmp_path / "two", api.url, made, source, **more)) as two:
            await made.settled(40, made.name)
            assert two.ledger["delivered"] == 7
        assert len(api.batches) == seen + 1
        assert api.batches[-1].body == api.batches[0].body
        assert [one for batch in once_each(api.batches).values() for one in batch] == events(40)


@pytest.mark.parametrize("stuck", [0, 99])
async def test_what_comes_in_the_place_of_an_end_that_was_lost_is_delivered_by_the_next_owner(
    tmp_path: Path, stuck: int
) -> None:
    """The partition's files are those of before, as after an unclean election; its leader's epoch is another
    one. ``stuck``: the first event that is not settled; behind what is left, or behind all."""
    gate = asyncio.Event()

    async def answer(request: Request) -> Reply:
        if event(stuck) in events_of(request):
            await gate.wait()
        return Reply()

    source = {"session_timeout": SESSION_S}
    more = {**NO_KEY, "batch": {"max_events": 1, "max_age": 0.05}, "delivery": {"max_in_flight": 20}}
    with kafka_server(tmp_path / "kafka") as server:
        made = topic(server)
        files = tmp_path / "kafka" / "data" / f"{made.name}-0"
        made.produce(*events(5))
        server.stop()
        shutil.copytree(files, tmp_path / "before")
        server.start()
        async with EventApi(answer) as api:
            async with running(settings(tmp_path / "one", api.url, made, source, **more)) as service:
                await until(lambda: service.ledger["delivered"] == 5 - (stuck < 5), service.task)
                made.produce(*events(5, first=5))  # not read together with those that stay
                await until(lambda: service.ledger["delivered"] == 10 - (stuck < 10), service.task)
                await made.settled(min(stuck, 10), made.name)
                await service.crash()
            server.kill()
            shutil.rmtree(files)
            shutil.copytree(tmp_path / "before", files)
            server.start()
            made.produce(*events(9, first=100))
            gate.set()
            async with running(settings(tmp_path / "two", api.url, made, source, **more)) as service:
                await until(lambda: {*events(9, first=100)} <= {*api.events}, service.task)
                await made.settled(14, made.name)
            once_each(api.batches)
