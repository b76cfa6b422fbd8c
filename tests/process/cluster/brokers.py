"""The kinds of a run: what keeps the streams, and what is done to it."""

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import nats

from tests.machine import patience
from tests.nats_server import NatsServer, nats_servers
from tests.power import Disk, disk
from tests.process.cluster.support import ALWAYS

_MEMBERS = ("kill worker", "kill worker", "stop worker", "kill edge", "stop edge")


@dataclass(frozen=True, slots=True)
class Kind:
    """``fault``: what happens to the broker; "": nothing."""

    name: str
    fault: str = ""
    servers: int = 1

    @property
    def faults(self) -> tuple[str, ...]:
        return (*_MEMBERS, *[self.fault] * (2 if self.fault else 0))


KINDS = {
    kind.name: kind
    for kind in (
        Kind("members"),
        Kind("broker", "kill broker"),
        Kind("power", "cut power"),
        Kind("leader", "kill leader", servers=3),
        Kind("rate"),
        Kind("letters"),
        Kind("resize", "kill broker"),
    )
}
"""Only edges and workers die; the one broker is killed; its power is cut; of three the leader is killed. Rate
and letters are runs of their own (``rate_rounds.py``, ``letter_rounds.py``); the last changes partitions."""


class Brokers:
    def __init__(self, servers: list[NatsServer], power: Disk | None) -> None:
        self.servers = servers
        self.urls = [one.url for one in servers]
        self._power = power

    async def do(self, fault: str, rng: random.Random) -> None:
        if fault == "cut power":
            assert self._power is not None
            self._power.cut(self.servers[0].pid)
            self.servers[0].kill()
            await asyncio.sleep(rng.uniform(0, 0.5))
            self._power.mend()
            self.servers[0].start()
            return
        server = await self._leader() if fault == "kill leader" else self.servers[0]
        server.kill()
        await asyncio.sleep(rng.uniform(0, 0.5 if len(self.servers) == 1 else 2.0))
        server.start()

    async def stop_for(self, seconds: float) -> None:
        """The first one stands still."""
        self.servers[0].send(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.servers[0].send(signal.SIGCONT)

    async def _leader(self) -> NatsServer:
        """Of the stream with the events. There is none for some seconds after one was killed."""
        async with asyncio.timeout(patience(30)):
            while True:
                with suppress(nats.errors.Error, OSError, TimeoutError, KeyError, ValueError):
                    client = await nats.connect(self.urls, allow_reconnect=False, connect_timeout=1)
                    try:
                        answer = await client.request("$JS.API.STREAM.INFO.t-events", b"", timeout=1)
                        name = json.loads(answer.data)["cluster"]["leader"]
                        return self.servers[int(name[1:])]
                    finally:
                        await client.close()
                await asyncio.sleep(0.1)


@asynccontextmanager
async def brokers(directory: Path, kind: Kind) -> AsyncIterator[Brokers]:
    """One server syncs each write; of three a majority has it."""
    with (
        disk(directory / "n0/js") if kind.fault == "cut power" else nullcontext() as power,
        nats_servers(directory, kind.servers, ALWAYS if kind.servers == 1 else "") as servers,
    ):
        yield Brokers(servers, power)
