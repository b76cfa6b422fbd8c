"""What every source of events owes the intake. A new one joins ``SOURCES``."""

import asyncio
import contextlib
import csv
import gzip
import io
import os
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from functools import partial
from pathlib import Path

import aiohttp
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestd.config import Settings
from ingestd.core.chunk import Chunk, Keeper
from ingestd.core.clock import SystemClock
from ingestd.core.receipt import OrderedAcks, Receipt
from ingestd.httpd.request import ServerLimits
from ingestd.httpd.server import serve
from ingestd.intake.spool_feed import SpoolSource
from ingestd.schemas.column_types import column_types
from ingestd.sources.files.jsonl import FileSource, JsonSource
from ingestd.sources.files.tables import TableSource
from ingestd.sources.http.auth import Authenticator
from ingestd.sources.http.endpoint import PATH, Endpoint, EndpointSettings
from ingestd.sources.live.reading import ReadOptions
from ingestd.sources.live.settings import FilesConfig
from ingestd.sources.live.source import FilesSource
from ingestd.sources.source import Position, Source
from ingestd.store.database import Database
from ingestd.store.file_rows import FileRows
from ingestd.store.journal import Journal
from ingestd.wiring.open_ingest import IngestService, open_ingest
from ingestd.wiring.pipeline import open_pipeline
from tests.each import each
from tests.integration.intake.support import events
from tests.machine import patience

pytestmark = pytest.mark.anyio

DEADLINE_S = patience(30.0)
EVENTS = events(range(63))

Opened = Callable[[Path], AbstractAsyncContextManager[Source]]


def without_places(opened: Opened) -> Opened:
    """Of sources that give messages again one by one, each as another one."""
    opened.without_places = True  # type: ignore[attr-defined]
    return opened


def is_without_places(opened: Opened) -> bool:
    return hasattr(opened, "without_places")


@asynccontextmanager
async def journal(directory: Path) -> AsyncIterator[Journal]:
    """A store that is committed when it is left, as a pipeline's is."""
    database = Database(directory)
    await database.open()
    try:
        yield (journal := Journal(database))
        await journal.commit()
    finally:
        await database.close()


@asynccontextmanager
async def from_path(
    directory: Path, path: Path | str, make: Callable[..., JsonSource] = JsonSource
) -> AsyncIterator[Source]:
    reader = make(str(path), chunk_bytes=1000)
    async with journal(directory) as kept:
        source = FileSource(reader, kept, clock=SystemClock(), warn=lambda text: None)
        await source.open()
        try:
            yield source
        finally:
            await source.close()


@asynccontextmanager
async def plain_file(directory: Path) -> AsyncIterator[Source]:
    path = directory / "events.ndjson"
    path.exists() or path.write_bytes(b"\n".join(EVENTS) + b"\n")
    async with from_path(directory, path) as source:
        yield source


@asynccontextmanager
async def packed_file(directory: Path) -> AsyncIterator[Source]:
    path = directory / "events.ndjson.gz"
    path.exists() or path.write_bytes(gzip.compress(b"\n".join(EVENTS) + b"\n"))
    async with from_path(directory, path) as source:
        yield source


@asynccontextmanager
async def followed(directory: Path, path: Path) -> AsyncIterator[Source]:
    settings = FilesConfig(paths=[str(path)], poll_every=0.02, closed_after=0.05)
    database = Database(directory)
    await database.open()
    try:
        journal = Journal(database)
        source = FilesSource(
            "in",
            settings,
            journal,
            FileRows(database),
            ReadOptions(1024 * 1024, 1024 * 1024, chunk_bytes=1000),
            cuts=lambda number: (),
            claims={},
            clock=SystemClock(),
            warn=lambda text: None,
        )
        await source.open()
        try:
            yield source
        finally:
            await source.close()
        await journal.commit()
    finally:
        await database.close()


@asynccontextmanager
async def followed_file(directory: Path) -> AsyncIterator[Source]:
    path = directory / "events.log"
    path.exists() or path.write_bytes(b"\n".join(EVENTS) + b"\n")
    async with followed(directory, path) as source:
        yield source


@asynccontextmanager
async def followed_archive(directory: Path) -> AsyncIterator[Source]:
    path = directory / "events.log.gz"
    path.exists() or path.write_bytes(gzip.compress(b"\n".join(EVENTS) + b"\n"))
    async with followed(directory, path) as source:
        yield source


@asynccontextmanager
async def array_file(directory: Path) -> AsyncIterator[Source]:
    path = directory / "events.json"
    path.exists() or path.write_bytes(b"[" + b",".join(EVENTS) + b"]")
    async with from_path(directory, path) as source:
        yield source


@asynccontextmanager
async def csv_file(directory: Path) -> AsyncIterator[Source]:
    path = directory / "events.csv.gz"
    if not path.exists():
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        metadata = [f"routingMetadata.{name}" for name in ("queueId", "skill", "actionType")]
        writer.writerow(["interactionId", "eventType", "eventTime", *metadata, "attributes", "schemaVersion"])
        for row in map(msgspec.json.decode, EVENTS):
            nested = [*row.pop("routingMetadata").values(), msgspec.json.encode(row["attributes"]).decode()]
            writer.writerow([*list(row.values())[:3], *nested, row["schemaVersion"]])
        path.write_bytes(gzip.compress(text.getvalue().encode()))
    table = partial(TableSource, kind="csv", types_at=column_types("interaction"))
    async with from_path(directory, path, table) as source:
        yield source


@asynccontextmanager
async def parquet_file(directory: Path) -> AsyncIterator[Source]:
    path = directory / "events.parquet"
    path.exists() or pq.write_table(
        pa.Table.from_pylist([*map(msgspec.json.decode, EVENTS)]), path, row_group_size=10
    )
    table = partial(TableSource, kind="parquet", types_at=column_types("interaction"))
    async with from_path(directory, path, table) as source:
        yield source


@asynccontextmanager
async def pipe(directory: Path) -> AsyncIterator[Source]:
    """Its producer falls silent after the last event and goes on living."""
    path = directory / "pipe"
    path.exists() or os.mkfifo(path)
    producer = os.open(path, os.O_RDWR)
    os.write(producer, b"\n".join(EVENTS) + b"\n")
    try:
        async with from_path(directory, path) as source:
            yield source
    finally:
        os.close(producer)


@asynccontextmanager
async def standard_input(directory: Path) -> AsyncIterator[Source]:
    """As the pipe."""
    (reader, producer), before = os.pipe(), os.dup(0)
    os.dup2(reader, 0)
    os.close(reader)
    os.write(producer, b"\n".join(EVENTS) + b"\n")
    try:
        async with from_path(directory, "-") as source:
            yield source
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(producer)


@asynccontextmanager
async def spool(directory: Path) -> AsyncIterator[Source]:
    """With one sink, for which all events wait."""
    async with spool_of_a_service(directory) as (service, source):
        if service.spool.end == 1:
            pieces = [EVENTS[start : start + 7] for start in range(0, len(EVENTS), 7)]
            chunks, on_disk = service.spool.append([(piece, [None] * 7) for piece in pieces], now=0.0)
            await on_disk
            for chunk in chunks:
                source.offer(chunk)
        yield source


@asynccontextmanager
async def http(directory: Path) -> AsyncIterator[Source]:
    """Its producer posts seven events at a time, each until it has a 202."""
    async with spool_of_a_service(directory) as (service, source):
        clock = SystemClock()
        endpoint = Endpoint(EndpointSettings(), Authenticator({}, clock=clock), service.admission, clock)
        posted = range(0, len(EVENTS) if service.spool.end == 1 else 0, 7)
        async with (
            serve(endpoint, ServerLimits(), "127.0.0.1", 0) as server,
            aiohttp.ClientSession(headers={"Content-Type": "application/x-ndjson"}) as producer,
        ):
            for start in posted:
                body = b"\n".join(EVENTS[start : start + 7])
                async with producer.post(f"http://127.0.0.1:{server.port}{PATH}", data=body) as answer:
                    assert answer.status == 202, await answer.text()
            yield source


@asynccontextmanager
async def spool_of_a_service(directory: Path) -> AsyncIterator[tuple[IngestService, SpoolSource]]:
    sinks = {"one": {"type": "webhook", "url": "http://127.0.0.1:9/"}}
    settings = Settings.model_validate({"sinks": sinks, "spool": {"ballast": 0}})
    async with (
        open_pipeline(settings, None, directory, clock=SystemClock(), warn=print, patient=True) as pipeline,
        open_ingest(pipeline, warn=print) as service,
    ):
        (feed,) = service.feeds
        yield service, feed.source


class Topic:
    """As a broker's client would be: messages with offsets, of which the lowest unresolved is committed."""

    name, number, keeper = "topic", 1, Keeper.SOURCE

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stopped = asyncio.Event()
        self._acks = OrderedAcks(self.ack)

    async def open(self) -> None:
        self._offset = int(self._path.read_text()) if self._path.exists() else 0

    async def chunks(self) -> AsyncIterator[tuple[Chunk, Receipt]]:
        for start in range(self._offset, len(EVENTS), 7):
            if self._stopped.is_set():
                return
            events = EVENTS[start : start + 7]
            chunk = Chunk(events, source=self.number, start=start, end=start + len(events))
            end = Position(chunk.end, chunk.next_line, chunk.mark)
            chunk.receipt = self._acks.receipt(len(chunk.events), end, 0.0)
            yield chunk, chunk.receipt
        await self._stopped.wait()

    def ack(self, position: Position) -> None:
        self._path.write_text(str(position.offset))

    def stop(self) -> None:
        self._stopped.set()

    async def close(self) -> None: ...


@asynccontextmanager
async def topic(directory: Path) -> AsyncIterator[Source]:
    source = Topic(directory / "committed")
    await source.open()
    yield source
    await source.close()


KEEPING: list[Opened] = [
    *(plain_file, packed_file, array_file, csv_file, parquet_file, followed_file, followed_archive),
    *(topic, spool, http),
]
"""Those that have events also after a crash."""
SOURCES: list[Opened] = [*KEEPING, pipe, standard_input]

every_source = pytest.mark.parametrize("opened", SOURCES)
every_keeping = pytest.mark.parametrize("opened", KEEPING)


async def read(source: Source, events: int) -> list[tuple[Chunk, Receipt]]:
    """Until so many events have come."""
    found: list[tuple[Chunk, Receipt]] = []
    async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(source.chunks()) as chunks:  # type: ignore[type-var]
        async for chunk, receipt in chunks:
            found.append((chunk, receipt))
            if sum(len(chunk.events) for chunk, _ in found) >= events:
                return found
    return found


def events_of(found: list[tuple[Chunk, Receipt]]) -> list[bytes]:
    return [event for chunk, _ in found for event in chunk.events]


@every_source
async def test_events_come_in_order_and_each_chunk_has_a_receipt_that_counts_them(
    tmp_path: Path, opened: Opened
) -> None:
    async with opened(tmp_path) as source:
        found = await read(source, len(EVENTS))
        assert events_of(found) == EVENTS
        ends = [chunk.end for chunk, _ in found]
        assert ends == sorted(set(ends))
        for chunk, receipt in found:
            assert chunk.receipt is receipt
            assert receipt.open == len(chunk.events)
            assert (chunk.source, chunk.keeper) == (source.number, source.keeper)


@every_keeping
@each("seed", range(5))
async def test_a_restart_goes_on_at_the_first_chunk_with_an_unresolved_event(
    tmp_path: Path, opened: Opened, seed: int
) -> None:
    rng = random.Random(seed)
    async with opened(tmp_path) as source:
        assert source.keeper is not Keeper.JOURNAL
        found = await read(source, len(EVENTS))
        left = set(rng.sample(range(len(found)), rng.randrange(1, 4)))
        order = [*range(len(found))]
        rng.shuffle(order)
        for at in order:
            chunk, receipt = found[at]
            receipt.settle(len(chunk.events) - (at in left))  # of those that are left one event is unresolved
    rest = found[min(left) :]  # a position is of all that come before it
    async with opened(tmp_path) as source:
        if source.keeper is Keeper.SPOOL:
            rest = [found[at] for at in sorted(left)]  # each chunk leaves the spool on its own
        if is_without_places(opened):
            rest = [found[at] for at in sorted(left)]
        again = await read(source, len(events_of(rest)))
        assert events_of(again) == events_of(rest)
        if not is_without_places(opened):
            assert [(chunk.start, chunk.end) for chunk, _ in again] == [(c.start, c.end) for c, _ in rest]


@every_keeping
async def test_what_is_resolved_after_it_was_stopped_is_acknowledged(tmp_path: Path, opened: Opened) -> None:
    async with opened(tmp_path) as source:
        found = await read(source, 10)
        source.stop()
        for chunk, receipt in found:
            receipt.settle(len(chunk.events))
    async with opened(tmp_path) as source:
        rest = EVENTS[len(events_of(found)) :]
        assert events_of(await read(source, len(rest))) == rest


@every_source
async def test_stop_ends_it_also_while_it_waits_for_more(tmp_path: Path, opened: Opened) -> None:
    async with opened(tmp_path) as source:
        came = asyncio.Event()
        found: list[bytes] = []

        async def consume() -> None:
            async for chunk, _ in source.chunks():
                found.extend(chunk.events)
                if len(found) == len(EVENTS):
                    came.set()

        consumer = asyncio.create_task(consume())
        async with asyncio.timeout(DEADLINE_S):
            await came.wait()
            source.stop()
            await consumer
        assert found == EVENTS


@each("opened", [pipe, standard_input])
async def test_a_source_that_keeps_nothing_gives_nothing_again(tmp_path: Path, opened: Opened) -> None:
    async with opened(tmp_path) as source:
        assert source.keeper is Keeper.JOURNAL
        for chunk, receipt in await read(source, len(EVENTS)):
            receipt.settle(len(chunk.events))
        first = source.number
    async with opened(tmp_path) as source:
        assert source.number != first, "the next one is another source to the journal"
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        assert connection.execute("SELECT count(*) FROM sources").fetchone() == (2,)
