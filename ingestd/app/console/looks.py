"""Few look through large files at once: what the console reads for people must not take the processor from
the lanes, nor all threads from each other.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ingestd.core.errors import Busy

if TYPE_CHECKING:
    from anyio import CapacityLimiter

T = TypeVar("T")

AT_ONCE, MOST_WAITING = 2, 8


class Looks:
    """``at_once`` may look, each in a thread; ``waiting`` others wait for their turn, in their order."""

    def __init__(self, *, at_once: int = AT_ONCE, waiting: int = MOST_WAITING) -> None:
        self._limiter: CapacityLimiter | None = None
        self._at_once = at_once
        self._most, self._asked = at_once + waiting, 0

    async def take(self, work: Callable[[], T]) -> T:
        """Raises Busy where enough wait already."""
        if self._asked >= self._most:  # the limiter counts who waits a moment later: many may come in it
            raise Busy(f"{self._asked} others look through the files, or wait for it: ask again in a moment")
        from anyio import CapacityLimiter, to_thread  # late: most services are never asked

        self._limiter = self._limiter or CapacityLimiter(self._at_once)
        self._asked += 1
        try:
            return await to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._asked -= 1
