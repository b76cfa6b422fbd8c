"""What a source of events is to the intake: a file, standard input, the spool, a broker.

The receipts of its chunks tell a source what is resolved (``OrderedAcks``); it is asked for no more than the
sinks take.
"""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from ingestd.core.chunk import Chunk, Keeper, Mark
from ingestd.core.receipt import Receipt


class Position(msgspec.Struct, frozen=True):
    """Where a chunk ends: its offset in the source, the number of the next line, what stands before it."""

    offset: int
    next_line: int
    mark: Mark


class Source(Protocol):
    """``open``, then ``chunks`` until its end or ``stop``; ``close`` once the acknowledgements are on disk.

    A broker that hands out again what is not acknowledged in time renews that itself while chunks are
    unresolved. It is not asked for more while the sinks are busy. ``number``: the source's number in the
    store, from ``open`` on.
    """

    @property
    def name(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def keeper(self) -> Keeper:
        """As its chunks say it."""
        ...

    async def open(self) -> None:
        """Find the position to go on from. Raises UserError, StoreFailed."""
        ...

    def chunks(self) -> AsyncIterator[tuple[Chunk, Receipt]]:
        """Chunks in order, each with the receipt that it has as ``chunk.receipt``, which counts all of its
        events. A restart cuts the same chunks from a position on, where the source keeps the events."""
        ...

    def ack(self, position: Position) -> None:
        """All events before this position are resolved. Called in order, never twice for the same; never for
        a position behind an unresolved event."""
        ...

    def stop(self) -> None:
        """No more chunks are wanted: ``chunks`` ends soon, also where it waits for a producer."""
        ...

    async def close(self) -> None: ...
