"""The spool as a source: what producers have posted, in the order of acceptance, for one sink.

Chunks that were accepted just now are still in memory, up to a limit; past it they are read from the disk.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterable

import anyio

from ingestd.core.chunk import Chunk, Keeper
from ingestd.core.receipt import Receipt
from ingestd.sources.source import Position
from ingestd.store.spool import Route, Spool


class SpoolSource:
    """``offer`` is called with chunks that are on disk. ``resume``, before ``chunks``, is for those of which
    an earlier process has sent a part. ``end``: no more will be offered.

    One for each sink, since a sink that is slow or away falls behind, and the others do not wait.
    """

    keeper = Keeper.SPOOL

    def __init__(self, spool: Spool, sink: str, *, route: Route, max_memory_bytes: int) -> None:
        self.sink = sink
        self._spool = spool
        self._cursor = spool.cursors[sink]
        self._route = route
        self._memory: deque[Chunk] = deque()
        self._memory_bytes, self._max_memory_bytes = 0, max_memory_bytes
        self._last_offered = 0
        self._resumed: dict[int, Chunk] = {}
        self._news = anyio.Event()
        self._stopped = self._ending = False
        self.behind = True
        """There may be chunks on disk before those in memory."""

    @property
    def name(self) -> str:
        return f"the spool, for {self.sink}"

    @property
    def number(self) -> int:
        return self._spool.source

    @property
    def unread(self) -> int:
        """The number of the first chunk that was not read."""
        return self._cursor.unread

    @property
    def behind_chunks(self) -> int:
        """How many chunks were not read."""
        return max(0, self._spool.end - self._cursor.unread)

    async def open(self) -> None:
        """The spool is open, and has the sink's cursor."""
        self._last_offered = self._spool.end - 1

    async def resume(self, numbers: Iterable[int]) -> list[Chunk]:
        """These chunks before their turn, but damaged ones. Raises StoreFailed."""
        for number in numbers:
            chunks, _ = await self._spool.read(first=number, before=number + 1, limit=1)
            for chunk in chunks:
                self._spool.open_chunk(self.sink, chunk, self._route)
                self._resumed[number] = chunk
        return list(self._resumed.values())

    def offer(self, chunk: Chunk) -> None:
        """This chunk is on disk; it comes after all that were offered before."""
        number = self._last_offered = chunk.start
        size_bytes = sum(map(len, chunk.events))
        if not self.behind and number >= self._cursor.unread:
            if self._memory_bytes + size_bytes <= self._max_memory_bytes:
                self._memory.append(chunk)
                self._memory_bytes += size_bytes
            else:
                self.behind = True
        self._news.set()

    async def chunks(self) -> AsyncIterator[tuple[Chunk, Receipt]]:
        """Until ``stop``; after ``end`` until there are no more. Raises StoreFailed."""
        while not self._is_stopped():
            if self._memory:
                self._memory_bytes -= sum(map(len, self._memory[0].events))
                yield self._next(self._memory.popleft())
            elif self.behind:
                before = self._last_offered + 1
                found, following = await self._spool.read(first=self._cursor.unread, before=before)
                found.reverse()
                while found:
                    if self._is_stopped():
                        return
                    yield self._next(found.pop())  # nothing of it is kept while this waits for more
                self._cursor.unread = following
                self.behind = following <= self._last_offered
            elif self._ending:
                return
            else:
                self._news = anyio.Event()
                await self._news.wait()

    def _next(self, chunk: Chunk) -> tuple[Chunk, Receipt]:
        if resumed := self._resumed.pop(chunk.start, None):
            self._spool.was_read(self.sink, chunk.start)
            return resumed, resumed.receipt
        self._spool.open_chunk(self.sink, chunk, self._route)
        self._cursor.unread = chunk.end
        return chunk, chunk.receipt

    def _is_stopped(self) -> bool:
        return self._stopped

    def ack(self, position: Position) -> None:
        """The receipts of its chunks tell the spool, each on its own: a chunk leaves it in whatever order."""

    def end(self) -> None:
        self._ending = True
        self._news.set()

    def stop(self) -> None:
        """The spool keeps what was not read."""
        self._stopped = True
        self._news.set()

    async def close(self) -> None:
        """The spool is closed by who opened it."""
