"""`ingestd run` without its HTTP side: the real pipeline and front on a directory, as one process's life.

Lives end by ``drain`` as a signal would end them, by leaving the block (nothing is sent any more, the
stores close), or by ``crash``, which leaves an image of the directory as ``kill -9`` would.
"""

import asyncio
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ingestd.app.maintenance import maintain
from ingestd.config import Login, Settings
from ingestd.core.bounds import DEFAULT_BOUNDS, Bounds
from ingestd.core.clock import Clock, SystemClock
from ingestd.core.ledger import Ledger, SinkLedger
from ingestd.core.submission import AcceptedSubmission, DeferredSubmission, Result, Submission
from ingestd.intake.spool_feed import SpoolSource
from ingestd.store.database import Database
from ingestd.wiring.open_ingest import IngestService, open_ingest
from ingestd.wiring.pipeline import Pipeline, open_pipeline
from tests.machine import patience
from tests.receiver import Receiver, Request


class QuickWall(SystemClock):
    """A clock on the wall that runs 2,000 times as fast: dead letters are due in no time."""

    def __init__(self) -> None:
        self._started = SystemClock.monotonic(), SystemClock.wall()

    def wall(self) -> float:
        monotonic, wall = self._started
        return wall + 2_000 * (SystemClock.monotonic() - monotonic)


DEADLINE_S = patience(60.0)

SHORT: dict[str, dict[str, Any]] = {
    "batch": {"max_age": 0.01},
    "delivery": {"backoff_base": 0.002, "backoff_cap": 0.01, "circuit_threshold": 10_000, "retry_ratio": 10},
    "spool": {"ballast": 0},
}
"""Settings of the tests; ``running`` lays its own over them."""


def event(number: int, *, pad: int = 0, **other: Any) -> bytes:
    """A valid interaction, its id ``i-NUMBER``; ``other`` members take the place of its own."""
    members = {
        "interactionId": f"i-{number}",
        "eventType": "call",
        "eventTime": "2026-01-01T10:00:00Z",
        "routingMetadata": {"queueId": "q", "skill": "s", "actionType": "ANSWER"},
        "attributes": {"pad": "x" * pad},
        "schemaVersion": 1,
    } | other
    return msgspec.json.encode(members)


def events(numbers: Sequence[int], *, pad: int = 0) -> list[bytes]:
    return [event(number, pad=pad) for number in numbers]


class _Id(msgspec.Struct, rename="camel"):
    interaction_id: str


class _Body(msgspec.Struct):
    events: list[_Id]


_decode = msgspec.json.Decoder(_Body).decode


def numbers_of(request: Request) -> list[int]:
    """Of the events in a request, in order."""
    return [int(one.interaction_id[2:]) for one in _decode(request.body).events]


def webhook(receiver: Receiver, **options: Any) -> dict[str, Any]:
    """The section of a sink that posts JSON arrays to ``receiver``; ``options`` go over that."""
    return {"type": "webhook", "url": receiver.url, "body": "array"} | options


def posted(request: Request) -> list[int]:
    """Numbers of the events in a request to such a sink, in order."""
    body = request.json()
    return [int(one["interactionId"][2:]) for one in (body if isinstance(body, list) else [body])]


def all_posted(receiver: Receiver) -> list[int]:
    return [number for request in receiver.requests for number in posted(request)]


def key_of(request: Request) -> str:
    return request.headers["idempotency-key"]


def sent(receiver: Receiver) -> list[int]:
    """All events of all requests, as they came."""
    return [number for request in receiver.requests for number in numbers_of(request)]


class Gate:
    """While it is held the store's thread is in the middle of a transaction, and commits nothing.

    ``hold_next`` holds the transaction that somebody else starts.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._entered, self._opened = threading.Event(), threading.Event()

    def _hold(self, _: sqlite3.Connection) -> None:
        self._entered.set()
        if not self._opened.wait(DEADLINE_S):
            raise AssertionError("nobody opened the gate")

    def hold_next(self) -> None:
        self._database.note(self._hold)

    async def held(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, DEADLINE_S)

    def open(self) -> None:
        self._opened.set()

    async def __aenter__(self) -> "Gate":
        self.hold_next()
        self._commit = asyncio.ensure_future(self._database.commit())
        await self.held()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open()
        await self._commit


@dataclass
class Life:
    """One process. ``deliver`` starts sending."""

    pipeline: Pipeline
    ingest: IngestService
    directory: Path
    warnings: list[str]
    answered_twice: list[Result] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return self.pipeline.ledger

    def deliver(self, *, upkeep: bool = True) -> None:
        parts = (
            *(runner.lane.run() for runner in self.pipeline.runners),
            *(feed.run() for feed in self.ingest.feeds),
            *([maintain(self.pipeline)] if upkeep else ()),
            *(runner.status_poller.run() for runner in self.pipeline.runners if runner.status_poller),
        )
        self.tasks = [asyncio.ensure_future(part) for part in parts]

    def submit(self, *sent: bytes, **options: Any) -> asyncio.Future[Result]:
        """What the producer is told, once it is."""
        told: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def answer(result: Result) -> None:
            if told.done():
                self.answered_twice.append(result)
            else:
                told.set_result(result)

        self.ingest.admission.submit(Submission(list(sent), answer, sum(map(len, sent)), **options))
        return told

    async def take(self, *sent: bytes, **options: Any) -> AcceptedSubmission:
        async with asyncio.timeout(DEADLINE_S):
            result = await self.submit(*sent, **options)
        assert isinstance(result, AcceptedSubmission), result
        return result

    async def refuse(self, *sent: bytes, **options: Any) -> DeferredSubmission:
        async with asyncio.timeout(DEADLINE_S):
            result = await self.submit(*sent, **options)
        assert isinstance(result, DeferredSubmission), result
        return result

    async def until_empty(self) -> None:
        """Until every event that was accepted had its end."""
        async with asyncio.timeout(DEADLINE_S):
            while self.ingest.spool.events:
                self.assert_alive()
                await asyncio.sleep(0.002)
        await self.pipeline.journal.commit()

    async def drain(self, within_s: float = DEADLINE_S) -> None:
        """The order of shutting down of ``service/run.py``."""
        ingest, lanes = self.ingest, [runner.lane for runner in self.pipeline.runners]
        ingest.pressure.closing = True
        ingest.waiting.give_up()
        await ingest.admission.finished()
        await asyncio.gather(*(feed.drain(within_s) for feed in ingest.feeds))
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait(self.tasks[: 2 * len(lanes)])
        await self.stop()

    async def stop(self) -> None:
        """No task goes on, and none had failed."""
        self.assert_alive()
        for task in self.tasks:
            task.cancel()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        self.tasks = []

    async def crash(self, image: Path) -> None:
        """``image`` becomes the directory as ``kill -9`` leaves it now; this life sends nothing any more."""
        async with Gate(self.pipeline.database):
            shutil.copytree(self.directory, image, ignore=shutil.ignore_patterns("*-shm"))
            await self.stop()

    def assert_alive(self) -> None:
        for task in self.tasks:
            if task.done() and not task.cancelled():
                task.result()

    def assert_balanced(self) -> None:
        assert self.ledger.balanced(), self.ledger
        assert min(self.ledger.in_flight, self.ledger.accepted) >= 0, self.ledger
        for runner in self.pipeline.runners:
            assert runner.ledger.balanced(), (runner.name, runner.ledger)
            assert runner.ledger.in_flight >= 0, (runner.name, runner.ledger)

    def sink(self, name: str) -> SinkLedger:
        return next(runner.ledger for runner in self.pipeline.runners if runner.name == name)

    def source(self, name: str) -> SpoolSource:
        return next(feed.source for feed in self.ingest.feeds if feed.source.sink == name)

    def rows(self, sql: str) -> list[Any]:
        """What the file says, past this process."""
        connection = sqlite3.connect(f"file:{self.directory / 'state.db'}?mode=ro", uri=True)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


@asynccontextmanager
async def running(
    directory: Path,
    receiver: Receiver | None = None,
    *,
    deliver: bool = True,
    clock: Clock | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
    **sections: dict[str, Any],
) -> AsyncIterator[Life]:
    """A life on ``directory``; it delivers to ``receiver`` from the start, or when told to. With a section
    ``sinks`` it delivers to those; see ``webhook``."""
    os.makedirs(directory, exist_ok=True)
    settings = Settings.model_validate(
        SHORT | {name: SHORT.get(name, {}) | section for name, section in sections.items()}
    )
    warnings: list[str] = []
    login = Login(api=receiver.url, token_url=None) if receiver else None
    async with (
        open_pipeline(
            settings,
            login,
            directory,
            clock=clock or SystemClock(),
            warn=warnings.append,
            patient=True,
            bounds=bounds,
        ) as pipeline,
        open_ingest(pipeline, warn=warnings.append) as ingest,
    ):
        life = Life(pipeline, ingest, directory, warnings)
        if deliver:
            life.deliver()
        try:
            yield life
        finally:
            await life.stop()
        life.assert_balanced()
        assert not life.answered_twice
