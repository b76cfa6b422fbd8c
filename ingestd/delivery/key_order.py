"""Order by key (``delivery.order_by``): an event goes when all earlier ones of its key are resolved.

The lane's queues ask here what of a batch may go; the rest is held, and comes back as batches of its
own. Keys have lines: the open batches with an event of that key, in order; only the front one goes.
A batch enters the lines of all its keys at once, so no two can wait for each other.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import count
from typing import NamedTuple

from ingestd.core.chunk import Batch, Chunk, NewId, Segment
from ingestd.delivery.bisection import EventKey
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.schemas.key_paths import KeyWatch
from ingestd.sinks.sink import Sink

_LONGEST_KEY = 64
"""Characters; of a longer key a digest is kept. Two keys with one digest only wait for each other."""


class _Held(NamedTuple):
    number: int  # in the order they came
    event: bytes
    digest: bytes | None
    chunk: Chunk
    position: int


class KeyOrder:
    """What is open and what is held in one lane. Pure and synchronous.

    ``key_of``: an event's key, None if it has none: then it waits for no other event. A batch of held events
    has at most ``max_events``, and ``max_bytes`` of events with one separator each. Past ``max_held_events``,
    or ``max_held_bytes`` of chunks that these keep in memory, it is ``full``. With ``one_per_key`` no batch,
    but one that the API knows already, has two events of a key.
    """

    def __init__(
        self,
        key_of: Callable[[bytes], str | None],
        *,
        max_events: int,
        max_bytes: int,
        new_id: NewId,
        sep_bytes: int = 1,
        max_held_events: int = 100_000,
        max_held_bytes: int = 64 * 1024 * 1024,
        one_per_key: bool = False,
        watch: KeyWatch | None = None,
    ) -> None:
        self._watch = watch
        self._new_id = new_id
        self.held_events = self.held_bytes = 0
        self._key_of, self._one_per_key = key_of, one_per_key
        self._max_events, self._max_bytes, self._sep_bytes = max_events, max_bytes, sep_bytes
        self._max_held_events, self._max_held_bytes = max_held_events, max_held_bytes
        self._lines: dict[EventKey, tuple[str, ...]] = {}
        self._keys: dict[str, set[EventKey]] = {}  # of each open batch, by its id
        self._blocked: dict[str, Batch] = {}  # whole batches that wait for their turn: parts, and resends
        self._held: dict[EventKey, deque[_Held]] = {}
        self._ready: deque[EventKey] = deque()  # held and, when they were put here, free
        self._chunks: dict[Chunk, list[int]] = {}  # how many events of it are held, and its bytes
        self._numbers = count()
        self._rest: Batch | None = None

    @property
    def full(self) -> bool:
        """No more new batches should come for now."""
        return self.held_events >= self._max_held_events or self.held_bytes >= self._max_held_bytes

    @property
    def ready(self) -> bool:
        """Something that was held may go."""
        return bool(self._ready)

    def keys_of(self, events: Iterable[bytes]) -> list[EventKey | None]:
        """One for each event."""
        key_of = self._key_of
        return [
            key if key is None or len(key) <= _LONGEST_KEY else _digest(key) for key in map(key_of, events)
        ]

    def learn(self, max_bytes: int) -> None:
        """Batches of held events must not be longer than this: the limit only ever shrinks."""
        self._max_bytes = min(self._max_bytes, max_bytes)

    # --- what may go ---

    def admit(self, batch: Batch) -> Batch | None:
        """What may be sent now of a batch that was not sent yet; None if nothing may. The rest is held, or is
        to be admitted next: see ``take_rest``."""
        if batch.body or batch.ambiguous:  # its bytes are known to the API: it goes as it is
            return batch if self.may_go(batch) else None
        keys = self.keys_of(batch.events)
        lines, held = self._lines, self._held
        late = [index for index, key in enumerate(keys) if key in lines or key in held]
        end = len(keys)
        if self._one_per_key and (again := sorted(set(_seen_before(keys)).difference(late))):
            end = _end_of_chunk(batch, again[0])
            late += again
        if end < len(keys):
            self._rest = batch.part(range(end, len(keys)))
        if self._watch:
            self._watch.count(end, (keys if end == len(keys) else keys[:end]).count(None))
        if late or self._rest:
            behind = {index for index in late if index < end}
            self._hold(batch, keys, sorted(behind))
            first = [index for index in range(end) if index not in behind]
            if not first:
                return None
            batch, keys = batch.part(first), [keys[index] for index in first]
        self._enter(batch.id, keys)
        return batch

    def take_rest(self) -> Batch | None:
        """The end of the batch that was admitted last, if it was cut."""
        rest, self._rest = self._rest, None
        return rest

    def may_go(self, batch: Batch) -> bool:
        """Whether a batch that cannot be cut may go now; if not, ``resolved`` gives it when it may."""
        self.enter(batch)
        if all(self._lines[key][0] == batch.id for key in self._keys[batch.id]):
            return True
        self._blocked[batch.id] = batch
        return False

    def enter(self, batch: Batch) -> None:
        """From now on the batch's keys are taken, whether it goes or not."""
        if batch.id not in self._keys:
            self._enter(batch.id, self.keys_of(batch.events))

    def take(self) -> Batch | None:
        """Held events whose keys are free now, as a batch; None if there are none.

        All of one source: what rebuilds a batch after a crash is either read again or kept, and a partition
        may be another process's by then. Of a key all or, if they fill the batch alone, or others of another
        source are behind them, the first, and no other key: then the batch is whole again after a crash
        before a later event of one of its keys has been read.
        """
        if self._one_per_key:
            return self._take_one_of_each()
        drawn: list[_Held] = []
        keys: list[EventKey] = []
        others: list[EventKey] = []
        room = self._max_bytes
        while self._ready and len(drawn) < self._max_events:
            key = self._ready.popleft()
            line = self._held.get(key)
            if not line or key in self._lines:
                continue  # it was taken since; it comes back when it is free again
            if drawn and line[0].chunk.source != drawn[0].chunk.source:
                others.append(key)
                continue
            before = len(drawn)
            room = self._draw(line, drawn, room)
            if len(drawn) == before:
                self._ready.appendleft(key)
                break
            keys.append(key)
            if line:  # the others of it wait for this batch, which holds no other key
                break
            del self._held[key]
        self._ready.extendleft(reversed(others))
        return self._batch(drawn, keys) if drawn else None

    # --- what is resolved ---

    def resolved(self, batch: Batch, parts: Sequence[Batch]) -> list[Batch]:
        """The events of ``batch`` are resolved, but those that go on in ``parts``: they inherit its place.

        Parts of one key are given in that key's order. Returns batches that waited and may go now.
        """
        keys = self._keys.pop(batch.id, None)
        if keys is None:
            return []
        heirs: dict[EventKey, tuple[str, ...]] = {}
        for part in parts:
            self._keys[part.id] = {key for key in self.keys_of(part.events) if key is not None}
            for key in self._keys[part.id]:
                heirs[key] = (*heirs.get(key, ()), part.id)
        fronts: set[str] = set()
        lines, held = self._lines, self._held
        for key in keys:
            line = lines[key]
            if len(line) > 1 or key in heirs:
                at = line.index(batch.id)
                line = line[:at] + heirs.get(key, ()) + line[at + 1 :]
                lines[key] = line
                fronts.add(line[0])
            else:
                del lines[key]
                if key in held:
                    self._ready.append(key)
        waited = [self._blocked.pop(front) for front in fronts & self._blocked.keys()]
        return [batch for batch in waited if self.may_go(batch)]

    def leftovers(self) -> list[Batch]:
        """Take out everything that waits here."""
        left = list(self._blocked.values())
        self._blocked.clear()
        while self._held:
            self._lines.clear()
            self._ready = deque(self._held)
            if batch := self.take():
                left.append(batch)
        return left

    # --- inside ---

    def _enter(self, batch_id: str, keys: Iterable[EventKey | None]) -> None:
        mine = self._keys[batch_id] = {key for key in keys if key is not None}
        lines, alone = self._lines, (batch_id,)
        if lines.keys().isdisjoint(mine):  # the common case
            lines.update(dict.fromkeys(mine, alone))
            return
        for key in mine:
            lines[key] = lines[key] + alone if key in lines else alone

    def _hold(self, batch: Batch, keys: Sequence[EventKey | None], indices: Sequence[int]) -> None:
        origins = [(segment.chunk, position) for segment in batch.segments for position in segment.positions]
        for index in indices:
            key = keys[index]
            assert key is not None
            held = _Held(next(self._numbers), batch.events[index], batch.digests[index], *origins[index])
            self._held.setdefault(key, deque()).append(held)
            entry = self._chunks.get(held.chunk)
            if entry is None:
                entry = self._chunks[held.chunk] = [0, sum(map(len, held.chunk.events))]
                self.held_bytes += entry[1]
            entry[0] += 1
        self.held_events += len(indices)

    def _draw(self, line: deque[_Held], drawn: list[_Held], room: int) -> int:
        """Move the events of one key to ``drawn``, if there is room for all, or as many of the source of the
        first as fill the batch if it is empty. Gives the room that is left."""
        source = line[0].chunk.source
        if drawn and not self._fits(line, source, self._max_events - len(drawn), room):
            return room
        while line and len(drawn) < self._max_events and line[0].chunk.source == source:
            cost = len(line[0].event) + self._sep_bytes
            if cost > room and drawn:
                break
            room -= cost
            drawn.append(self._pop(line))
        return room

    def _pop(self, line: deque[_Held]) -> _Held:
        held = line.popleft()
        self.held_events -= 1
        entry = self._chunks[held.chunk]
        entry[0] -= 1
        if entry[0] == 0:
            self.held_bytes -= entry[1]
            del self._chunks[held.chunk]
        return held

    def _take_one_of_each(self) -> Batch | None:
        """The first of each key, in the order they came, up to the chunk of the first that must stay."""
        lines: dict[EventKey, deque[_Held]] = {}
        while self._ready and len(lines) < self._max_events:
            key = self._ready.popleft()
            if (line := self._held.get(key)) and key not in self._lines:
                lines[key] = line
        drawn: list[_Held] = []
        others: list[EventKey] = []
        stays: _Held | None = None
        room = self._max_bytes
        for key, line in sorted(lines.items(), key=lambda entry: entry[1][0].number):
            head = line[0]
            cost = len(head.event) + self._sep_bytes
            beyond = stays is not None and head.number > stays.number and head.chunk is not stays.chunk
            if drawn and (cost > room or beyond or head.chunk.source != drawn[0].chunk.source):
                others.append(key)
                continue
            room -= cost
            drawn.append(self._pop(line))
            if not line:
                del self._held[key]
            elif stays is None or line[0].number < stays.number:
                stays = line[0]
        self._ready.extendleft(reversed(others))
        gone = lines.keys() - set(others)
        return self._batch(drawn, list(gone)) if drawn else None

    def _fits(self, line: deque[_Held], source: int, most_events: int, room: int) -> bool:
        if len(line) > most_events or any(held.chunk.source != source for held in line):
            return False
        return sum(len(held.event) + self._sep_bytes for held in line) <= room

    def _batch(self, drawn: list[_Held], keys: list[EventKey]) -> Batch:
        drawn.sort()  # by number: neighbours of a chunk side by side, and each key in its order
        segments: list[Segment] = []
        positions: list[int] = []
        for held in drawn:
            if not segments or segments[-1].chunk is not held.chunk or positions[-1] > held.position:
                positions = []
                segments.append(Segment(held.chunk, positions))
            positions.append(held.position)
        batch = Batch([held.event for held in drawn], [held.digest for held in drawn], segments, self._new_id)
        self._enter(batch.id, keys)
        return batch


def make_order(settings: LaneSettings, sink: Sink, new_id: NewId) -> KeyOrder | None:
    """None where no order is asked for."""
    if settings.order_by is None:
        return None
    return KeyOrder(
        settings.order_by,
        new_id=new_id,
        max_events=settings.held_batch_events,
        max_bytes=settings.held_batch_bytes - sink.overhead_bytes + sink.separator_bytes,
        sep_bytes=sink.separator_bytes,
        max_held_events=settings.max_held_events,
        max_held_bytes=settings.max_held_bytes,
        one_per_key=settings.one_per_key,
        watch=settings.order_watch,
    )


def _digest(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _seen_before(keys: Sequence[EventKey | None]) -> list[int]:
    """Indices of events of whose key there is one before."""
    seen: set[EventKey] = set()
    again: list[int] = []
    for index, key in enumerate(keys):
        if key in seen:
            again.append(index)
        elif key is not None:
            seen.add(key)
    return again


def _end_of_chunk(batch: Batch, index: int) -> int:
    """Where the chunk of this event ends in the batch. What goes together must be whole again after a
    crash before an event that was held has been read, and that is chunk by chunk."""
    end = 0
    for segment in batch.segments:
        end += len(segment.positions)
        if end > index:
            return end
    return len(batch)
