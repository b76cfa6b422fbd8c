"""Time and chance, passed in, so that tests and simulations own them.

No module reads a clock, sets a timer or draws a random number past what it was given.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Protocol

from ingestd.core.errors import first_cause


class Timer(Protocol):
    def cancel(self) -> None:
        """It does not fire any more; nothing happens where it has."""
        ...


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that never jump: for every duration and deadline."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch: only for stored timestamps and HTTP dates."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after this number of seconds."""
        ...

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[Any]:
        """Ends its block after this number of seconds with TimeoutError; None: never."""
        ...

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call ``callback(*args)`` in the loop after this number of seconds, unless it is cancelled."""
        ...


class SystemClock:
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
    sleep = staticmethod(asyncio.sleep)
    timeout = staticmethod(asyncio.timeout)

    @staticmethod
    def call_later(seconds: float, callback: Callable[..., object], *args: Any) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback, *args)


class Event(Protocol):
    """asyncio's, or anyio's."""

    async def wait(self) -> object:
        """Return once it is set."""
        ...


async def wait_until_set(event: Event, seconds: float | None, clock: Clock) -> bool:
    """False if ``event`` was not set within ``seconds``; None: no limit."""
    try:
        async with clock.timeout(None if seconds is None else max(0.001, seconds)):
            await event.wait()
    except TimeoutError:
        return False
    return True


def until_turn(period_s: float, now_s: float) -> float:
    """Seconds to the next whole multiple of ``period_s``, on the clock that gave ``now_s``: what is done now
    and then in several places is done at once, and an idle process wakes once for all of it."""
    left_s = period_s - now_s % period_s
    return left_s if left_s > period_s / 8 else left_s + period_s  # a timer may be early


class Tasks(asyncio.TaskGroup):
    """asyncio's group, and a way to end tasks that would go on for ever. The block waits for all of them. If
    one fails, the others and the block are cancelled, and the errors come out as a group.

    anyio's groups do more, and are a tenth of what the start of a process costs: those who need cancel
    scopes, as the workers of a cluster do, take them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started: set[asyncio.Task[Any]] = set()

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        task = self.create_task(function(*args))
        self._started.add(task)
        task.add_done_callback(self._started.discard)

    def cancel(self) -> None:
        """The tasks, not the block: for its last line."""
        for task in self._started:
            task.cancel()


@contextmanager
def ungrouped(*kinds: type[Exception]) -> Iterator[None]:
    """An error of these ``kinds`` that tasks raised in a group is raised as itself, the first of them.

    Not ``except*`` with a ``raise`` in it: until Python 3.11.4 that wraps what it raises in a group again
    (gh-103590), so that nobody who waits for StoreFailed would see one.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        found, rest = group.split(kinds)
        if found is None:
            raise
        cause = first_cause(found)
        if rest is not None:
            raise BaseExceptionGroup(group.message, [cause, rest]) from None
        raise cause from None


def system_rng() -> random.Random:
    """Chance from the operating system, for jitter and ids. A simulation has a ``random.Random`` with a
    seed."""
    return random.SystemRandom()
