"""What the tests of this room share."""

import asyncio


class FakeClock:
    """Sleeping moves the monotonic clock on at once. ``wall`` jumps only where a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall_now = 1_800_000_000.0
        self.slept: list[float] = []

    timeout = staticmethod(asyncio.timeout)

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.wall_now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)
