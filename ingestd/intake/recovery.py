"""Taking up what an earlier process left: batches that were frozen, and may or may not have arrived.

Files are read again from their position. Events of batches that were settled beyond it are passed
over; events of batches that were not are gathered until the batch is whole again, and it goes out
under its own key with the bytes it had.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field

from ingestd.core.batch import Batch
from ingestd.core.chunk import Chunk, Segment
from ingestd.core.positions import Positions, unpack_positions
from ingestd.core.receipt import Receipt
from ingestd.sinks.sink import Unencodable
from ingestd.store.frozen_batches import FrozenBatch, body_digest

Digests = Callable[[list[bytes]], list[bytes | None]]
Encode = Callable[[Sequence[bytes]], bytes]


@dataclass(slots=True)
class _PartialBatch:
    frozen: FrozenBatch
    wanted: int
    found: dict[int, Segment] = field(default_factory=dict)
    first: tuple[int, int] = (0, 0)  # where its first event stands, in the order of reading


@dataclass(frozen=True, slots=True)
class RecoveredChunk:
    """What recovery knows of one chunk: ``settled`` positions had their end in an earlier process,
    ``taken`` ones belong to batches that are being gathered, ``batches`` are whole again now, in the order
    of their first events: parts of a batch that was cut may hold events of one key."""

    settled: set[int]
    taken: set[int]
    batches: list[Batch]


class ProcessedEvents:
    """Events of files, read again, that somebody need not see again (``Journal.passed``)."""

    def __init__(self, frozen: Iterable[FrozenBatch]) -> None:
        self._positions = {
            (source, start): frozenset(unpack_positions(packed))
            for batch in frozen
            for source, start, _, packed in batch.segments
        }

    def of(self, chunk: Chunk) -> frozenset[int]:
        """Positions in the chunk. Asked once; none if the file is not what it was."""
        found = self._positions.pop((chunk.source, chunk.start), frozenset[int]())
        return found if max(found, default=-1) < len(chunk.events) else frozenset()


class Recovery:
    """Of one sink. ``sources``: numbers of the files that this run reads; other batches are left alone."""

    def __init__(self, frozen: Sequence[FrozenBatch], sources: set[int], *, encode: Encode, digests: Digests):
        self._encode = encode
        self._digests = digests
        self._by_chunk: dict[tuple[int, int], list[tuple[_PartialBatch, int, Positions]]] = defaultdict(list)
        self._open: dict[str, _PartialBatch] = {}  # not settled, not whole yet
        self._changed: dict[str, None] = {}  # ids, in order
        self._looks = 0
        self._awaited: set[bytes] = set()  # keys of batches that are not whole yet
        self._stale: list[bytes] = []
        self.kept = [batch for batch in frozen if batch.kept is not None and not batch.settled]
        for batch in frozen:
            if batch.kept is not None or not all(source in sources for source, *_ in batch.segments):
                continue
            gathering = _PartialBatch(batch, len(batch.segments))
            if not batch.settled:
                self._open[batch.id] = gathering
                self._awaited.update(batch.keys)
            for number, (source, start, _, packed) in enumerate(batch.segments):
                self._by_chunk[source, start].append((gathering, number, unpack_positions(packed)))

    @property
    def pending(self) -> bool:
        return bool(self._by_chunk)

    @property
    def awaited(self) -> Set[bytes]:
        """Keys of events that are in a batch that is not whole yet: a copy of one of them waits for it."""
        return self._awaited

    def look(self, chunk: Chunk) -> RecoveredChunk | None:
        """None if the chunk is none of ours."""
        pieces = self._by_chunk.pop((chunk.source, chunk.start), None)
        if pieces is None:
            return None
        found, whole = RecoveredChunk(set(), set(), []), list[_PartialBatch]()
        self._looks += 1
        for gathering, number, positions in pieces:
            if positions and positions[-1] >= len(chunk.events):
                self._changed[gathering.frozen.id] = None  # the file has changed: its events are new ones
            elif gathering.frozen.settled:
                found.settled.update(positions)
            else:
                found.taken.update(positions)
                if not gathering.found:
                    gathering.first = self._looks, positions[0] if positions else 0
                gathering.found[number] = Segment(chunk, positions)
                if len(gathering.found) == gathering.wanted:
                    del self._open[gathering.frozen.id]
                    whole.append(gathering)
        found.batches.extend(map(self._rebuild, sorted(whole, key=_first)))
        return found

    def take_changed(self) -> list[str]:
        """Ids of batches, found since the last call, whose source is not what it was."""
        changed, self._changed = list(self._changed), {}
        return changed

    def take_stale(self) -> list[bytes]:
        """Keys that were awaited and, as was found since the last call, belong to no event of a batch."""
        stale, self._stale = self._stale, []
        return stale

    def incomplete(self) -> list[Batch]:
        """At the end of the input: batches of which a part is gone. What is there goes out anew."""
        left, self._open = self._open, {}
        self._by_chunk.clear()
        return [
            self._rebuild(gathering) for gathering in sorted(left.values(), key=_first) if gathering.found
        ]

    def lost(self) -> dict[str, Sequence[bytes]]:
        """At the end of the input: by id the keys of batches of which nothing was found."""
        lost = {one.frozen.id: one.frozen.keys for one in self._open.values() if not one.found}
        self._awaited.difference_update(*lost.values())
        return lost

    def kept_batches(self) -> list[Batch]:
        """Batches whose source cannot be read again; their events were kept."""
        batches = []
        for frozen in self.kept:
            events = list(frozen.kept or ())
            source, start, end, _ = frozen.segments[0]
            # where each stood is not known: to the store they are events without a place
            chunk = Chunk(events, source=source, start=start, end=end, place=lambda index: (-1, 0))
            chunk.receipt = Receipt(len(events), lambda: None)
            segments = [Segment(chunk, range(len(events)))]
            batches.append(self._make(frozen, events, segments))
        return batches

    def _rebuild(self, gathering: _PartialBatch) -> Batch:
        segments = [gathering.found[number] for number in sorted(gathering.found)]
        events = [segment.chunk.events[p] for segment in segments for p in segment.positions]
        batch, keys = self._make(gathering.frozen, events, segments), gathering.frozen.keys
        self._awaited.difference_update(keys)
        self._stale += set(keys).difference(filter(None, batch.digests))
        return batch

    def _make(self, frozen: FrozenBatch, events: list[bytes], segments: list[Segment]) -> Batch:
        try:
            body = self._encode(events)
        except Unencodable:
            body = b""  # what the source holds now is something else
        same = body_digest(body) == frozen.body_digest
        batch = Batch(events, self._digests(events), segments, batch_id=frozen.id if same else None)
        if same:
            batch.noted = batch.unanswered = True
            batch.first_sent_wall = frozen.frozen_at
            batch.freeze(body)
        else:
            self._changed[frozen.id] = None
        return batch


def _first(gathering: _PartialBatch) -> tuple[int, int]:
    return gathering.first
