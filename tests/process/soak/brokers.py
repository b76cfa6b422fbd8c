"""Rounds of ``ingestd run`` behind a broker: each message arrives once and in order, or is a dead letter.

The service is killed, and so is a NATS server; a topic has three partitions. Of the messages some are poison:
empty, no JSON, one of 1 MiB - 1, headers that are not what they say.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

from tests.machine import patience
from tests.process.cli.run_support import serve
from tests.process.cli.support import Place
from tests.process.soak.api import Api, SinkApi
from tests.process.soak.events import INVALID, Maker, read
from tests.process.soak.judge import Verdict, balance, judge
from tests.process.soak.kills import kill
from tests.process.soak.run import configure, sinks_of

NATS, KAFKA = "broker: a stream of NATS", "broker: a topic of Kafka"
SHAPES = (NATS, KAFKA) if "KAFKA_LIB" in os.environ else (NATS,)
LARGE = 1024 * 1024 - 1
PARTITIONS = 3

Publish = Callable[[bytes, dict[str, str]], Awaitable[None]]


class Broker:
    """``table``: of the configuration. ``publish`` returns when the broker has the message."""

    def __init__(self, table: str, publish: Publish, kill: Callable[[], None] = lambda: None) -> None:
        self.table = table
        self.publish = publish
        self.kill = kill


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
        group = read(payload).group if b'"group"' in payload else ""
        partition = int(group[-1]) % PARTITIONS if group else 0
        await asyncio.to_thread(made.produce, payload, partition=partition, headers=headers)

    servers = f'bootstrap_servers = "{made.bootstrap}"\ntopics = "{made.name}"\n'
    return Broker(f"[ingest.kafka]\n{servers}", publish)


class Producer:
    """``published``: what is good, in order; ``poison``: the rest."""

    def __init__(self, rng: random.Random) -> None:
        self.published: list[bytes] = []
        self.poison: list[bytes] = []
        self._rng = rng
        self._maker = Maker("b", rng)

    async def work(self, publish: Publish, stop: asyncio.Event) -> None:
        large = b'{"pad":"%s"}' % (b"x" * (LARGE - 10))
        while not stop.is_set():
            headers: dict[str, str] = {}
            if self._rng.random() < 0.04:
                one = self._rng.choice([b"", INVALID, b"{\x00", b"[1"])
                one = large if large not in self.poison else one
                headers = {"Content-Type": "application/cloudevents+json", "ce-id": "\u00e9", "Status": "404"}
                self.poison.append(one)
            else:
                one = self._maker.make()
                self.published.append(one)
            await publish(one, headers)
            await asyncio.sleep(self._rng.choice([0, 0, 0.02]))

    def left(self, sink: SinkApi, place: Place) -> int:
        """Messages that are neither delivered nor dead letters."""
        kept = Counter(bytes(one["payload"]) for one in place.letters())
        nowhere = [one for one in self.published if read(one).id not in sink.taken and not kept[one]]
        return len(nowhere) + (Counter(self.poison) - kept).total()


async def round_of_broker(place: Place, shape: str, seed: int, *, lives: int) -> Verdict:
    """With an odd seed through the spool."""
    rng = random.Random(seed)
    sinks, verdict, stop = sinks_of(("ordered",)), Verdict(), asyncio.Event()
    producer = Producer(random.Random(f"{seed} producer"))
    async with (
        AsyncExitStack() as stack,
        Api(sinks, random.Random(f"{seed} api"), place / "requests.ndjson") as api,
        asyncio.TaskGroup() as tasks,
    ):
        broker = await (nats_broker if shape == NATS else kafka_broker)(place, stack)
        path = configure(place, api.url, sinks, rng)
        path.write_text(path.read_text() + broker.table + f"spool = {str(bool(seed % 2)).lower()}\n")
        publishing = tasks.create_task(producer.work(broker.publish, stop))
        for _ in range(lives):
            async with serve(place, api.url, "--config", path) as serving:
                verdict.lives += 1
                if rng.random() < 0.3:
                    await asyncio.to_thread(broker.kill)
                verdict.kills += await kill(serving.process, api, rng)
                await serving.finish()
        stop.set()
        api.calm()
        await publishing
        async with serve(place, api.url, "--config", path) as serving:
            verdict.lives += 1
            with suppress(AssertionError):
                await serving.until(
                    lambda _: not producer.left(sinks["ordered"], place), timeout_s=patience(60)
                )
            left = producer.left(sinks["ordered"], place)
            verdict.problems += [f"{left} messages have no end"] if left else []
            told = await serving.until_empty(timeout_s=patience(60))
            balance(told["ledger"], verdict)
            await serving.stop()
    letters = place.letters()
    kept = Counter(bytes(one["payload"]) for one in letters)
    verdict.problems += [
        f"{one[:40]!r} is {kept[one]} dead letters, not {count}"
        for one, count in Counter(producer.poison).items()
        if kept[one] != count
    ]
    return judge(producer.published, sinks, letters, ordered=["ordered"], verdict=verdict)
