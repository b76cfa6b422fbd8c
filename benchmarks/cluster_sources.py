"""What it costs to read single messages: a source of ``ingestd`` in a process of its own, nothing behind it.

``python -m benchmarks.cluster_sources nats URL COUNT`` is that process. What it reads is resolved at once,
and acknowledged or committed as ever.
"""

import asyncio
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.cluster_process import NatsServer, scratch
from benchmarks.serve_load import prepare_load
from ingestd.core.clock import SystemClock
from ingestd.sources.kafka.settings import KafkaConfig
from ingestd.sources.kafka.source import KafkaSource
from ingestd.sources.nats.settings import NatsConfig
from ingestd.sources.nats.source import NatsSource
from ingestd.store.database import Database
from ingestd.store.journal import Journal
from tests.kafka_server import kafka_server, topic

SOURCES = {"nats": 100_000, "kafka": 500_000}
"""Messages of a round."""
_STREAM, _SKIP = "bench", 0.1


def events_per_cpu_s(name: str, rounds: int) -> list[float]:
    """One figure a round; none where there is no broker."""
    if name == "kafka" and ("KAFKA_LIB" not in os.environ or not importlib.util.find_spec("confluent_kafka")):
        return []
    count = SOURCES[name]
    with ExitStack() as stack:
        directory = stack.enter_context(scratch())
        if name == "nats":
            url = stack.enter_context(NatsServer(directory / "nats", sync=False)).url
            asyncio.run(_publish(url, count))
        else:
            made = topic(stack.enter_context(kafka_server(directory / "kafka")), 1, name=_STREAM)
            made.produce(*_messages(count))
            url = made.bootstrap
        return [_read_apart(name, url, count) for _ in range(rounds)]


def _messages(count: int) -> list[bytes]:
    with prepare_load().open("rb") as file:
        lines = file.read().splitlines()
    return [lines[number % len(lines)] for number in range(count)]


async def _publish(url: str, count: int) -> None:
    import nats

    client = await nats.connect(url, pending_size=-1)
    js = client.jetstream()
    await js.add_stream(name=_STREAM, subjects=[f"{_STREAM}.>"])
    for number, one in enumerate(_messages(count)):
        await client.publish(f"{_STREAM}.events", one)
        if number % 500 == 0:
            await client.flush()
    await client.flush()
    while (await js.stream_info(_STREAM)).state.messages < count:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)
    await client.close()


def _read_apart(name: str, url: str, count: int) -> float:
    command = [sys.executable, "-m", "benchmarks.cluster_sources", name, url, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-1000:]}")
    return float(json.loads(done.stdout)["events_per_cpu_s"])


async def _read(name: str, url: str, count: int) -> float:
    """Events per CPU-second, from a tenth of them on: what starts is not what is measured."""
    with tempfile.TemporaryDirectory() as directory:
        database = Database(Path(directory))
        await database.open()
        try:
            source = _source(name, url, Journal(database))
            await source.open()
            try:
                return await _counted(source.chunks(), count)
            finally:
                await source.close()
        finally:
            await database.close()


async def _counted(chunks: AsyncIterator[Any], count: int) -> float:
    read = first = 0
    began_s = 0.0
    async for chunk, receipt in chunks:
        receipt.settle(len(chunk.events))
        read += len(chunk.events)
        if not first and read >= count * _SKIP:
            first, began_s = read, time.process_time()
        if read >= count:
            return (read - first) / (time.process_time() - began_s)
    raise RuntimeError(f"{read} of {count} events")


def _source(name: str, url: str, journal: Journal) -> Any:
    """A consumer or group of its own: each reads from the start."""
    own = f"bench-{os.getpid()}"
    more: dict[str, Any] = {
        "cuts": lambda number: (),
        "clock": SystemClock(),
        "rng": random.Random(),
        "warn": lambda text: print(text, file=sys.stderr),
    }
    make: Callable[..., Any] = NatsSource if name == "nats" else KafkaSource
    if name == "nats":
        settings: Any = NatsConfig(servers=url, stream=_STREAM, consumer=own)
    else:
        settings = KafkaConfig(bootstrap_servers=url, topics=_STREAM, group=own)
    return make("bench", settings, journal, **more)


if __name__ == "__main__":
    words = sys.argv[1:]
    print(json.dumps({"events_per_cpu_s": asyncio.run(_read(words[0], words[1], int(words[2])))}))
