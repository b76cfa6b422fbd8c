"""Events that an API has accepted and of which it has yet to say what became of them. For ``event_recorder``.

They are in flight until then: in the ledger, and for a producer that waits. Confirmed events are recorded row
by row (``store/confirmations.py``); here it comes together to the ends of events, which may have several
sinks.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence, Set

import msgspec

from ingestd.core.chunk import Batch, Chunk, pick_segments
from ingestd.core.ledger import Ledger
from ingestd.core.letter import DeadLetter
from ingestd.core.receipt import FanOutReceipt, Positions, Receipt, receipt_without_chunk
from ingestd.store.journal import Journal
from ingestd.store.lost_places import LostPlaces

UnconfirmedRow = tuple[str, int, int]
"""(batch, source, offset): what a row of the store is known by. A negative offset: of a stream, whose events
have no place and one sink each."""

_ALL = range(2**63 - 1)
"""Where an event of an earlier process went besides is not known: everywhere."""


class _Left(msgspec.Struct):
    """What earlier processes left of one source. Positions in ``receipt`` are offsets."""

    receipt: FanOutReceipt
    rows: dict[int, list[UnconfirmedRow]] = msgspec.field(default_factory=dict)
    offsets: Sequence[int] = ()


class UnconfirmedEvents:
    """Records events when they are accepted, and when their outcome is known.

    An event is an entry here until the last of its APIs has spoken; then it is counted: dead-lettered if any
    of its sinks lost it, else delivered. Memory is bounded by what may be pending at each sink
    (``confirm.max_pending``). ``sinks``: all there are.
    """

    def __init__(self, ledger: Ledger, sinks: Sequence[str]) -> None:
        self._ledger = ledger
        self._sinks = sinks
        self._entries: dict[UnconfirmedRow, tuple[Receipt, int]] = {}
        self._left: dict[int, _Left] = {}
        self._asleep: dict[int, _Left] = {}
        self._lost: dict[int, LostPlaces] = {}

    # --- on the way ---

    def accepted(self, batch: Batch, rows: Sequence[tuple[int, int, int]]) -> None:
        """Events of a batch; ``rows``: (index in it, source, offset), in the order of the indices."""
        segments = pick_segments(batch.segments, [index for index, _, _ in rows])
        places = ((segment.chunk, position) for segment in segments for position in segment.positions)
        for (chunk, position), (_, source, offset) in zip(places, rows, strict=True):
            receipt = chunk.receipt
            receipt.unconfirmed[position] = receipt.unconfirmed.get(position, 0) + 1
            if offset >= 0:
                self._entries[batch.id, source, offset] = receipt, position

    def resolve(self, row: UnconfirmedRow, letter: DeadLetter | None = None) -> bool:
        """It is confirmed, or failed with ``letter``. True: no sink has the event, and its key is free again.
        An event of which nothing else is known may be at every sink."""
        entry = self._entries.pop(row, None)
        if entry is None:
            self._count(letter)
            return letter is not None and len(self._sinks) == 1
        receipt, position = entry
        free = receipt.fail(position, letter) if letter else False
        if receipt.confirm(position):
            self._count(receipt.letter_of(position, letter))
        return free

    def _count(self, letter: DeadLetter | None) -> None:
        self._ledger.in_flight -= 1
        if letter:
            self._ledger.count_letters(letter.reason)
        else:
            self._ledger.delivered += 1

    # --- what earlier processes left ---

    def left(self, rows: Iterable[UnconfirmedRow]) -> None:
        """An earlier process left these. They are in flight."""
        for row in rows:
            _, source, offset = row
            if offset < 0:
                self._ledger.accepted += 1
                self._ledger.in_flight += 1
                continue
            left = self._left.get(source)
            if left is None:
                left = self._left[source] = _Left(
                    receipt_without_chunk(dict.fromkeys(self._sinks, _ALL), known=True)
                )
            if offset not in left.rows:
                self._ledger.accepted += 1
                self._ledger.in_flight += 1
            left.rows.setdefault(offset, []).append(row)
            left.receipt.unconfirmed[offset] = left.receipt.unconfirmed.get(offset, 0) + 1
            self._entries[row] = left.receipt, offset

    def first_places(self) -> dict[int, int]:
        """Of each source the lowest offset of an event that was left."""
        return {source: min(left.rows) for source, left in self._left.items()}

    def lost(self, source: int, lost: LostPlaces, *, in_spool_from: int | None = None) -> None:
        """Dead letters of earlier processes; and chunks from that offset on are in the spool, which counts
        their events itself."""
        if lost:
            self._lost[source] = lost
        left = self._left.get(source)
        if left is None:
            return
        left.offsets = sorted(left.rows)
        for letter in lost.between(left.offsets[0], left.offsets[-1]):
            if letter.offset in left.rows:
                left.receipt.fail(letter.offset, letter)
        if in_spool_from is not None:
            self._part(source, left, in_spool_from)

    def lost_offsets(self, chunk: Chunk, sink: str) -> Set[int]:
        """Offsets of events of the chunk that are dead letters of the sink since an earlier process."""
        lost = self._lost.get(chunk.source)
        if not lost or not chunk.events:
            return frozenset()
        first, last = chunk.place(0)[0], chunk.place(len(chunk.events) - 1)[0]
        return {letter.offset for letter in lost.between(first, last) if letter.sink == sink}

    def _part(self, source: int, left: _Left, first: int) -> None:
        receipt = receipt_without_chunk(left.receipt.routed, known=False)
        asleep = self._asleep[source] = _Left(receipt, offsets=left.offsets)
        for offset in left.offsets[bisect_left(left.offsets, first) :]:
            self._move(left, offset, receipt, offset)
            asleep.rows[offset] = left.rows.pop(offset)
            self._ledger.accepted -= 1
            self._ledger.in_flight -= 1

    def adopt(self, receipt: FanOutReceipt, chunk: Chunk, positions: Positions | None = None) -> None:
        """A chunk is read that an earlier process may have had: what it left of the events at
        ``positions`` is theirs."""
        source = chunk.source
        found = [left for left in (self._left.get(source), self._asleep.get(source)) if left]
        lost = self._lost.get(source)
        if not (found or lost) or not chunk.events:
            return
        first, last = chunk.place(0)[0], chunk.place(len(chunk.events) - 1)[0]
        wanted = range(len(chunk.events)) if positions is None else positions
        letters = list(lost.between(first, last)) if lost else []
        near = [left for left in found if _any_between(left.offsets, first, last)]
        if not (letters or near):
            return
        places = {chunk.place(position)[0]: position for position in wanted}
        for letter in letters:
            if letter.offset in places and receipt.sinks_of(places[letter.offset]):
                receipt.fail(places[letter.offset], letter)
        for left in near:
            counted = left is self._left.get(source)
            for offset in places.keys() & left.rows.keys():
                if not receipt.sinks_of(places[offset]):
                    continue
                if self._move(left, offset, receipt, places[offset]) and counted:
                    self._ledger.accepted -= 1
                    self._ledger.in_flight -= 1
                del left.rows[offset]

    def _move(self, left: _Left, offset: int, receipt: FanOutReceipt, position: int) -> bool:
        """What is known of the event at ``offset``; whether it is open."""
        rows = [row for row in left.rows[offset] if row in self._entries]
        for row in rows:
            self._entries[row] = receipt, position
            receipt.unconfirmed[position] = receipt.unconfirmed.get(position, 0) + 1
        left.receipt.unconfirmed.pop(offset, None)
        if (lost := left.receipt.failed.pop(offset, None)) and position not in receipt.failed:
            receipt.failed[position] = lost
        return bool(rows)


def _any_between(offsets: Sequence[int], first: int, last: int) -> bool:
    at = bisect_left(offsets, first)
    return at < len(offsets) and offsets[at] <= last


async def restore_unconfirmed(
    journal: Journal,
    unconfirmed: UnconfirmedEvents,
    sources: Mapping[int, int],
    *,
    spool: int | None = None,
) -> None:
    """Which events have yet to be confirmed, or are lost, since an earlier process. ``sources``: those that
    are read again, from which place on; ``spool``: is one of them."""
    left = unconfirmed.first_places()
    for source in {*sources, *left}:
        first = min(place for of in (sources, left) if (place := of.get(source)) is not None)
        lost = await journal.lost_places(source, first=first)
        unconfirmed.lost(source, lost, in_spool_from=sources[source] if source == spool else None)
