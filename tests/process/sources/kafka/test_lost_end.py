"""A partition that lost its end moves to a member with another state directory: what that is told names
messages by their offsets, and others may have come at these."""

import asyncio
import random
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from ingestd.sources.kafka.note import Note, read_note
from ingestd.sources.kafka.source import KafkaSource
from tests.effort import seeds
from tests.event_api import EventApi, event, events, events_of, key, once_each
from tests.machine import patience
from tests.process.sources.support import Running, number_of, running, settings, until
from tests.receiver import Reply, Request
from tests.scripted_kafka import GONE, ScriptedKafka

pytestmark = pytest.mark.anyio

A0 = ("a", 0)
Lists = Sequence[Sequence[bytes] | None]


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> ScriptedKafka:
    return ScriptedKafka(a=1).install(monkeypatch)


class Api(EventApi):
    """Takes batches, but does not answer those with an event that is ``stuck``. ``taken``: events of the
    others."""

    def __init__(self) -> None:
        self.stuck: set[bytes] = set()
        self.taken: set[bytes] = set()
        super().__init__(self._answer)

    async def _answer(self, request: Request) -> Reply:
        found = {*events_of(request)}
        if self.stuck & found:
            await asyncio.Event().wait()
        self.taken |= found
        return Reply()


@asynccontextmanager
async def apis_of(count: int) -> AsyncIterator[list[Api]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Api()) for _ in range(count)]


@asynccontextmanager
async def member(
    directory: Path, kafka: ScriptedKafka, apis: Sequence[Api], **batch: float
) -> AsyncIterator[Running]:
    """It has the partition."""
    sinks = {f"s{at}": {"type": "ingest_api", "url": api.url} for at, api in enumerate(apis)}
    given = settings(
        directory,
        apis[0].url,
        {"bootstrap_servers": "127.0.0.1:1", "topics": "a"},
        kind="kafka",
        batch={"max_events": 2, "max_age": 0.02, **batch},
        delivery={"max_in_flight": 100},
        **({"sinks": sinks} if len(apis) > 1 else {}),
    )
    before = len(kafka.consumers)
    async with running(given) as service:
        await until(lambda: len(kafka.consumers) > before)
        one = kafka.member
        one.do(lambda: one.give(A0))
        yield service


async def first_owner(directory: Path, kafka: ScriptedKafka, apis: Sequence[Api], lists: Lists) -> None:
    """It reads these lists of events, each as a chunk. The first API does not answer for the batch with
    ``event(0)``; all else is settled, as the note says. ``None``: another leader."""
    apis[0].stuck = {event(0)}
    async with member(directory, kafka, apis) as service:
        for one in lists:
            if one is None:
                kafka.elect("a", 0)
            else:
                kafka.produce("a", 0, *one)
                await read(service, kafka)
        await until(lambda: all({*kafka.log[A0]} <= {*api.events} for api in apis))
        stuck = [key(one) for one in apis[0].batches if event(0) in events_of(one)]
        await until(lambda: [one.id for one in noted(kafka).batches(1) if not one.settled] == stuck)
        await service.crash()
    apis[0].stuck = set()


def noted(kafka: ScriptedKafka) -> Note:
    return read_note(kafka.committed[A0][1], kafka.epochs[A0])


def without_epochs(note: str) -> str:
    """As an older version wrote it."""
    owner, _, coded = note.rpartition(" ")
    spans, inherited, names, rows, _ = msgspec.msgpack.decode(b64decode(coded)[1:])
    for _, row in rows:
        row[3] = [segment[:5] for segment in row[3]]
    return f"{owner} {b64encode(b'r' + msgspec.msgpack.encode((spans, inherited, names, rows))).decode()}"


async def next_owner(directory: Path, kafka: ScriptedKafka, apis: Sequence[Api]) -> list[set[int]]:
    """Numbers of the events that it sends to each."""
    before = [len(api.batches) for api in apis]
    async with member(directory, kafka, apis) as service:
        left = {one for one in kafka.log[A0] if one is not GONE}
        await until(lambda: all(left <= api.taken for api in apis), service.task)
        await until(lambda: kafka.committed[A0][0] == len(kafka.log[A0]), service.task)
    return [
        {number_of(one) for request in api.batches[count:] for one in events_of(request)}
        for api, count in zip(apis, before, strict=True)
    ]


ONE, TWO, THREE = events(2), events(4, first=2), events(4, first=6)
OTHERS = events(9, first=100)
LISTS: list[Lists] = [
    [ONE + TWO + THREE],
    [ONE, TWO, THREE],
    [ONE, None, TWO + THREE],
    [None, ONE + TWO, None, THREE],
]


@pytest.mark.parametrize("sinks", [1, 2])
@pytest.mark.parametrize("lists", LISTS, ids=range(4))
@pytest.mark.parametrize("others", [0, 9])
async def test_what_came_in_the_place_of_settled_messages_is_delivered_and_what_is_left_of_them_is_not(
    tmp_path: Path, kafka: ScriptedKafka, sinks: int, lists: Lists, others: int
) -> None:
    async with apis_of(sinks) as apis:
        await first_owner(tmp_path / "x", kafka, apis, lists)
        kafka.elect("a", 0, end=5)
        kafka.produce("a", 0, *OTHERS[:others])
        new = {*range(100, 100 + others)}
        assert await next_owner(tmp_path / "y", kafka, apis) == [{0, 1} | new, new][:sinks]
        for api in apis:
            once_each(api.batches)


@pytest.mark.parametrize("sinks", [1, 2])
@pytest.mark.parametrize("lists", LISTS, ids=range(4))
@pytest.mark.parametrize("gone", [(), (4, 7, 9)])
async def test_of_messages_that_are_all_there_or_compacted_those_that_were_settled_are_not_sent(
    tmp_path: Path, kafka: ScriptedKafka, sinks: int, lists: Lists, gone: Sequence[int]
) -> None:
    async with apis_of(sinks) as apis:
        await first_owner(tmp_path / "x", kafka, apis, lists)
        kafka.elect("a", 0)
        kafka.compact("a", 0, *gone)
        kafka.produce("a", 0, *OTHERS)
        new = {*range(100, 109)}
        assert await next_owner(tmp_path / "y", kafka, apis) == [{0, 1} | new, new][:sinks]
        for api in apis:
            once_each(api.batches)


@pytest.mark.parametrize("lists", LISTS, ids=range(4))
@pytest.mark.parametrize("end", [None, 5])
async def test_with_a_note_of_an_older_version_what_is_certain_is_not_sent_again(
    tmp_path: Path, kafka: ScriptedKafka, lists: Lists, end: int | None
) -> None:
    """That has the epoch with which the offset was committed, 0."""
    async with apis_of(1) as apis:
        await first_owner(tmp_path / "x", kafka, apis, lists)
        offset, note = kafka.committed[A0]
        kafka.committed[A0] = offset, without_epochs(note)
        certain = {2: {0: 10, 1: 10, 2: 2, 3: 0}[LISTS.index(lists)]}
        kafka.elect("a", 0, end=end)
        kafka.produce("a", 0, *OTHERS)
        again = {number_of(one) for one in kafka.log[A0] if one} - {*range(2, certain[2])}
        assert await next_owner(tmp_path / "y", kafka, apis) == [again | {0, 1}]


async def test_a_note_of_later_leaders_than_all_messages_have_says_nothing_of_these(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    """As where a broker comes back with an older log, of which others had lost the end."""
    async with apis_of(1) as apis:
        await first_owner(tmp_path / "x", kafka, apis, [None, ONE + TWO, THREE])
        kafka.leaders[A0] = [0]
        kafka.log[A0][4:] = OTHERS
        assert await next_owner(tmp_path / "y", kafka, apis) == [{*range(4), *range(100, 109)}]


@pytest.mark.parametrize("others", [3, 9])
async def test_an_end_that_was_lost_before_the_committed_offset_is_noticed_by_the_next_owner(
    tmp_path: Path, kafka: ScriptedKafka, others: int
) -> None:
    """Whether the log reaches that offset again or not. All before it was settled, and is not sent again."""
    async with apis_of(1) as apis:
        kafka.produce("a", 0, *ONE, *TWO)
        async with member(tmp_path / "x", kafka, apis) as service:
            await until(lambda: kafka.committed.get(A0, (0, ""))[0] == 6, service.task)
            kafka.elect("a", 0)
            kafka.produce("a", 0, *THREE)
            await until(lambda: kafka.committed[A0][0] == 10, service.task)
        kafka.elect("a", 0, end=5)
        kafka.produce("a", 0, *OTHERS[:others])
        assert await next_owner(tmp_path / "y", kafka, apis) == [{*range(100, 100 + others)}]


@pytest.mark.parametrize("next_one", ["x", "y"])
async def test_what_is_on_its_way_when_an_end_is_lost_is_delivered_also_if_the_process_is_killed_then(
    tmp_path: Path, kafka: ScriptedKafka, next_one: str
) -> None:
    """The partition is read anew, and nothing is committed behind what is not settled."""
    async with apis_of(1) as (api,):
        api.stuck = {event(3)}
        async with member(tmp_path / "x", kafka, [api]) as service:
            kafka.produce("a", 0, *events(5))
            await read(service, kafka)
            kafka.produce("a", 0, *events(5, first=5))
            await read(service, kafka)
            await until(lambda: len(api.taken) == 8, service.task)
            one = kafka.member

            def lose() -> None:
                kafka.elect("a", 0, end=7)
                kafka.produce("a", 0, *OTHERS)
                one.jump(A0, 99)

            one.do(lose)
            await until(lambda: {*OTHERS} <= api.taken, service.task)
            commits = len(kafka.commits)
            kafka.produce("a", 0, event(200))
            await until(lambda: event(200) in api.taken and len(kafka.commits) > commits, service.task)
            await service.crash()
        api.stuck = set()
        left = await next_owner(tmp_path / next_one, kafka, [api])
        assert left[0] >= {2, 3}
        assert {*kafka.log[A0]} <= api.taken


@pytest.mark.parametrize("end", [2, 3])
@pytest.mark.parametrize("next_one", ["x", "y"])
async def test_what_is_left_of_a_batch_does_not_wait_for_messages_that_a_shorter_log_has_lost(
    tmp_path: Path, kafka: ScriptedKafka, next_one: str, end: int
) -> None:
    """It has events of two chunks."""
    async with apis_of(1) as (api,):
        api.stuck = {event(0)}
        async with member(tmp_path / "x", kafka, [api], max_events=4, max_age=60) as service:
            for first in (0, 2):
                kafka.produce("a", 0, *events(2, first=first))
                await read(service, kafka)
            await until(lambda: len(api.batches) == 1, service.task)
            await service.crash()
        api.stuck = set()
        kafka.elect("a", 0, end=end)
        assert await next_owner(tmp_path / next_one, kafka, [api]) == [{*range(end)}]
        assert api.keys[0] not in api.keys[1:]


async def read(service: Running, kafka: ScriptedKafka) -> None:
    """All that there is by now has become chunks."""
    source = service.service.brokers.feeds[0].source
    assert isinstance(source, KafkaSource)
    parts = source._partitions.by_place
    await until(lambda: A0 in parts and parts[A0].cut_to >= len(kafka.log[A0]), service.task)


class History:
    """Members come and go, and leaders."""

    def __init__(self, directory: Path, kafka: ScriptedKafka, apis: Sequence[Api], seed: int) -> None:
        self.directory = directory
        self.kafka = kafka
        self.apis = apis
        self.rng = random.Random(seed)
        self.count = 0

    def produce(self, most: int) -> list[bytes]:
        new = events(self.rng.randint(1, most), first=self.count)
        self.count += len(new)
        self.kafka.produce("a", 0, *new)
        return new

    def member(self) -> AbstractAsyncContextManager[Running]:
        return member(self.directory / self.rng.choice("xyz"), self.kafka, self.apis)

    def all_have(self, what: Collection[bytes | None]) -> bool:
        return all({*what} <= {*api.events} for api in self.apis)

    async def run(self, *, is_cut: bool) -> None:
        """``is_cut``: leaders lack messages, of those behind what is committed or before it, too."""
        rng, kafka = self.rng, self.kafka
        for _ in range(rng.randint(2, 5)):
            async with self.member() as service:
                await self.read(service)
                await service.crash()
            size = len(kafka.log[A0])
            committed = min(size, kafka.committed.get(A0, (0, ""))[0])
            if is_cut and rng.random() < 0.7:
                kafka.elect("a", 0, end=rng.randint(rng.choice([0, committed]), size))
                if rng.random() < 0.8:
                    self.produce(14)
            for api in self.apis:
                api.stuck = {one for one in api.stuck if rng.random() < 0.7}
        await self.end()

    async def read(self, service: Running) -> None:
        rng, kafka = self.rng, self.kafka
        for _ in range(rng.randint(1, 4)):
            if rng.random() < 0.3:
                kafka.elect("a", 0)
            new = self.produce(7)
            for api in self.apis:
                api.stuck |= {one for one in new if rng.random() < 0.15}
            await read(service, kafka)
        if rng.random() < 0.8:
            with suppress(TimeoutError):  # of a log that is shorter not all comes now
                async with asyncio.timeout(patience(1)):
                    await until(lambda: self.all_have(kafka.log[A0]), service.task)
        if rng.random() < 0.5:
            await service.service.pipeline.journal.commit()

    async def end(self) -> None:
        """All is answered."""
        longest = self.count
        while len(self.kafka.log[A0]) < longest:  # so that what had come at these offsets is known to be gone
            self.produce(7)
        for api in self.apis:
            api.stuck = set()
        async with self.member() as service:
            left = {*self.kafka.log[A0]}
            await until(lambda: all(left <= api.taken for api in self.apis), service.task)
            await service.settled(0)


@pytest.mark.parametrize("sinks", [1, 2])
@pytest.mark.parametrize("seed", seeds(2, 200))
async def test_wherever_an_end_is_lost_all_that_is_left_is_delivered(
    tmp_path: Path, kafka: ScriptedKafka, seed: int, sinks: int
) -> None:
    async with apis_of(sinks) as apis:
        await History(tmp_path, kafka, apis, seed).run(is_cut=True)


@pytest.mark.parametrize("sinks", [1, 2])
@pytest.mark.parametrize("seed", seeds(2, 100))
async def test_with_other_leaders_and_all_messages_each_event_has_one_key(
    tmp_path: Path, kafka: ScriptedKafka, seed: int, sinks: int
) -> None:
    async with apis_of(sinks) as apis:
        await History(tmp_path, kafka, apis, seed).run(is_cut=False)
        for api in apis:
            once_each(api.batches)
