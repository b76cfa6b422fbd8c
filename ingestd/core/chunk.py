"""Chunk and segment: how events move together, and where they came from.

Nothing here is per event. A chunk of some hundred events has one receipt; a batch names the
events it took from a chunk as one segment; a delivered batch resolves a segment with one addition.
"""

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from ingestd.core.receipt import Positions, Receipt, Routed


class Keeper(Enum):
    """Who keeps events until they are resolved, so that a crash loses none. A chunk tells it of its own."""

    SOURCE = "source"
    """It gives them again, from its position on: a file, a broker."""
    SPOOL = "spool"
    """They are on disk since they were accepted, and their keys are known from then on."""
    JOURNAL = "journal"
    """Nobody else has them: they are kept with the batches that they are in."""


class Chunk:
    """Events read together from ``[start, end)`` of a source's (decompressed) stream.

    ``source``: the source's number in the store. ``line``, ``next_line``: number of the first line
    (or array element), from 1, and of the one after the last. ``place(i)``: (offset in the stream,
    line) of event i; it is asked only when an event has to be named, which is rare. ``too_long``:
    length in bytes of events of which only the head was kept, by index. ``dismissed``: positions of events
    that were resolved without a sink, where that had to be noted. ``mark``: what stands before its end.
    Where their source knows it: ``digests`` of the events' keys, ``routed``: who gets what, ``accepted_at``:
    wall time.
    ``size_bytes``: of its events, or a little more.
    Of a broker's messages: ``unreadable``: why the source could make no event of what stands at an index;
    ``about(i)``: the message that event i came in, and its headers, in words for a dead letter.
    """

    __slots__ = (
        "about",
        "accepted_at",
        "digests",
        "dismissed",
        "end",
        "events",
        "keeper",
        "line",
        "mark",
        "next_line",
        "place",
        "receipt",
        "routed",
        "size_bytes",
        "source",
        "start",
        "too_long",
        "unreadable",
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
        keeper: Keeper = Keeper.SOURCE,
        digests: list[bytes | None] | None = None,
        accepted_at: float = 0.0,
        unreadable: dict[int, str] | None = None,
        about: Callable[[int], str] | None = None,
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
        self.dismissed: set[int] = set()
        self.mark = NO_MARK
        self.size_bytes = end - start
        self.keeper = keeper
        self.digests = digests or []
        self.accepted_at = accepted_at
        self.routed: Routed = {}
        self.unreadable = unreadable or {}
        self.about = about

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

        self.receipt.recount(len(events) - len(self.events))
        self.events, self.too_long, self.place = events, too_long, place


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


MARK_BYTES = 4096
"""So many bytes of its head, and of what stands before the place where reading ended."""

Mark = tuple[int, bytes]
"""A place in a file as it is on disk, and the last bytes before it."""

NO_MARK: Mark = (0, b"")


def digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def last_bytes(before: bytes, data: bytes | memoryview) -> bytes:
    """The last ``MARK_BYTES`` of both, one after the other."""
    new = bytes(data[-MARK_BYTES:])
    return new if len(new) == MARK_BYTES else (before + new)[-MARK_BYTES:]
