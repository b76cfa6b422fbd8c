"""Rounds of ``ingestd run`` behind a broker: each message arrives once and in order, or is a dead letter.

The service is killed, and so is a NATS server. A topic has three partitions, and its retention deletes what
was not read yet, which has to be told. In a group of two another member takes some partitions for a while;
what was on its way then may arrive twice, and nothing else may happen to it. Of the messages some are poison,
the first and the last, and several in a row: empty, no JSON, one of 1 MiB - 1. Headers are not what they say.
"""

import asyncio
import json
import os
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from tests.machine import patience
from tests.process.cli.run_support import Serving, serve
from tests.process.cli.support import Place
from tests.process.soak.api import Api, SinkApi
from tests.process.soak.events import INVALID, Maker, read
from tests.process.soak.explain import explain
from tests.process.soak.judge import Verdict, balance, judge
from tests.process.soak.kills import kill
from tests.process.soak.run import configure, sinks_of

NATS, KAFKA = "broker: a stream of NATS", "broker: a topic of Kafka"
GROUP = "broker: a topic of Kafka, a group of two"
SHAPES = (NATS, KAFKA, GROUP) if "KAFKA_LIB" in os.environ else (NATS,)
LARGE = 1024 * 1024 - 1
PARTITIONS, SESSION = 3, "15s"
"""Who is killed is back before that, and goes on with what it had on its way."""
GUEST = "guest"
LIES = {"Content-Type": "application/cloudevents+json", "ce-id": "\u00e9", "Status": "404"}

Publish = Callable[[bytes, dict[str, str]], Awaitable[None]]


class Broker:
    """``table``: of the configuration. ``publish`` returns when the broker has the message. ``expire``: all
    that one partition has is deleted; gives its number, and how many messages it had had."""

    def __init__(
        self,
        table: str,
        publish: Publish,
        kill: Callable[[], None] = lambda: None,
        *,
        expire: Callable[[random.Random], tuple[int, int]] | None = None,
    ) -> None:
        self.table = table
        self.publish = publish
        self.kill = kill
        self.expire = expire


async def nats_broker(place: Place, stack: AsyncExitStack) -> Broker:
    import nats

    from tests.nats_server import nats_server, stream

    server = stack.enter_context(nats_server(place / "nats", "max_payload: 2097152"))
    made = await stack.enter_async_context(stream(server.url, name="S"))
    number = 0

    async def publish(payload: bytes, headers: dict[str, str]) -> None:
        nonlocal number
        number += 1
        while True:
            with suppress(nats.errors.Error, asyncio.TimeoutError, nats.js.errors.Error):
                await made.publish(payload, headers=headers | {"Nats-Msg-Id": str(number)}, timeout=0.5)
                return
            await asyncio.sleep(0.05)

    def killed() -> None:
        server.kill()
        server.start()

    return Broker(f'[ingest.nats]\nservers = "{server.url}"\nstream = "S"\n', publish, killed)


async def kafka_broker(place: Place, stack: AsyncExitStack) -> Broker:
    from tests.kafka_server import kafka_server, topic

    made = topic(stack.enter_context(kafka_server(place / "kafka")), PARTITIONS, max_message_bytes="2000000")

    async def publish(payload: bytes, headers: dict[str, str]) -> None:
        await asyncio.to_thread(made.produce, payload, partition=partition_of(payload), headers=headers)

    def expire(rng: random.Random) -> tuple[int, int]:
        partition = rng.randrange(PARTITIONS)
        made.committed()  # makes the reader
        at = made.kafka.TopicPartition(made.name, partition)
        _, end = made._readers["ingestd"].get_watermark_offsets(at)
        made.delete_before(end, partition)
        return partition, end

    servers = (
        f'bootstrap_servers = "{made.bootstrap}"\ntopics = "{made.name}"\nsession_timeout = "{SESSION}"\n'
    )
    return Broker(f"[ingest.kafka]\n{servers}", publish, expire=expire)


def partition_of(payload: bytes) -> int:
    group = read(payload).group if b'"group"' in payload else ""
    return int(group[-1]) % PARTITIONS if group else 0


class Producer:
    """``published``: what is good, in order; ``poison``: the rest."""

    def __init__(self, rng: random.Random) -> None:
        self.published: list[bytes] = []
        self.poison: list[bytes] = []
        self._by_partition: dict[int, list[bytes]] = {number: [] for number in range(PARTITIONS)}
        self._deleted: dict[int, int] = {}
        self._rng = rng
        self._maker = Maker("b", rng)

    async def work(self, publish: Publish, stop: asyncio.Event) -> None:
        await self._spoil(publish)
        while not stop.is_set():
            if self._rng.random() < 0.03:
                for _ in range(self._rng.choice([1, 1, 2, 5])):
                    await self._spoil(publish)
            one = self._maker.make()
            self.published.append(one)
            self._by_partition[partition_of(one)].append(one)
            await publish(one, self._rng.choice([{}, {}, LIES]))
            await asyncio.sleep(self._rng.choice([0, 0, 0.02]))
        await self._spoil(publish)

    async def _spoil(self, publish: Publish) -> None:
        large = b'{"pad":"%s"}' % (b"x" * (LARGE - 10))
        one = self._rng.choice([b"", INVALID, b"{\x00", b"[1"])
        one = large if large not in self.poison else one
        self.poison.append(one)
        self._by_partition[partition_of(one)].append(one)
        await publish(one, LIES)

    def where(self, event: str) -> str:
        """Of an event with this id."""
        for partition, messages in self._by_partition.items():
            for offset, one in enumerate(messages):
                if b'"group"' in one and read(one).id == event:
                    return f"partition {partition}, offset {offset}"
        return "nowhere"

    def expire(self, partition: int, count: int) -> None:
        """So many messages, the first that it ever had, are deleted."""
        self._deleted[partition] = count

    @property
    def expired(self) -> list[bytes]:
        """What may be gone. What was on its way when its partition was emptied has to arrive."""
        return [one for at, count in self._deleted.items() for one in self._by_partition[at][:count]]

    def missing(self, sink: SinkApi, letters: list[dict[str, Any]]) -> list[bytes]:
        """Messages that are neither delivered nor dead letters."""
        kept = Counter(bytes(one["payload"]) for one in letters)
        nowhere = [one for one in self.published if read(one).id not in sink.taken and not kept[one]]
        return [*nowhere, *(Counter(self.poison) - kept).elements()]

    def left(self, sink: SinkApi, letters: list[dict[str, Any]]) -> int:
        """Of those that are missing, without what may be gone."""
        return (Counter(self.missing(sink, letters)) - Counter(self.expired)).total()


async def round_of_broker(place: Place, shape: str, seed: int, *, lives: int) -> Verdict:
    """With an odd seed through the spool."""
    rng = random.Random(seed)
    sinks, verdict, stop = sinks_of(("ordered",)), Verdict(), asyncio.Event()
    sink = sinks["ordered"]
    producer = Producer(random.Random(f"{seed} producer"))
    guest = Place(place / "guest")
    guest.directory.mkdir()
    told = 0  # messages that are gone, as the log has them
    async with (
        AsyncExitStack() as stack,
        Api(sinks, random.Random(f"{seed} api"), place / "requests.ndjson") as api,
        asyncio.TaskGroup() as tasks,
    ):
        broker = await (nats_broker if shape == NATS else kafka_broker)(place, stack)
        path = configure(place, api.url, sinks, rng)
        path.write_text(path.read_text() + broker.table + f"spool = {str(bool(seed % 2)).lower()}\n")
        publishing = tasks.create_task(producer.work(broker.publish, stop))
        for life in range(lives):
            async with serve(place, api.url, "--config", path) as serving:
                verdict.lives += 1
                if shape == GROUP and life % 3 == 1:
                    verdict.kills += 1
                    told += await _share(guest, api, path, rng)
                if rng.random() < 0.3:
                    await asyncio.to_thread(broker.kill)
                verdict.kills += await kill(serving.process, api, rng)
                await serving.finish()
                told += _told_lost(serving)
                _keep_log(serving, place)
            if broker.expire and life % 3 == 2:
                producer.expire(*await asyncio.to_thread(broker.expire, rng))
        stop.set()
        api.calm()
        await publishing

        def letters() -> list[dict[str, Any]]:
            return [*place.letters(), *(guest.letters() if guest.state.exists() else ())]

        async with serve(place, api.url, "--config", path) as serving:
            verdict.lives += 1
            with suppress(AssertionError):
                await serving.until(lambda _: not producer.left(sink, letters()), timeout_s=patience(60))
            left = producer.left(sink, letters())
            verdict.problems += [f"{left} messages have no end"] if left else []
            status = await serving.until_empty(timeout_s=patience(60))
            balance(status["ledger"], verdict)
            await serving.stop()
            told += _told_lost(serving)
            _keep_log(serving, place)
    missing = Counter(producer.missing(sink, letters()))
    if missing.total() > told:
        verdict.problems.append(f"{missing.total()} messages are gone, and {told} were told of")
    kept = Counter(bytes(one["payload"]) for one in letters())
    verdict.problems += [
        f"{one[:40]!r} is {kept[one]} dead letters, not {count}"
        for one, count in (Counter(producer.poison) - missing).items()
        if kept[one] < count or (shape != GROUP and kept[one] > count)
    ]
    cut = _batches_with(producer.expired, place)
    for keys in sink.taken.values():
        if shape == GROUP or cut.intersection(keys):
            del keys[1:]
    found = [one for one in producer.published if not missing[one]]
    judge(found, sinks, letters(), ordered=["ordered"], verdict=verdict)
    verdict.problems += explain(place / "requests.ndjson", sink, producer.where)
    return verdict


def _batches_with(expired: list[bytes], place: Place) -> set[str]:
    """The keys of those that cannot go out again as they were: retention has deleted some of their events."""
    gone = {read(one).id for one in expired if b'"group"' in one}
    with (place / "requests.ndjson").open() as requests:
        return {one["key"] for one in map(json.loads, requests) if gone.intersection(one["events"])}


async def _share(guest: Place, api: Api, path: Path, rng: random.Random) -> int:
    """Another member takes some partitions, is killed then or a little later, comes back in time, and gives
    them back. Gives how many messages it told of that are gone."""
    told = 0
    own = _configure_guest(guest, path)
    for ending in ("kill", "stop"):
        async with serve(guest, api.url, "--config", own) as serving:
            await serving.until(_is_connected, timeout_s=patience(60), balanced=False)
            if ending == "kill":
                await kill(serving.process, api, rng, within_s=0.1, member=GUEST)
                await serving.finish()
            else:
                await serving.stop()
            told += _told_lost(serving)
            _keep_log(serving, guest)
    return told


def _configure_guest(guest: Place, path: Path) -> Path:
    """As the first member, under an address by which the API tells it from that."""
    own = guest / "ingestd.toml"
    own.write_text(path.read_text().replace('/ordered"', f'/ordered/{GUEST}"'))
    return own


def _keep_log(serving: Serving, place: Place) -> None:
    with (place / "log.ndjson").open("a") as log:
        log.write(serving.raw)


def _is_connected(status: dict[str, Any]) -> bool:
    return any(one["connected"] for one in status["sources"])


def _told_lost(serving: Serving) -> int:
    return sum(
        int(found.group(1).replace(",", ""))
        for line in serving.log
        if (found := re.search(r"has lost at most ([0-9,]+) message", line["message"]))
    )
