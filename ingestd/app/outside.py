"""All that a process gets from outside: time, randomness, the network on both sides, the writer's thread,
the files of lakes, signals."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from signal import Signals
from typing import Any

import anyio
import msgspec

from ingestd.core.bounds import DEFAULT_BOUNDS, Bounds
from ingestd.core.clock import Clock, SystemClock, system_rng
from ingestd.store.writer import WriterHost, WriterThread
from ingestd.telemetry.watchdog import Watchdog
from ingestd.transport.engine import Engine
from ingestd.transport.file_system import FileSystem

OpenSignals = Callable[..., AbstractContextManager[AsyncIterator[Signals]]]


class Outside(msgspec.Struct, frozen=True):
    """A simulation has its own. None: the real network and files, and the thread that watches the loop."""

    clock: Clock = msgspec.field(default_factory=SystemClock)
    rng: random.Random = msgspec.field(default_factory=system_rng)
    engine: Engine | None = None
    file_system: FileSystem | None = None
    store_host: Callable[[], WriterHost] = WriterThread
    signals: OpenSignals = anyio.open_signal_receiver
    serve: Callable[..., AbstractAsyncContextManager[Any]] | None = None
    serve_admin: Callable[..., AbstractAsyncContextManager[int]] | None = None
    watchdog: Watchdog | None = None
    bounds: Bounds = DEFAULT_BOUNDS
