"""Chunk, segment and batch: how events move together, where they came from, and what a request is made of.

Nothing here is per event. A chunk of some hundred events has one receipt; a batch names the
events it took from a chunk as one segment; a delivered batch resolves a segment with one addition.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

import msgspec

from ingestd.core.accelerator import crc32
from ingestd.core.answer import Octets
from ingestd.core.receipt import Digests, Positions, Receipt, Routed
from ingestd.core.sequences import COMPILED, pick


class Keeper(Enum):
    """Who keeps events until they are resolved, so that a crash loses none. A chunk tells it of its own."""

    SOURCE = "source"
    """It gives them again, from its position on: a file, a broker."""
    SPOOL = "spool"
    """They are on disk since they were accepted, and their keys are known from then on."""
    JOURNAL = "journal"
    """No other place keeps them: the journal keeps them with their batches."""


_NOTHING: Mapping[int, Sequence[int]] = {}
_NONE_YET = Receipt(-1, lambda: None)
"""Of a chunk that its source has given none."""


class Chunk:
    """Events read together from ``[start, end)`` of a source's (decompressed) stream.

    ``source``: the source's number in the store. ``line``, ``next_line``: number of the first line (or array
    element), from 1, and of the one after the last. ``place(i)``: (offset in the stream, line) of event i; it
    is asked only when an event has to be named, which is rare. ``too_long``: length in bytes of events of
    which only the head was kept, by index. ``dismissed``: positions of events that were resolved without a
    sink, where that had to be noted. ``mark``: what stands before its end. Where their source knows it:
    ``digests`` of the events' keys, ``routed``: which sinks get which events, ``accepted_at``: wall time,
    ``owners``: whose they are (``store/trail.py``). ``settled_keys``: sink -> keys, with their positions, of
    events that are accepted again though that sink settled them in an earlier process, and does not get them.
    ``size_bytes``: of its events, or a little more. Of a broker's messages: ``unreadable``: index -> why no
    event is there; ``about(i)``: the message that event i came in, with its headers, for a dead letter;
    ``earlier``: start before messages went -> the positions then; ``last_mark``: what tells its last message
    from another that had its number before, 0: not known, below 0: known in part; ``until(mark)``: events of
    messages that are as they were, if the last had it; ``source_end``: where one that was longer ended, or 0.
    """

    __slots__ = (
        "about",
        "accepted_at",
        "digests",
        "dismissed",
        "earlier",
        "end",
        "events",
        "keeper",
        "last_mark",
        "line",
        "mark",
        "next_line",
        "owners",
        "place",
        "receipt",
        "routed",
        "settled_keys",
        "size_bytes",
        "source",
        "source_end",
        "start",
        "too_long",
        "unreadable",
        "until",
    )

    def __init__(
        self,
        events: Sequence[bytes],
        *,
        source: int,
        start: int,
        end: int,
        line: int = 1,
        next_line: int = 1,
        place: Callable[[int], tuple[int, int]] | None = None,
        too_long: dict[int, int] | None = None,
        keeper: Keeper = Keeper.SOURCE,
        digests: Digests | None = None,
        accepted_at: float = 0.0,
        unreadable: dict[int, str] | None = None,
        about: Callable[[int], str] | None = None,
        last_mark: int = 0,
        until: Callable[[int], int] | None = None,
    ) -> None:
        self.events: Sequence[bytes] = events
        self.source = source
        self.start = start
        self.end = end
        self.line = line
        self.next_line = next_line
        self.too_long = too_long or {}
        self.receipt = _NONE_YET
        self.place = place or (lambda index: (start, line))
        self.dismissed: set[int] = set()
        self.mark = NO_MARK
        self.size_bytes = end - start
        self.keeper = keeper
        self.digests: Digests = digests or []
        self.accepted_at = accepted_at
        self.routed: Routed = {}
        self.settled_keys: dict[str, dict[bytes, int]] = {}
        self.unreadable = unreadable or {}
        self.about = about
        self.earlier: Mapping[int, Sequence[int]] = _NOTHING
        self.owners = ""
        self.last_mark, self.until, self.source_end = last_mark, until, 0

    def places(self, positions: Positions) -> tuple[Sequence[int], Sequence[int]]:
        """As ``place``, of several events: their offsets, and their lines."""
        if of_several := getattr(self.place, "of_several", None):
            return of_several(positions)  # type: ignore[no-any-return]
        offsets, lines = zip(*map(self.place, positions), strict=True)
        return offsets, lines


class Segment(NamedTuple):
    """The events that a batch took from one chunk."""

    chunk: Chunk
    positions: Positions


def pick_segments(segments: Sequence[Segment], indices: Sequence[int]) -> Iterator[Segment]:
    """Where the events at ``indices`` (ascending) of a batch with these ``segments`` came from."""
    if len(indices) == sum([len(segment.positions) for segment in segments]):
        yield from [segment for segment in segments if len(segment.positions)]
        return
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
"""Bytes that are compared: of its head, and of what stands before the place where reading ended."""

Mark = tuple[int, bytes]
"""A place in a file as it is on disk, and the last bytes before it."""
NO_MARK: Mark = (0, b"")


def digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def last_bytes(before: bytes, data: bytes | memoryview) -> bytes:
    """The last ``MARK_BYTES`` of both, one after the other."""
    new = bytes(data[-MARK_BYTES:])
    return new if len(new) == MARK_BYTES else (before + new)[-MARK_BYTES:]


Place = tuple[int, int, int]
"""Where an event was read: source, offset, and which reading of the source it was."""

NewId = Callable[[], str]
"""Gives an id that no batch had before."""
_LOW_BITS, _VARIANT = 2**62 - 1, 2 << 62
_DRAWN = 16


def batch_ids(rng: random.Random) -> NewId:
    """Random UUIDs (RFC 9562 5.4), but the first 60 bits count on from those of the first; nobody guesses the
    others. So batches that are written together stand together in the store: where each event is one, their
    rows would else be spread over hundreds of pages, and a commit writes every page that it changes."""
    number, drawn = -1, list[int]()

    def new_id() -> str:
        nonlocal number
        number = rng.getrandbits(60) if number < 0 else (number + 1) % 2**60
        if not drawn:  # the system is asked once for several
            bits = rng.getrandbits(62 * _DRAWN)
            drawn.extend(bits >> 62 * at & _LOW_BITS for at in range(_DRAWN))
        digits = f"{number:015x}{drawn.pop() | _VARIANT:016x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-{digits[15:19]}-{digits[19:]}"

    return new_id


class SharedBody(Protocol):
    def take(self, events: Sequence[bytes], /) -> tuple[Octets, int]:
        """Their body and its CRC-32."""
        ...


class Batch:
    """``events`` and ``digests`` run parallel; a digest is None where the event has no key.

    ``id`` is the request id and the idempotency key: both constant for the batch's life. ``new_id`` makes it,
    where ``batch_id`` is none, and those of its parts.
    ``segments`` say where the events came from, in order; they are empty for a batch made of dead
    letters, which has ``letters`` (their numbers) instead. ``body``: the exact bytes that are sent, set once
    by ``freeze``; ``checksum``: their CRC-32; ``shared`` gives both, where other sinks have a batch of the
    same events. Times are the monotonic clock's, except ``first_sent_wall``.
    ``claims``: numbers of letters whose keys were free, and where their events were read: a key that is known
    now is of an event that was accepted after its letter.
    """

    __slots__ = (
        *("ambiguous", "attempts", "bisection", "body", "checksum", "claims", "cuts"),
        *("digests", "drain_tries", "events", "exemplar", "first_failed", "first_sent", "first_sent_wall"),
        *("id", "inherited", "last_answer", "last_status", "latency_s", "letters", "new_id"),
        *("not_counted", "not_counted_s", "noted", "segments", "shared", "step", "submitted", "transformed"),
    )

    def __init__(
        self,
        events: Sequence[bytes],
        digests: Digests,
        segments: list[Segment],
        new_id: NewId,
        *,
        batch_id: str | None = None,
        letters: tuple[int, ...] = (),
    ) -> None:
        self.id = batch_id or new_id()
        self.new_id = new_id
        self.events = events
        self.digests = digests
        self.segments, self.letters = segments, letters
        self.claims: Mapping[int, Place] = {}
        self.body: Octets = b""
        self.checksum = 0
        self.shared: SharedBody | None = None
        self.step = 0  # of a sink that sends an event in several requests, one after the other
        self.transformed = False  # its events are not as they came, by an earlier process
        self.noted = False  # what rebuilds it after a crash is in the journal
        self.submitted = False  # has been counted as one that goes out
        self.attempts = 0
        self.inherited = 0  # attempts of the batches it was cut from
        self.first_failed: float | None = None
        self.first_sent: float | None = None
        self.first_sent_wall = 0.0
        self.not_counted = 0  # attempts that were answered for all batches: too fast, no access, an outage
        self.not_counted_s = 0.0  # waiting that the API asked for: not a failure of this batch
        self.cuts = 0  # connections in a row that were lost before all of it was sent
        self.drain_tries = 0  # failed attempts since the process is to end
        self.ambiguous = False  # an attempt may have been taken without our knowing
        self.last_answer, self.last_status = "", 0
        self.latency_s = 0.0  # of the last attempt
        self.exemplar: dict[str, str] | None = None  # its trace, for histograms, where it is traced
        self.bisection: object | None = None  # the bisection it is part of, see ``delivery.bisection``

    def __len__(self) -> int:
        return len(self.events)

    @property
    def tries(self) -> int:
        """Attempts for these events, under whatever key."""
        return self.attempts + self.inherited

    def freeze(self, body: Octets, checksum: int | None = None) -> None:
        if self.body and body != self.body:
            raise AssertionError(f"batch {self.id} was about to change under its key")
        # soon, while it is in the processor's cache
        self.body, self.checksum = body, crc32(body) if checksum is None else checksum
        self.shared = None

    def part(self, indices: Sequence[int]) -> "Batch":
        """A new batch, with an id of its own, of the events at ``indices`` (ascending).

        Only for events of which the API said that it did not take them, or cannot have.
        """
        letters = tuple(self.letters[i] for i in indices) if self.letters else ()
        part = Batch(
            pick(self.events, indices),
            pick(self.digests, indices),
            list(pick_segments(self.segments, indices)),
            self.new_id,
            letters=letters,
        )
        part.claims, part.step, part.transformed = self.claims, self.step, self.transformed
        part.inherited, part.first_sent = self.tries, self.first_sent
        part.first_sent_wall = self.first_sent_wall
        part.not_counted, part.not_counted_s = self.not_counted, self.not_counted_s
        part.last_answer, part.drain_tries = self.last_answer, self.drain_tries
        return part

    def next_step(self, indices: Sequence[int]) -> "Batch":
        """What follows for the events at ``indices``, now that the API has what came before."""
        part = self.part(indices)
        part.step, part.inherited, part.not_counted, part.not_counted_s = self.step + 1, 0, 0, 0.0
        part.first_sent, part.last_answer = None, ""
        return part


def frame(prefix: bytes, separator: bytes, suffix: bytes, events: Sequence[bytes]) -> bytes:
    """The body of a batch, ``prefix + separator.join(events) + suffix``, but half a megabyte is copied once.

    Twice, in large blocks that are new each time, costs four times as much (measured).
    """
    if isinstance(events, COMPILED):
        return events.frame(prefix, separator, suffix)  # type: ignore[attr-defined,no-any-return]
    if not events:
        return prefix + suffix
    framed = list(events)  # the frame goes into the join
    framed[0] = prefix + framed[0]
    framed[-1] += suffix
    return separator.join(framed)


def size_of(events: Sequence[bytes]) -> int:
    """Bytes of all of them."""
    if isinstance(events, COMPILED):
        return events.size_bytes  # type: ignore[attr-defined,no-any-return]
    return sum(map(len, events))


def packed_events(events: Sequence[bytes]) -> tuple[bytes, int]:
    """As msgpack writes a list of them, and the bytes of all of them."""
    if isinstance(events, COMPILED):
        return events.msgpack(), events.size_bytes  # type: ignore[attr-defined]
    return msgspec.msgpack.encode(events), sum(map(len, events))


def packed_keys(digests: Sequence[bytes | None], *, missing: bytes = b"") -> bytes:
    """One after the other; ``missing``: what stands for None, nothing or as many zeros."""
    if isinstance(digests, COMPILED):
        return digests.packed(bool(missing))  # type: ignore[attr-defined,no-any-return]
    try:
        return b"".join(digests)  # type: ignore[arg-type]
    except TypeError:  # not all are there
        return b"".join([digest or missing for digest in digests] if missing else filter(None, digests))


def packed_chunk(
    events: Sequence[bytes], digests: Digests, *, missing: bytes
) -> tuple[bytes, tuple[bytes, int]]:
    """``packed_keys`` and ``packed_events``."""
    return packed_keys(digests, missing=missing), packed_events(events)
