"""Time, passed in, so that tests and simulations own it."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that never jump: for every duration and deadline."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch: only for stored timestamps and HTTP dates."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
    sleep = staticmethod(asyncio.sleep)
