"""What an earlier process left: batches that were frozen, and may or may not have arrived.

Files are read again from their position. Events of batches that were settled beyond it are passed
over; events of batches that were not are collected until the batch is whole again, and it goes out
under its own key with the bytes it had.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Sequence, Set
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ingestd.core.chunk import Batch, Chunk, Keeper, NewId, Segment
from ingestd.core.clock import Clock
from ingestd.core.receipt import FanOutReceipt, Receipt
from ingestd.intake.read_again import known_until
from ingestd.processing.dedup import Window
from ingestd.sinks.sink import SteppedSink, Unencodable
from ingestd.store.frozen_batches import FrozenBatch, body_digest, unpack_positions
from ingestd.store.key_log import KeyLog

if TYPE_CHECKING:
    from ingestd.core.receipt import Positions

DigestsOf = Callable[[Sequence[bytes]], list[bytes | None]]
Encode = Callable[[Sequence[bytes]], bytes]


class Which(NamedTuple):
    """Batches that are not whole yet: those with events of these ``sources``, with these ids (``batches``),
    ``but`` for those. None: all."""

    sources: Container[int] | None = None
    batches: Container[str] | None = None
    but: Collection[str] = ()


ALL = Which()


class _PartialBatch(msgspec.Struct):
    frozen: FrozenBatch
    wanted: int
    found: dict[int, Segment] = msgspec.field(default_factory=dict)
    first: tuple[int, int] = (0, 0)  # where its first event stands, in the order of reading


class RecoveredChunk(msgspec.Struct, frozen=True):
    """What recovery knows of one chunk: ``settled`` positions were resolved in an earlier process,
    ``in_batches`` ones belong to batches that are not whole yet, ``batches`` are whole again now, in the
    order of their first events: parts of a batch that was cut may hold events of one key."""

    settled: Set[int]
    in_batches: Set[int]
    batches: list[Batch]


class Recovery:
    """Of one sink. ``sources``: numbers of the files that this run reads; other batches are left alone.

    ``claims_keys``: its batches claim the keys of their events, and note them, since these go to no other
    sink; where sinks share a chunk, it is the chunk that does.
    """

    def __init__(
        self,
        frozen: Sequence[FrozenBatch],
        sources: set[int],
        *,
        encode: Encode,
        digests: DigestsOf,
        claims_keys: bool,
        new_id: NewId,
        stepped: SteppedSink | None = None,
    ) -> None:
        self._new_id = new_id
        self.claims_keys = claims_keys
        self._encode = encode
        self._stepped = stepped
        self._digests = digests
        self._by_chunk: dict[tuple[int, int], list[tuple[_PartialBatch, int, Positions]]] = defaultdict(list)
        self._starts: dict[int, list[int]] = defaultdict(list)  # of these, by source: heaps, for ``passed``
        self._open: dict[str, _PartialBatch] = {}  # not settled, not whole yet
        self._changed: dict[str, None] = {}  # ids, in order
        self._looks = 0
        self._awaited: set[bytes] = set()  # keys of batches that are not whole yet
        self._stale: list[bytes] = []
        self.kept = [batch for batch in frozen if batch.kept is not None and not batch.settled]
        mine = (batch for batch in frozen if batch.kept is None)
        self.know(b for b in mine if all(source in sources for source, *_ in b.segments))

    def know(self, frozen: Iterable[FrozenBatch]) -> None:
        """Of a process that had the source before, before anything of theirs is read again. One that is known
        of another source, too, goes on as one of this, with the keys that are awaited for it."""
        for batch in frozen:
            if not batch.settled and (before := self._open.get(batch.id)):
                batch = batch._replace(keys=before.frozen.keys)
            unfinished = _PartialBatch(batch, len(batch.segments))
            if not batch.settled:
                self._open[batch.id] = unfinished
                if self.claims_keys:
                    self._awaited.update(batch.keys)
            for number, one in enumerate(batch.segments):
                self._by_chunk[one.source, one.start].append(
                    (unfinished, number, unpack_positions(one.positions))
                )
                heappush(self._starts[one.source], one.start)

    def __bool__(self) -> bool:
        """Whether there are chunks to ``look`` at."""
        return bool(self._by_chunk)

    @property
    def awaited(self) -> Set[bytes]:
        """Keys of events that are in a batch that is not whole yet: a copy of one of them waits for it."""
        return self._awaited

    def look(self, chunk: Chunk) -> RecoveredChunk | None:
        """None if the chunk is none of ours."""
        entries = self._by_chunk.pop((chunk.source, chunk.start), []) + self._left_of(chunk)
        if not entries:
            return None
        settled, in_batches, whole = set[int](), set[int](), list[_PartialBatch]()
        self._looks += 1
        entries.sort(key=lambda entry: not entry[0].frozen.settled)
        for unfinished, number, positions in entries:
            until = known_until(chunk, unfinished.frozen.segments[number])
            if until < len(chunk.events) and unfinished.frozen.settled:
                settled.update(position for position in positions if position < until)
            elif positions and positions[-1] >= until:
                self._changed[unfinished.frozen.id] = None  # the source has changed: its events are new ones
            elif unfinished.frozen.settled:
                settled.update(positions)
            elif not (settled.isdisjoint(positions) and in_batches.isdisjoint(positions)):
                self._changed[unfinished.frozen.id] = (
                    None  # it is known of two chunks, which were cut in turn
                )
            else:
                in_batches.update(positions)
                if not unfinished.found:
                    unfinished.first = self._looks, positions[0] if positions else 0
                unfinished.found[number] = Segment(chunk, positions)
                if len(unfinished.found) == unfinished.wanted:
                    del self._open[unfinished.frozen.id]
                    whole.append(unfinished)
        return RecoveredChunk(settled, in_batches, [self._rebuild(one) for one in sorted(whole, key=_first)])

    def _left_of(self, chunk: Chunk) -> "list[tuple[_PartialBatch, int, Positions]]":
        """Of a chunk that had more messages: batches of which none is gone. The others stay, for
        ``passed``."""
        found: list[tuple[_PartialBatch, int, Positions]] = []
        for start, before in chunk.earlier.items():
            now = {position: at for at, position in enumerate(before)}
            for entry in self._by_chunk.pop((chunk.source, start), ()):
                unfinished, number, positions = entry
                until = known_until(chunk, unfinished.frozen.segments[number])
                there = [at for position in positions if (at := now.get(position, until)) < until]
                if unfinished.frozen.settled or len(there) == len(positions):
                    found.append((unfinished, number, there))
                else:
                    self._by_chunk[chunk.source, start].append(entry)
        return found

    def take_changed(self) -> list[str]:
        """Ids of batches, found since the last call, whose source is not what it was."""
        changed, self._changed = list(self._changed), {}
        return changed

    def take_stale(self) -> list[bytes]:
        """Keys that were awaited and, as was found since the last call, belong to no event of a batch."""
        stale, self._stale = self._stale, []
        return stale

    def passed(self, chunk: Chunk) -> set[str]:
        """Where a source gives its chunks in order, and this one was looked at: ids of batches that cannot be
        whole any more, since a chunk before its end is not what it was."""
        starts, found = self._starts[chunk.source], set[str]()
        while starts and starts[0] < chunk.end:
            entries = self._by_chunk.pop((chunk.source, heappop(starts)), [])
            found.update(one.frozen.id for one, *_ in entries if not one.frozen.settled)
        return found

    def incomplete(self, which: Which = ALL) -> list[Batch]:
        """At the end of the input, or when no more of these will come: batches of which a part is gone. What
        is there is sent again."""
        left = self._of(which)
        for one in left:
            if one.found:  # the others are asked for by ``lost``
                del self._open[one.frozen.id]
        for place, entries in [*self._by_chunk.items()]:
            if which.batches is not None:
                entries[:] = [entry for entry in entries if entry[0].frozen.id not in which.batches]
            if not entries or (
                which.batches is None and (which.sources is None or place[0] in which.sources)
            ):
                del self._by_chunk[place]
        return [self._rebuild(one) for one in sorted(left, key=_first) if one.found]

    def lost(self, which: Which = ALL) -> dict[str, Sequence[bytes]]:
        """As ``incomplete``, and after it: by id the keys of batches of which nothing was found. They are not
        known any more."""
        gone = [one.frozen for one in self._of(which) if not one.found and one.frozen.id not in which.but]
        lost = {one.id: one.keys for one in gone}
        self._awaited.difference_update(*lost.values())
        for batch_id in lost:
            del self._open[batch_id]
        return lost

    def _of(self, which: Which) -> list[_PartialBatch]:
        sources, batches, _ = which
        return [
            one
            for one in self._open.values()
            if (sources is None or any(segment[0] in sources for segment in one.frozen.segments))
            and (batches is None or one.frozen.id in batches)
        ]

    def kept_batches(self) -> list[Batch]:
        """Batches whose source cannot be read again; their events were kept."""
        batches = []
        for frozen in self.kept:
            events = list(frozen.kept or ())
            source, start, end, *_ = frozen.segments[0]
            # where each stood is not known: to the store they are events without a place
            chunk = Chunk(
                events,
                source=source,
                start=start,
                end=end,
                place=lambda index: (-1, 0),
                keeper=Keeper.JOURNAL,
            )
            positions = range(len(events))
            chunk.receipt = Receipt(len(events), lambda: None)
            if not self.claims_keys:  # it is not known any more whether other sinks have these events
                elsewhere = {frozen.sink: positions, "": positions}
                chunk.receipt = FanOutReceipt(chunk.receipt, elsewhere, events=len(events), sinks=1)
            chunk.receipt.expect(frozen.sink, len(events))
            segments = [Segment(chunk, positions)]
            batches.append(self._make(frozen, events, segments, frozen.sent))
        return batches

    def _rebuild(self, unfinished: _PartialBatch) -> Batch:
        segments = [unfinished.found[number] for number in sorted(unfinished.found)]
        events = [segment.chunk.events[p] for segment in segments for p in segment.positions]
        sent = _sent(unfinished)
        batch, keys = self._make(unfinished.frozen, events, segments, sent), unfinished.frozen.keys
        self._awaited.difference_update(keys)
        if self.claims_keys:
            self._stale += set(keys).difference(filter(None, batch.digests))
        return batch

    def _make(
        self,
        frozen: FrozenBatch,
        came: Sequence[bytes],
        segments: list[Segment],
        sent: Sequence[bytes] | None,
    ) -> Batch:
        """``sent``: its events as they were sent, which is not made again: transforms may be others now."""
        events = came if sent is None else sent
        body, step = self._body_of(frozen, events)
        same = body_digest(body) == frozen.body_digest
        batch = Batch(
            events, self._digests(came), segments, self._new_id, batch_id=frozen.id if same else None
        )
        batch.transformed = sent is not None
        if same:
            batch.noted = batch.ambiguous = True
            batch.first_sent_wall = frozen.frozen_at
            batch.step = step
            batch.freeze(body)
        else:
            self._changed[frozen.id] = None
        return batch

    def _body_of(self, frozen: FrozenBatch, events: Sequence[bytes]) -> tuple[bytes, int]:
        """As it was frozen, with its step, or as it would be now."""
        try:
            body = self._encode(events)
            for step in range(1, self._stepped.steps if self._stepped else 1):
                if body_digest(body) == frozen.body_digest:
                    break
                if self._stepped and self._stepped.go_on(events, step - 1) == tuple(range(len(events))):
                    later = self._stepped.encode_step(events, step)
                    if body_digest(later) == frozen.body_digest:
                        return later, step
        except Unencodable:
            return b"", 0  # what the source holds now is something else
        return body, 0


def _sent(unfinished: _PartialBatch) -> list[bytes] | None:
    """As they were sent, the events that were found."""
    frozen = unfinished.frozen
    if frozen.sent is None:
        return None
    sent: list[bytes] = []
    at = 0
    for number, segment in enumerate(frozen.segments):
        count = len(unpack_positions(segment.positions))
        if number in unfinished.found:
            sent += frozen.sent[at : at + count]
        at += count
    return sent


def _first(unfinished: _PartialBatch) -> tuple[int, int]:
    return unfinished.first


async def restore_window(keys: KeyLog, clock: Clock, *, max_count: int, max_age_s: float) -> Window:
    """The keys of the process before. Where that was cut short the time since does not count: what was a copy
    of an event then must not become an event of its own."""
    window = Window(await keys.secret(), max_count=max_count, max_age_s=max_age_s)
    now, wall = clock.monotonic(), clock.wall()
    if (cut_short := await keys.cut_short()) is not None:
        wall = min(wall, cut_short)
    for row in await keys.read(not_before=wall - max_age_s, max_count=max_count):
        if row.released:
            window.forget(row.keys)
        else:
            window.restore(row.keys, confirmed_at=now - max(0.0, wall - row.at), now=now)
    return window
