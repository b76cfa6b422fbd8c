"""Batches that were frozen, as they are kept: what rebuilds their bytes after a crash. Table ``batches``."""

import heapq
import json
import sqlite3
import struct
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ingestd.core.accelerator import crc32
from ingestd.core.chunk import Batch, Segment, packed_events, packed_keys
from ingestd.core.letter import joined_letters
from ingestd.core.receipt import Positions
from ingestd.store import trail
from ingestd.store.new_letters import insert_letters

if TYPE_CHECKING:
    from ingestd.core.letter import DeadLetter


class PackedSegment(NamedTuple):
    """A segment in a row; ``positions``: see ``pack_positions``; ``last_mark``: see ``Chunk``."""

    source: int
    start: int
    end: int
    positions: bytes
    last_mark: int = 0


KEY_BYTES = 16
"""Of a key's digest; see ``stages.dedup``."""


def pack_positions(positions: Positions) -> bytes:
    """Positions as bytes for the store; a range costs nine."""
    if isinstance(positions, range):
        return array("I", (positions.start, positions.stop)).tobytes() + b"r"
    return (positions if isinstance(positions, array) else array("I", positions)).tobytes()


def unpack_positions(packed: bytes) -> Positions:
    numbers = array("I")
    if len(packed) % 4:
        numbers.frombytes(packed[:-1])
        return range(numbers[0], numbers[1])
    numbers.frombytes(packed)
    return list(numbers)


class FrozenBatch(NamedTuple):
    """A batch of an earlier process. ``kept``: its events, where the source cannot give them again.
    ``sink``: where it was on its way to. ``keys``: digests of its events' keys, where they were kept.
    ``sent``: its events as they are sent, where that is not as they came."""

    id: str
    settled: bool
    frozen_at: float
    events: int
    body_digest: bytes
    segments: list[PackedSegment]
    kept: list[bytes] | None
    sink: str
    keys: Sequence[bytes] = ()
    sent: list[bytes] | None = None

    def is_of(self, *sources: int) -> bool:
        """Whether all its events come from there."""
        return all(segment[0] in sources for segment in self.segments)


def body_digest(body: bytes) -> bytes:
    """Tells whether a batch that was rebuilt after a restart is the one that was frozen.

    Length and CRC-32: it looks for files that were changed meanwhile, not for an adversary.
    """
    return _pack_digest(len(body), crc32(body))


def digest_of(batch: Batch) -> bytes:
    """As ``body_digest``, of a batch that has its bytes."""
    return _pack_digest(len(batch.body), batch.checksum)


_pack_digest = struct.Struct("<QI").pack


def row_of(
    batch: Batch, *, sink: str, now: float, keep_events: bool, keep_keys: bool, transformed: bool = False
) -> tuple[object, ...]:
    """The row of a batch that is about to be sent. ``transformed``: its events are not as they came."""
    kept = came(batch) if transformed and keep_events else batch.events
    return (
        batch.id,
        now,
        len(batch.events),
        digest_of(batch),
        pack(batch.segments),
        packed_events(kept)[0] if keep_events else None,
        sink,
        packed_keys(batch.digests) if keep_keys else None,
        packed_events(batch.events)[0] if transformed else None,
        0,
    )


def row_of_frozen(one: FrozenBatch) -> tuple[object, ...]:
    """The row of a batch that another process has frozen, as ``FrozenBatch`` tells of it."""
    segments = msgspec.msgpack.encode(one.segments)
    row = one.id, one.frozen_at, one.events, one.body_digest, segments, None, one.sink, None, None
    return (*row, int(one.settled))


def came(batch: Batch) -> list[bytes]:
    """The events of a batch as they came."""
    return [segment.chunk.events[position] for segment in batch.segments for position in segment.positions]


_SETTLE = (
    "UPDATE batches SET settled = 1, kept = NULL, keys = NULL, sent = NULL"
    " WHERE id IN (SELECT value FROM json_each(?))"
)

_MANY, _FEW = 32, 8
"""Rows to a statement: so many, or up to so many, which is all there is of most commits. The interpreter's
lock is taken once for each statement, and waiting for it costs more than a row."""


class Changes(msgspec.Struct):
    """What happened to batches, as one unit of work: of an API that takes one event to a request there are
    thousands a second. ``rows``: were frozen; ``processed``: events of a chunk that are resolved by
    themselves, and by whom; ``settled``: are resolved; ``gone``: need not be known any more; ``keys``: of
    events that are safe now, packed; ``letters``: of events that never were in a batch; ``steps``: what
    became of events, for the trail."""

    now: float
    # both by id; of the rows the last one counts, and the segments are packed when they are written
    rows: dict[object, tuple[object, ...]] = msgspec.field(default_factory=dict)
    processed: dict[str, tuple[Segment, str]] = msgspec.field(default_factory=dict)
    settled: list[str] = msgspec.field(default_factory=list)
    gone: list[str] = msgspec.field(default_factory=list)
    keys: list[bytes] = msgspec.field(default_factory=list)
    letters: list[Sequence["DeadLetter"]] = msgspec.field(default_factory=list)
    steps: list[trail.Row] = msgspec.field(default_factory=list)

    def write(self, connection: sqlite3.Connection) -> None:
        gone = set(self.gone)  # what the same commit deletes need not be written before
        rows, first = [row for name, row in self.rows.items() if name not in gone], 0
        for name, (segment, by) in self.processed.items():
            if name not in gone:
                count = len(segment.positions)
                rows.append((name, self.now, count, b"", pack([segment]), None, by, None, None, 1))
        while first < len(rows):
            left = len(rows) - first
            count = _MANY if left >= _MANY else min(left, _FEW)
            connection.execute(_insert_statement(count), [*chain(*rows[first : first + count])])
            first += count
        if settled := [name for name in self.settled if name not in gone]:
            connection.execute(_SETTLE, (json.dumps(settled),))
        if gone:
            delete(connection, self.gone)
        if self.letters:
            insert_letters(connection, joined_letters(self.letters), self.now)
        if self.steps:
            connection.executemany(trail.INSERT, self.steps)
        if keys := b"".join(self.keys):
            connection.execute("INSERT INTO window (confirmed_at, digests) VALUES (?, ?)", (self.now, keys))


@cache
def _insert_statement(count: int) -> str:
    row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    return (
        "INSERT OR REPLACE INTO batches"  # noqa: S608
        " (id, frozen_at, events, body_digest, segments, kept, sink, keys, sent, settled)"
        f" VALUES {','.join([row] * count)}"
    )


def settle_part(connection: sqlite3.Connection, batch_id: str, segments: bytes) -> None:
    """The batch is resolved for the events in ``segments``."""
    connection.execute(
        "UPDATE batches SET settled = 1, kept = NULL, keys = NULL, sent = NULL, segments = ? WHERE id = ?",
        (segments, batch_id),
    )


def delete(connection: sqlite3.Connection, batch_ids: Sequence[str]) -> None:
    connection.execute(
        "DELETE FROM batches WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(batch_ids),)
    )


def read(connection: sqlite3.Connection) -> list[FrozenBatch]:
    """All of them, oldest first. One whose row is damaged has no segments: it cannot be rebuilt."""
    rows = connection.execute(  # CAST: one flipped bit makes a BLOB a TEXT
        "SELECT id, settled, frozen_at, events, CAST(body_digest AS BLOB), CAST(segments AS BLOB),"
        " CAST(kept AS BLOB), sink, CAST(keys AS BLOB), CAST(sent AS BLOB) FROM batches ORDER BY frozen_at"
    )
    return [_unpack(row) for row in rows]


def forget_sink(connection: sqlite3.Connection, sink: str) -> None:
    """Batches of the sink. Where the source may give their events once more, as a file does, they count as
    settled: if the sink is configured again, it does not get them under another key."""
    ours = _unspooled(connection, sink)
    again = [name for name, is_kept, _ in ours if not is_kept]
    connection.execute(_SETTLE, (json.dumps(again),))
    connection.execute(
        "DELETE FROM batches WHERE sink = ? AND id NOT IN (SELECT value FROM json_each(?))",
        (sink, json.dumps(again)),
    )


def count_unspooled(connection: sqlite3.Connection, sink: str) -> int:
    """Events on their way to the sink that do not come from the spool."""
    return sum(events for *_, events in _unspooled(connection, sink) if events)


def _unspooled(connection: sqlite3.Connection, sink: str) -> list[tuple[str, bool, int]]:
    """(id, whether its events are kept with it, those that are not settled) of a sink's batches."""
    rows = connection.execute(
        "SELECT id, kept IS NOT NULL, iif(settled, 0, events), CAST(segments AS BLOB) FROM batches"
        " WHERE sink = ?",
        (sink,),
    )
    (spool,) = connection.execute("SELECT max(id) FROM sources WHERE device = -1").fetchone()
    return [
        (name, bool(kept), events) for name, kept, events, packed in rows if not _sources(packed) <= {spool}
    ]


def _sources(packed: bytes) -> set[int]:
    """None where the row is damaged."""
    try:
        return {segment[0] for segment in msgspec.msgpack.decode(packed, type=list[PackedSegment])}
    except msgspec.DecodeError:
        return set()


def pack(segments: Sequence[Segment]) -> bytes:
    return msgspec.msgpack.encode(
        [(c.source, c.start, c.end, pack_positions(positions), c.last_mark) for c, positions in segments]
    )


def _unpack(
    row: tuple[str, int, float, int, bytes, bytes, bytes | None, str, bytes | None, bytes | None],
) -> FrozenBatch:
    try:
        segments = msgspec.msgpack.decode(row[5], type=list[PackedSegment])
        kept, sent = (None if one is None else _list_of_events(one) for one in (row[6], row[9]))
    except msgspec.DecodeError:
        return FrozenBatch(row[0], False, *row[2:5], [], None, row[7])
    packed = row[8] or b""
    keys = [packed[at : at + KEY_BYTES] for at in range(0, len(packed), KEY_BYTES)]
    return FrozenBatch(row[0], bool(row[1]), row[2], row[3], row[4], segments, kept, row[7], keys, sent)


_list_of_events = msgspec.msgpack.Decoder(list[bytes]).decode

Place = tuple[int, int, int]
"""(source, start, end) of a chunk."""

IsPassed = Callable[[str, Place], bool]
"""(sink, chunk): nothing of it will be read again for this sink."""

_Places = tuple[Place, ...]
"""What has to be passed before a settled batch is forgotten."""

_SWEEP_SHARE = 16
"""So many places behind one that is not passed are looked at, on average and at most, each time that they are
asked for; so many times may pass until all are."""


class SettledBatches:
    """By sink and source, those first that end first. For a sink of one event to a request there are
    thousands, of a few chunks: what is asked for is asked once for all batches of the same ones."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, _Places], list[str]] = {}
        self._heaps: defaultdict[tuple[str, int], list[tuple[int, _Places]]] = defaultdict(list)
        self._looks: Counter[tuple[str, int]] = Counter()  # since a heap was swept

    def add(self, sink: str, batch_id: str, places: Sequence[Place]) -> None:
        whole = tuple(places)
        if (ids := self._ids.get((sink, whole))) is not None:
            ids.append(batch_id)
            return
        self._ids[sink, whole] = [batch_id]
        heapq.heappush(self._heaps[sink, whole[0][0]], (max(end for _, _, end in whole), whole))

    def take_passed(self, is_passed: IsPassed) -> list[str]:
        """Ids of those that can be forgotten. Only the first of each heap is looked at, and all now and then:
        one event that is tried for hours must not keep what comes after it."""
        passed: list[str] = []
        for key, heap in self._heaps.items():
            sink = key[0]
            while heap and all(is_passed(sink, place) for place in heap[0][1]):
                passed += self._ids.pop((sink, heapq.heappop(heap)[1]))
            self._looks[key] += 1
            if len(heap) > 1 and self._looks[key] >= max(_SWEEP_SHARE, len(heap) // _SWEEP_SHARE):
                self._looks[key] = 0
                kept = []
                for one in heap:
                    if all(is_passed(sink, place) for place in one[1]):
                        passed += self._ids.pop((sink, one[1]))
                    else:
                        kept.append(one)
                heap[:] = kept
                heapq.heapify(heap)
        return passed
