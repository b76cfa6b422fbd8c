"""Compaction deletes messages of batches that are on their way."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.event_api import EventApi, event, events, once_each
from tests.machine import patience
from tests.process.sources.kafka.support import KafkaServer, Topic, running, settings, topic, until
from tests.process.sources.support import given_up
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio

COMPACTED = {
    "cleanup_policy": "compact",
    "segment_ms": "50",
    "min_cleanable_dirty_ratio": "0.001",
    "delete_retention_ms": "0",
}


async def compacted(made: Topic, *, without: Sequence[int]) -> None:
    """Until these offsets are gone. The segment that is written to is not compacted: the next message ends
    it."""
    until_s = time.monotonic() + patience(20)
    while set(without) & set(await asyncio.to_thread(made.offsets)):
        assert time.monotonic() < until_s, "it is not compacted"
        made.produce(event(999), keys=[b"last"])
        await asyncio.sleep(0.1)


async def test_batches_of_which_nothing_is_gone_are_repeated_and_what_is_left_of_the_others_is_new(
    tmp_path: Path, shared_kafka: KafkaServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The messages are in one chunk, or two. The process is killed before an answer, and the topic is
    compacted before it starts again: nothing waits for what is gone."""
    made = topic(shared_kafka, **COMPACTED)
    gate, batches = asyncio.Event(), [events(7, first=first) for first in range(0, 28, 7)]
    gone = [3, 4, 12, *range(21, 28)]

    async def answer(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    made.produce(*events(28), keys=[b"%d" % n for n in range(28)])
    more = {"batch": {"max_events": 7, "max_age": 5}}
    async with EventApi(answer) as api:
        async with running(settings(tmp_path, api.url, made, **more)) as service:
            await until(lambda: len(api.batches) == 4)
            await service.crash()
        gate.set()
        assert sorted(once_each(api.batches).values()) == batches
        made.produce(*events(len(gone), first=100), keys=[b"%d" % n for n in gone])
        await compacted(made, without=gone)
        more["batch"]["max_age"] = 0.05
        async with running(settings(tmp_path, api.url, made, **more)) as service:
            await until(lambda: event(999) in api.events, service.task)
            await service.settled(0)
        again = [one for request in api.batches[4:] for one in once_each([request]).values()]
    assert again[0] == batches[2]
    assert api.keys[4] in api.keys[:4]
    assert not {*api.keys[:4]} & {*api.keys[5:]}
    left = [one for at, one in enumerate(events(21)) if at not in gone and at < 14]
    arrived = sorted(one for batch in again[1:] for one in batch)
    assert arrived == sorted([*left, *events(len(gone), first=100), event(999)])
    assert given_up(caplog.text) == 3
