"""Time, passed in, so that tests and simulations own it: no module reads a clock or sets a timer past it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that never jump: for every duration and deadline."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch: only for stored timestamps and HTTP dates."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[Any]:
        """Ends its block after so many seconds with TimeoutError; None: never."""
        ...

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer: ...


class SystemClock:
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
    sleep = staticmethod(asyncio.sleep)
    timeout = staticmethod(asyncio.timeout)

    @staticmethod
    def call_later(seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback, *args)
