"""All that a process gets from outside: time, randomness, the network on both sides, the writer's thread,
the files of lakes, signals."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from signal import Signals
from typing import TYPE_CHECKING, Any

import msgspec

from ingestd.core.bounds import DEFAULT_BOUNDS, Bounds
from ingestd.core.clock import Clock, SystemClock, system_rng
from ingestd.store.writer import WriterThread
from ingestd.store.writer_host import WriterHost
from ingestd.transport.engine import Engine
from ingestd.transport.file_system import FileSystem

if TYPE_CHECKING:
    from ingestd.telemetry.watchdog import Watchdog

OpenSignals = Callable[..., AbstractContextManager[AsyncIterator[Signals]]]


@contextmanager
def open_signals(*numbers: Signals) -> Iterator[AsyncIterator[Signals]]:
    """Gives each that arrives, in its order, for as long as the block lasts."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Queue[Signals]()

    async def received() -> AsyncIterator[Signals]:
        while True:
            yield await arrived.get()

    for number in numbers:
        loop.add_signal_handler(number, arrived.put_nowait, number)
    try:
        yield received()
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class Outside(msgspec.Struct, frozen=True):
    """A simulation has its own. None: the real network and files, and the thread that watches the loop."""

    clock: Clock = msgspec.field(default_factory=SystemClock)
    rng: random.Random = msgspec.field(default_factory=system_rng)
    engine: Engine | None = None
    file_system: FileSystem | None = None
    store_host: Callable[[], WriterHost] = WriterThread
    signals: OpenSignals = open_signals
    serve: Callable[..., AbstractAsyncContextManager[Any]] | None = None
    serve_admin: Callable[..., AbstractAsyncContextManager[int]] | None = None
    watchdog: "Watchdog | None" = None
    bounds: Bounds = DEFAULT_BOUNDS
