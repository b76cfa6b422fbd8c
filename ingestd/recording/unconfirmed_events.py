"""Events that an API has accepted and of which it has yet to say what became of them. For ``event_recorder``.

They are in flight until then: in the ledger, and for a producer that waits. What is confirmed is told row by
row (``store/confirmations.py``); here it comes together to the ends of events, which may have several sinks.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ingestd.core.batch import Batch
from ingestd.core.chunk import Chunk, pick_segments
from ingestd.core.ledger import Ledger
from ingestd.core.letter import DeadLetter
from ingestd.core.positions import Positions
from ingestd.core.receipt import FanOutReceipt
from ingestd.store.lost_places import LostPlaces

Row = tuple[str, int, int]
"""(batch, source, offset): what a row of the store is known by. A negative offset: of a stream, whose events
have no place and one sink each."""
State = Callable[[int], tuple[int, int] | None]
"""See ``Spool.state``."""

_ALL = range(2**63 - 1)
"""Where an event of an earlier process went besides is not known: everywhere."""


@dataclass(slots=True)
class _Left:
    """What earlier processes left of one source. Positions in ``fate`` are offsets."""

    fate: FanOutReceipt
    rows: dict[int, list[Row]] = field(default_factory=dict)
    offsets: Sequence[int] = ()


class UnconfirmedEvents:
    """Told of events as they are accepted and as what became of them is known.

    An event with several sinks is an entry here until the last of its APIs has spoken; then it is counted:
    dead-lettered if any of its sinks lost it, else delivered. Memory is bounded by what may be pending at
    each sink (``confirm.max_pending``).
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._entries: dict[Row, tuple[FanOutReceipt, int]] = {}
        self._spool = -1
        self._state: State = lambda number: None
        self._tell: Callable[[int, int], None] = lambda number, buried: None
        self._alone: dict[int, FanOutReceipt] = {}  # chunks of the spool that go to one sink
        self._held: dict[
            int, tuple[FanOutReceipt, int]
        ] = {}  # such as have left the spool; dead letters besides
        self._left: dict[int, _Left] = {}
        self._asleep: dict[int, _Left] = {}
        self._lost: dict[int, LostPlaces] = {}

    # --- on the way ---

    def accepted(self, batch: Batch, rows: Sequence[tuple[int, int, int]]) -> None:
        """Events of a batch; ``rows``: (index in it, source, offset), in the order of the indices."""
        segments = pick_segments(batch.segments, [index for index, _, _ in rows])
        places = ((segment.chunk, position) for segment in segments for position in segment.positions)
        for (chunk, position), (_, source, offset) in zip(places, rows, strict=True):
            fate = chunk.fate
            if fate is None:
                if source != self._spool:  # nobody waits for it, and it has no other sink
                    continue
                fate = self._alone.get(chunk.start) or self._fate_alone(chunk.start)
            fate.confirming[position] = fate.confirming.get(position, 0) + 1
            if offset >= 0:
                self._entries[batch.id, source, offset] = fate, position

    def _fate_alone(self, number: int) -> FanOutReceipt:
        fate = self._alone[number] = FanOutReceipt({}, events=0, sinks=0, done=lambda fate: None)
        fate.known = True
        return fate

    def ended(self, row: Row, letter: DeadLetter | None = None) -> bool | None:
        """It is confirmed, or failed with ``letter``. True: no sink has the event, and its key is free again.
        None: where it went besides is not known."""
        entry = self._entries.pop(row, None)
        if entry is None:
            self._count(letter)
            return None
        fate, position = entry
        free = fate.fail(position, letter) if letter else False
        fate.confirming[position] -= 1
        if fate.confirming[position] == 0:
            del fate.confirming[position]
            if fate.known:
                lost = fate.failed.get(position)
                self._count(lost[1] if lost else None)
            if not fate.confirming:
                fate.decided()
        return free

    def _count(self, letter: DeadLetter | None) -> None:
        self._ledger.in_flight -= 1
        if letter:
            self._ledger.buried(letter.reason)
        else:
            self._ledger.delivered += 1

    # --- who waits for a chunk of the spool ---

    def watch(self, source: int, state: State, tell: Callable[[int, int], None]) -> None:
        """``source``: the spool's number. ``state``: what it knows of its chunks; ``tell`` is called as
        ``Spool.on_settled``, once nothing of the chunk is confirming any more."""
        self._spool, self._state, self._tell = source, state, tell

    def settled(self, number: int, buried: int, fate: FanOutReceipt | None) -> None:
        """A chunk has left the spool. ``fate``: if it went to several sinks; ``buried`` are its letters."""
        besides = 0 if fate else buried
        fate = fate or self._alone.pop(number, None)
        if fate and fate.confirming:
            self._held[number] = fate, besides
            fate.decided = partial(self._decided, number)
        else:
            self._tell(number, besides + len(fate.failed) if fate else buried)

    def _decided(self, number: int) -> None:
        fate, besides = self._held.pop(number)
        self._tell(number, besides + len(fate.failed))

    def state(self, number: int) -> tuple[int, int] | None:
        """(events of this chunk without an end, dead letters); None: not yet taken up, or no longer there."""
        if held := self._held.get(number):
            fate, besides = held
            return len(fate.confirming.keys() - fate.failed.keys()), besides + len(fate.failed)
        found, alone = self._state(number), self._alone.get(number)
        if found and alone:
            return found[0] + len(alone.confirming), found[1] + len(alone.failed)
        return found

    # --- what earlier processes left, where there are several sinks ---

    def left(self, rows: Iterable[Row], *, sinks: Sequence[str]) -> None:
        """An earlier process left these; ``sinks``: all there are. They are in flight."""
        for row in rows:
            _, source, offset = row
            if offset < 0:
                self._ledger.accepted += 1
                self._ledger.in_flight += 1
                continue
            left = self._left.get(source)
            if left is None:
                fate = FanOutReceipt(dict.fromkeys(sinks, _ALL), events=0, sinks=0, done=lambda fate: None)
                fate.known = True
                left = self._left[source] = _Left(fate)
            if offset not in left.rows:
                self._ledger.accepted += 1
                self._ledger.in_flight += 1
            left.rows.setdefault(offset, []).append(row)
            left.fate.confirming[offset] = left.fate.confirming.get(offset, 0) + 1
            self._entries[row] = left.fate, offset

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
                left.fate.fail(letter.offset, letter)
        if in_spool_from is not None:
            self._part(source, left, in_spool_from)

    def _part(self, source: int, left: _Left, first: int) -> None:
        fate = FanOutReceipt(left.fate.routed, events=0, sinks=0, done=lambda fate: None)
        asleep = self._asleep[source] = _Left(fate, offsets=left.offsets)
        for offset in left.offsets[bisect_left(left.offsets, first) :]:
            self._move(left, offset, fate, offset)
            asleep.rows[offset] = left.rows.pop(offset)
            self._ledger.accepted -= 1
            self._ledger.in_flight -= 1

    def adopt(self, fate: FanOutReceipt, chunk: Chunk, positions: Positions | None = None) -> None:
        """A chunk is taken up that an earlier process may have had: what it left of the events at
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
            if letter.offset in places and fate.sinks_of(places[letter.offset]):
                fate.fail(places[letter.offset], letter)
        for left in near:
            counted = left is self._left.get(source)
            for offset in places.keys() & left.rows.keys():
                if not fate.sinks_of(places[offset]):
                    continue
                if self._move(left, offset, fate, places[offset]) and counted:
                    self._ledger.accepted -= 1
                    self._ledger.in_flight -= 1
                del left.rows[offset]

    def _move(self, left: _Left, offset: int, fate: FanOutReceipt, position: int) -> bool:
        """What is known of the event at ``offset``; whether it had no end."""
        rows = [row for row in left.rows[offset] if row in self._entries]
        for row in rows:
            self._entries[row] = fate, position
            fate.confirming[position] = fate.confirming.get(position, 0) + 1
        left.fate.confirming.pop(offset, None)
        if (lost := left.fate.failed.pop(offset, None)) and position not in fate.failed:
            fate.failed[position] = lost
        return bool(rows)


def _any_between(offsets: Sequence[int], first: int, last: int) -> bool:
    at = bisect_left(offsets, first)
    return at < len(offsets) and offsets[at] <= last
