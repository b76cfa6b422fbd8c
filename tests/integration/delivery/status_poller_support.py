"""A confirmer in virtual time: real SQL on a database in memory, and an API whose answers are scripted."""

import asyncio
import heapq
import json
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from ingestd.core.answer import Answer
from ingestd.core.letter import DeadLetter
from ingestd.delivery.event_status import StatusReader
from ingestd.delivery.recorder import PendingConfirmations
from ingestd.delivery.status_poller import StatusPoller, StatusPollerSettings
from ingestd.sinks.answer_body import safe_text
from ingestd.store import confirmations
from ingestd.store.confirmations import Due, Pending

SINK = "events"
START_WALL = 1_800_000_000.0
_MOST_TICKS = 60


class VirtualClock:
    """Time passes only in ``advance``: from one sleeper to the next, once nobody has anything left to do."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return START_WALL + self.now

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self.now + max(0.0, seconds), self._count, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        end, loop = self.now + seconds, asyncio.get_running_loop()
        while True:
            for _ in range(_MOST_TICKS):
                await asyncio.sleep(0)
                if not loop._ready:  # type: ignore[attr-defined]
                    break
            if not self._sleepers or self._sleepers[0][0] > end:
                break
            self.now, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
        self.now = end


class MemoryStore:
    """The store's own SQL without its thread: what is noted is done."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")
        for number in (1, 2, 3):
            script = resources.files("ingestd.store").joinpath(f"schema_{number}.sql").read_text()
            self.connection.executescript(script)
        self.largest_limit = 0

    def __del__(self) -> None:
        self.connection.close()

    async def open(self, *, now: float) -> int:
        return confirmations.count(self.connection, SINK)

    async def due(self, *, now: float, limit: int) -> tuple[Sequence[Due], float | None]:
        self.largest_limit = max(self.largest_limit, limit)
        return (
            confirmations.due(self.connection, SINK, now, limit),
            confirmations.next_due(self.connection, SINK, now),
        )

    async def read(self, number: int) -> Pending | None:
        return confirmations.read(self.connection, number)

    def postpone(self, number: int, *, due: float, asked: int) -> None:
        confirmations.postpone(self.connection, number, due=due, asked=asked)

    def settle(self, ids: Sequence[int]) -> None:
        confirmations.settle(self.connection, ids)

    async def commit(self) -> None:
        pass

    @property
    def left(self) -> int:
        return confirmations.count(self.connection, SINK)


@dataclass
class MemoryBook:
    """What was written down."""

    confirmed_events: int = 0
    letters: list[DeadLetter] = field(default_factory=list)

    keeps = False

    def confirmed(self, sink: str, event: Due, whole: Pending | None) -> None:
        assert (sink, whole) == (SINK, None)
        self.confirmed_events += 1

    def confirmation_failed(self, sink: str, letter: DeadLetter) -> None:
        assert sink == SINK
        self.letters.append(letter)


class ScriptedApi:
    """``script(id, seconds since the event was accepted)`` gives the answer. ``asked``: (time, id)."""

    def __init__(self, clock: VirtualClock, script: Callable[[str, float], Answer]) -> None:
        self.script = script
        self.asked: list[tuple[float, str]] = []
        self.takes_s = 0.0
        self.out = self.most_out = 0
        self._clock = clock

    async def get(self, url: str) -> Answer:
        remote_id = url.rpartition("/")[2]
        self.asked.append((self._clock.now, remote_id))
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        try:
            if self.takes_s:
                await self._clock.sleep(self.takes_s)
            return self.script(remote_id, self._clock.now)
        finally:
            self.out -= 1

    def times_of(self, remote_id: str) -> list[float]:
        return [at for at, asked in self.asked if asked == remote_id]


def says(status: Any, code: int = 200, **more: Any) -> Answer:
    return Answer(code, body=json.dumps({"id": "x", "status": status} | more).encode())


def pending_event(remote_id: str, number: int = 1) -> Pending:
    return Pending(SINK, remote_id, f"batch-{number}", 1, number, number, None, 1, b'{"n": %d}' % number)


@dataclass
class Rig:
    clock: VirtualClock
    store: MemoryStore
    book: MemoryBook
    api: ScriptedApi
    confirmer: StatusPoller
    warnings: list[str]
    rooms: list[float]

    def accept(self, *remote_ids: str, initial_delay_s: float = 1.0) -> None:
        """As ``event_recorder`` does where a batch is settled."""
        rows = [pending_event(one, number) for number, one in enumerate(remote_ids, 1)]
        confirmations.insert_confirmations(
            self.store.connection, rows, self.clock.wall(), initial_delay_s=initial_delay_s
        )
        self.confirmer.pending.add(len(rows))

    @property
    def ends(self) -> tuple[int, int]:
        """(confirmed, dead letters); every event has one of the two, or is still pending."""
        assert self.confirmer.pending.count == self.store.left
        return self.book.confirmed_events, len(self.book.letters)


@asynccontextmanager
async def rig(
    script: Callable[[str, float], Answer],
    *,
    store: MemoryStore | None = None,
    clock: VirtualClock | None = None,
    max_pending: int = 100_000,
    **options: Any,
) -> AsyncIterator[Rig]:
    """A confirmer that runs; on leaving it is cancelled, and nothing of it is left."""
    before = asyncio.all_tasks()
    clock, store, book = clock or VirtualClock(), store or MemoryStore(), MemoryBook()
    api = ScriptedApi(clock, script)
    warnings: list[str] = []
    rooms: list[float] = []
    confirmer = StatusPoller(
        SINK,
        "https://api.test/events/{id}",
        client=api,
        store=store,
        recorder=book,
        pending=PendingConfirmations(max_pending),
        reader=StatusReader(safe_text=safe_text),
        settings=StatusPollerSettings(**{"requests_per_minute": 6_000, **options}),
        rng=random.Random(2),
        clock=clock,
        on_room=lambda: rooms.append(clock.now),
        warn=warnings.append,
    )
    await confirmer.open()
    running = asyncio.create_task(confirmer.run())
    try:
        yield Rig(clock, store, book, api, confirmer, warnings, rooms)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert running.cancelled(), running.exception()
    assert asyncio.all_tasks() == before
