"""An edge and a worker in the process of a test, with a spool of its own on the server of the run: cheaper
than processes, and it ends as by a crash whenever that is wanted.
"""

import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestd.app.cluster.judgement import open_connection
from ingestd.app.cluster.run import open_cluster_service, run
from ingestd.app.cluster.service import ClusterService
from ingestd.app.cluster.spool import is_balanced, stat_of
from ingestd.cluster import provisioning
from ingestd.cluster.names import Share, StreamNames
from ingestd.cluster.parked_sinks import ParkEntry, set_parked
from ingestd.cluster.share_log import Record, ShareLog
from ingestd.cluster.share_owner import ShareOwner
from ingestd.config import Settings
from ingestd.core.clock import SystemClock, system_rng
from ingestd.sources.nats.connection import JetStreamError
from tests.event_api import EventApi
from tests.machine import patience
from tests.nats_server import NatsServer
from tests.process.cli.run_support import post

if TYPE_CHECKING:
    from ingestd.sources.nats.connection import NatsConnection
    from tests.integration.httpd.wire_client import Answer

_names = itertools.count()


async def until(condition: Callable[[], object] | Callable[[], Awaitable[object]]) -> None:
    end = time.monotonic() + patience(20)
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.03)


class Spool:
    """One partition, one sink; a process of it is an edge and a worker."""

    def __init__(self, server: NatsServer, batch_events: int, order_by: str, max_bytes: str) -> None:
        self._tree: dict[str, Any] = {
            "spool": {
                "kind": "nats",
                "servers": [server.url],
                "name": f"P{os.getpid()}-{next(_names)}",
                "partitions": 1,
                "max_bytes": max_bytes,
                "max_parked": 0,
            },
            "ingest": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0"},
            "batch": {"max_events": batch_events, "max_age": 0.05},
            "delivery": {"order_by": order_by, "backoff_base": 0.01, "backoff_cap": 0.05},
        }
        self.names = StreamNames(self._tree["spool"]["name"])
        self.connection: NatsConnection

    def settings(self, url: str = "http://127.0.0.1:9") -> Settings:
        sink = {"type": "ingest_api", "url": url, "auth": {"type": "none"}}
        return Settings.model_validate(self._tree | {"sinks": {"one": sink}})

    def write(self, file: Path, url: str) -> None:
        """A configuration for commands."""
        spool = "".join(f"{name} = {json.dumps(value)}\n" for name, value in self._tree["spool"].items())
        sink = f'type = "ingest_api"\nurl = "{url}"\nauth = {{ type = "none" }}\n'
        order = f'[delivery]\norder_by = "{self._tree["delivery"]["order_by"]}"\n'
        file.write_text(f"[spool]\n{spool}{order}[sinks.one]\n{sink}")

    @asynccontextmanager
    async def serving(self, api: EventApi, *, worker: bool = True) -> AsyncIterator["Process"]:
        """An edge, and a worker that has its share, or not."""
        settings = self.settings(api.url)
        async with open_cluster_service(lambda: settings, settings, edge=True, worker=worker) as service:
            process = Process(service, asyncio.create_task(run(service)))
            try:
                await until(lambda: service.link and service.link.connection)
                if worker:
                    await until(lambda: process.has_share)
                yield process
            finally:
                await process.crash()

    async def delete(self, *sequences: int) -> None:
        for sequence in sequences:
            await self.connection.ask(f"STREAM.MSG.DELETE.{self.names.events}", {"seq": sequence})

    async def park(self, on: bool) -> None:
        entry = ParkEntry(time.time() if on else 0.0)
        await set_parked(self.connection, self.names, "one", entry)

    async def records(self) -> list[Record]:
        log = ShareLog(self.connection, self.names, Share("one", 0), SystemClock())
        return [one.record for one in await log.read()]

    async def has_delivered(self) -> bool:
        return any(record.counts.delivered for record in await self.records())

    async def first_chunk(self) -> int:
        return int((await self.connection.ask(f"STREAM.INFO.{self.names.events}"))["state"]["first_seq"])

    async def is_purged_to(self, first: int) -> bool:
        return await self.first_chunk() >= first

    async def settled(self, **counts: int) -> None:
        """Wait until nothing waits any more, and it is these that did not."""
        end = time.monotonic() + patience(20)
        while True:
            (found,) = (await stat_of(self.connection, self.settings()))["sinks"]
            assert is_balanced(found), found
            if counts.items() <= found.items() and found["in_flight"] == found["chunks_behind"] == 0:
                return
            assert time.monotonic() < end, (counts, found)
            await asyncio.sleep(0.05)


class Process:
    def __init__(self, service: ClusterService, task: "asyncio.Task[None]") -> None:
        self.service = service
        self._task = task

    @property
    def has_share(self) -> bool:
        worker = self.service.worker
        return bool(worker and any(owner.is_active for owner in worker.owned.owners.values()))

    @property
    def owner(self) -> ShareOwner:
        assert self.service.worker
        (owner,) = self.service.worker.owned.owners.values()
        return owner

    async def crash(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def take(self, events: list[bytes]) -> None:
        assert (await self.post(events)).status == 202

    async def post(self, events: list[bytes]) -> "Answer":
        assert self.service.server
        return await post(self.service.server.port, events)


@asynccontextmanager
async def spool(
    server: NatsServer,
    *,
    batch_events: int = 40,
    order_by: str = "attributes.note",
    max_bytes: str = "4MiB",
) -> AsyncIterator[Spool]:
    made = Spool(server, batch_events, order_by, max_bytes)
    async with open_connection(made.settings()) as made.connection:
        await provisioning.create(made.connection, made.settings(), system_rng())
        yield made
        for name in (made.names.events, made.names.frozen, made.names.dead, made.names.state):
            await made.connection.ask(f"STREAM.DELETE.{name}")
        with suppress(JetStreamError):
            await made.connection.ask(f"STREAM.DELETE.{made.names.audit}")
