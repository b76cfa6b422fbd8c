"""Members of a group that one partition moves between, with scripted brokers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from ingestd.sources.kafka.note import Note, read_note
from ingestd.sources.kafka.source import KafkaSource
from tests.event_api import EventApi, events_of
from tests.process.sources.support import Running, number_of, running, settings, until
from tests.receiver import Reply, Request
from tests.scripted_kafka import GONE, ScriptedKafka

A0 = ("a", 0)


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


def noted(kafka: ScriptedKafka) -> Note:
    return read_note(kafka.committed[A0][1], kafka.epochs[A0])


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


async def read(service: Running, kafka: ScriptedKafka) -> None:
    """All that there is by now has become chunks."""
    source = service.service.brokers.feeds[0].source
    assert isinstance(source, KafkaSource)
    parts = source._partitions.by_place
    await until(lambda: A0 in parts and parts[A0].cut_to >= kafka.read_to(A0), service.task)
