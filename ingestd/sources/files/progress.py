"""How far a source has been dealt with: the position before which every event has had its end."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ingestd.core.chunk import Chunk
from ingestd.core.file_identity import Mark
from ingestd.core.receipt import Receipt

Moved = Callable[[int, int, int, Mark], None]
"""(source, position, number of the next line, what stands before the position)."""


class _Opened(NamedTuple):
    receipt: Receipt
    end: int
    next_line: int
    mark: Mark
    since: float


class Progress:
    """Hands out receipts for one source's chunks, in order, and reports how far all are settled."""

    def __init__(self, source: int, moved: Moved) -> None:
        self._source = source
        self._moved = moved
        self._open: deque[_Opened] = deque()

    def opened(self, chunk: Chunk, count: int, now: float) -> None:
        """``count`` events of ``chunk`` are on their way: gives the chunk its receipt."""
        chunk.receipt = Receipt(count, self._advance)
        self._open.append(_Opened(chunk.receipt, chunk.end, chunk.next_line, chunk.mark, now))
        if count == 0:
            self._advance()

    @property
    def in_flight(self) -> int:
        return sum(opened.receipt.open for opened in self._open)

    @property
    def oldest_since(self) -> float | None:
        """When the oldest chunk was read that has an event without an end."""
        return self._open[0].since if self._open else None

    def _advance(self) -> None:
        last: _Opened | None = None
        while self._open and self._open[0].receipt.open == 0:
            last = self._open.popleft()
        if last:
            self._moved(self._source, last.end, last.next_line, last.mark)
