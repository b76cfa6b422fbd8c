"""What stands around a process, played: its socket, its admin address, its signals, its watchdog."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from signal import Signals
from typing import Any

from ingestd.telemetry.watchdog import Watchdog


class QuietWatchdog(Watchdog):
    """No thread looks at the loop: nothing blocks it."""

    @contextmanager
    def watch(self) -> Iterator[None]:
        yield


class PlayedServer:
    """Instead of a socket: producers call the endpoint themselves."""

    port = connections = refused_connections = 0
    requests_by_status: dict[int, int] = {}  # noqa: RUF012 - nobody writes to it

    def __init__(self, stopped: Callable[[], None]) -> None:
        self.stop_listening = stopped

    def change_limits(self, limits: object) -> None:
        """There are none."""

    async def drain(self, timeout_s: float) -> int:
        return 0


class SignalQueue:
    def __init__(self) -> None:
        self._come: asyncio.Queue[Signals] = asyncio.Queue()

    def send(self, number: Signals) -> None:
        self._come.put_nowait(number)

    def __aiter__(self) -> AsyncIterator[Signals]:
        return self

    async def __anext__(self) -> Signals:
        return await self._come.get()


@asynccontextmanager
async def no_admin(*rest: Any, **options: Any) -> AsyncIterator[int]:
    yield 0
