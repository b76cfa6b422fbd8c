"""Units of work that are committed together. For ``database.py``."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from ingestd.store.writer import Work


@dataclass(slots=True)
class CommitGroup:
    """What is committed together. ``appends`` may be refused; ``work`` keeps the state true and may not."""

    work: list[Work]
    appends: list[Work]
    waiter: asyncio.Future[None]
    appended: asyncio.Future[None]


class Reader(Protocol):
    """A connection that stays open beside the writing one."""

    async def pause(self) -> None:
        """End what is being read and close; nothing is read until ``resume``."""
        ...

    def resume(self) -> None: ...


def resolve(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # nobody may be waiting any more


def done(loop: asyncio.AbstractEventLoop, error: Exception | None) -> asyncio.Future[None]:
    future: asyncio.Future[None] = loop.create_future()
    resolve(future, error)
    return future
