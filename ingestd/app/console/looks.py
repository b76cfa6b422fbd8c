"""Few look through large files at once: what the console reads for people must not take the processor from
the lanes, nor all threads from each other.
"""

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from ingestd.core.errors import Busy

T = TypeVar("T")

AT_ONCE, MOST_WAITING = 2, 8


class Looks:
    """``at_once`` may look, each in a thread; ``waiting`` others wait for their turn, in their order."""

    def __init__(self, *, at_once: int = AT_ONCE, waiting: int = MOST_WAITING) -> None:
        self._limiter, self._waiting = CapacityLimiter(at_once), waiting

    async def take(self, work: Callable[[], T]) -> T:
        """Raises Busy where enough wait already."""
        at_it = self._limiter.statistics()
        if at_it.tasks_waiting >= self._waiting:
            raise Busy(
                f"{at_it.borrowed_tokens} are looking through the files, and {self._waiting} wait for it:"
                " ask again in a moment"
            )
        return await to_thread.run_sync(work, limiter=self._limiter)
