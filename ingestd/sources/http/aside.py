"""Beside the loop: what of a request takes longer than others can wait.

Made by the service, used by the endpoint.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self, TypeVar

T = TypeVar("T")


class BodyWorker(Protocol):
    def __call__(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Do ``work``, which does not raise, then call ``done`` on the loop with what it gave."""
        ...


def at_once(work: Callable[[], T], done: Callable[[T], None]) -> None:
    """Not beside the loop but right away."""
    done(work())


class BodyThread:
    """One thread: so one body at a time is in memory twice. What waits for it is bounded by the wire."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "bodies")

    def __call__(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        def finished(future: asyncio.Future[T]) -> None:
            if not future.cancelled():
                done(future.result())

        asyncio.get_running_loop().run_in_executor(self._executor, work).add_done_callback(finished)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
