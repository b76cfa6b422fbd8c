"""Chunk, segment, receipt: how events move together and how a source learns of their end.

Nothing here is per event. A chunk of some hundred events has one receipt; a batch names the
events it took from a chunk as one segment; a delivered batch settles a segment with one addition.
"""

from array import array
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ingestd.core.mark import NO_MARK

if TYPE_CHECKING:
    from ingestd.core.fate import Fate

Positions = Sequence[int]
"""Which events of a chunk: a ``range`` where they are neighbours, else ascending integers."""


class Receipt:
    """Counts the events of one chunk that have not had their end; calls ``done`` when it gets to zero.

    ``buried``: those that became dead letters, counted for chunks of the spool.
    """

    __slots__ = ("_done", "buried", "open")

    def __init__(self, count: int, done: Callable[[], None]) -> None:
        self.open = count
        self.buried = 0
        self._done = done

    def settle(self, count: int = 1) -> None:
        if count == 0:
            return
        self.open -= count
        if self.open < 0:
            raise AssertionError("an event had two ends")
        if self.open == 0:
            self._done()

    def close(self) -> None:
        """There was nothing to wait for."""
        self._done()


class Chunk:
    """Events read together from ``[start, end)`` of a source's (decompressed) stream.

    ``source``: the source's number in the store. ``line``, ``next_line``: number of the first line
    (or array element), from 1, and of the one after the last. ``place(i)``: (offset in the stream,
    line) of event i; it is asked only when an event has to be named, which is rare. ``too_long``:
    length in bytes of events of which only the head was kept, by index. ``fate``: where the events go to
    several sinks, each of which has a ``view`` of its own; None: to one. ``dismissed``: positions of events
    that went nowhere and had their end, where that had to be noted. ``mark``: what stands before its end.
    """

    __slots__ = (
        "dismissed",
        "end",
        "events",
        "fate",
        "line",
        "mark",
        "next_line",
        "place",
        "receipt",
        "source",
        "start",
        "too_long",
    )

    def __init__(
        self,
        events: list[bytes],
        *,
        source: int,
        start: int,
        end: int,
        line: int = 1,
        next_line: int = 1,
        place: Callable[[int], tuple[int, int]] | None = None,
        too_long: dict[int, int] | None = None,
    ) -> None:
        self.events = events
        self.source = source
        self.start = start
        self.end = end
        self.line = line
        self.next_line = next_line
        self.too_long = too_long or {}
        self.receipt = Receipt(-1, lambda: None)
        self.place = place or (lambda index: (start, line))
        self.fate: Fate | None = None
        self.dismissed: set[int] = set()
        self.mark = NO_MARK

    def recut(self, events_in: Callable[[int], list[tuple[int, bytes]]], which: Container[int]) -> None:
        """In the place of each event of ``which`` (positions) come those that ``events_in`` finds in it:
        (offset in it, event). Only before anything was said of the chunk's positions."""
        events, origins, too_long = list[bytes](), list[tuple[int, int]](), dict[int, int]()
        for position, event in enumerate(self.events):
            if position in self.too_long:
                too_long[len(events)] = self.too_long[position]
            for offset, found in events_in(position) if position in which else ((0, event),):
                events.append(found)
                origins.append((position, offset))
        before = self.place

        def place(index: int) -> tuple[int, int]:
            position, offset = origins[index]
            start, line = before(position)
            return start + offset, line

        self.events, self.too_long, self.place = events, too_long, place

    def view(self) -> "Chunk":
        """The same events, to be settled by one sink of several."""
        return Chunk(
            self.events,
            source=self.source,
            start=self.start,
            end=self.end,
            line=self.line,
            next_line=self.next_line,
            place=self.place,
            too_long=self.too_long,
        )


class Segment(NamedTuple):
    """The events that a batch took from one chunk."""

    chunk: Chunk
    positions: Positions


def pick_segments(segments: Iterable[Segment], indices: Sequence[int]) -> Iterator[Segment]:
    """Where the events at ``indices`` (ascending) of a batch with these ``segments`` came from."""
    at, first = 0, 0
    for segment in segments:
        chosen: list[int] = []
        while at < len(indices) and indices[at] < first + len(segment.positions):
            chosen.append(segment.positions[indices[at] - first])
            at += 1
        if chosen:
            yield Segment(segment.chunk, chosen)
        first += len(segment.positions)


def pack_positions(positions: Positions) -> bytes:
    """Positions as bytes for the store; a range costs nine."""
    if isinstance(positions, range):
        return array("I", (positions.start, positions.stop)).tobytes() + b"r"
    return array("I", positions).tobytes()


def unpack_positions(packed: bytes) -> Positions:
    numbers = array("I")
    if len(packed) % 4:
        numbers.frombytes(packed[:-1])
        return range(numbers[0], numbers[1])
    numbers.frombytes(packed)
    return list(numbers)
