"""The log of a share: what its owners have frozen, and what became of it. One append is all of that at once.

Each append names the one before it (``Nats-Expected-Last-Subject-Sequence``), so that a worker that was
thought dead, and goes on, writes nothing more: it is fenced. A request goes out only behind such an append.
"""

from collections.abc import Sequence

import msgspec

from ingestd.cluster.chunk_message import ID
from ingestd.cluster.direct_read import last_message, read_last, read_messages
from ingestd.cluster.letter_stream import LetterChange
from ingestd.cluster.names import Share, StreamNames
from ingestd.cluster.stream_errors import WRONG_SEQUENCE
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import JetStreamError, NatsConnection

_AGAIN_S = 0.1
_TRY_S = 15.0

Places = tuple[int, bytes]
"""(sequence of a chunk, packed positions in it)."""


class LogFenced(Exception):
    """Another worker owns the share now, or wrote meanwhile."""


class Frozen(msgspec.Struct, array_like=True):
    """A batch that is about to be sent. ``keys``: packed digests; ``at``: wall time."""

    id: str
    at: float
    events: int
    body: bytes
    places: list[Places]
    keys: bytes


class Settled(msgspec.Struct, array_like=True):
    """A batch is over. ``places``: of those of its events that are resolved, None: all of them, empty: none;
    ``left``: the keys of the others, which go on in other batches."""

    id: str
    places: list[Places] | None = None
    left: bytes = b""


class SentAgain(msgspec.Struct, array_like=True):
    """Dead letters that are about to be sent as one request. ``letters``: (place, checksum) of each."""

    id: str
    at: float
    letters: list[tuple[str, int]]


class ShareCounts(msgspec.Struct, array_like=True):
    """Since the spool was made: of the events that are resolved for the share's sink, what became of them.
    ``retried``: of those that were dead-lettered, how many were delivered when they were sent again."""

    delivered: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    rejected: int = 0
    unmatched: int = 0
    retried: int = 0

    @property
    def total(self) -> int:
        return self.delivered + self.duplicate + self.dead_lettered + self.rejected + self.unmatched


class Reached(msgspec.Struct, array_like=True):
    """How far a share is. ``floor``: every chunk up to this sequence is settled, and they had ``at_floor``
    events since the spool was made. Those behind it, up to ``read``, have ``events``, of which so many are
    ``in_flight``; of those behind ``read``, which the owner has yet to read again, ``ahead`` are resolved.
    That at_floor + events = resolved - ahead + in_flight can be wrong: on the left chunks are counted, on the
    right outcomes."""

    floor: int = 0
    at_floor: int = 0
    read: int = 0
    events: int = 0
    in_flight: int = 0
    ahead: int = 0


class Record(msgspec.Struct, array_like=True):
    """``owner``: who writes, ``since``: when it took the share; ``at``, ``since``: wall time; ``upto``: when
    the youngest chunk was stored that was read. ``dismissed``: places that are resolved without a batch;
    ``free``: packed keys that may be used again; ``letters``: dead letters, packed; ``changes``: of letters
    that were sent again; ``letters_done``: those up to this record are in their stream. ``stream``: when the
    stream of events was made. ``again_over``: requests of letters whose end is in the changes; ``known``:
    packed keys of those that were delivered."""

    id: str
    owner: str
    since: float
    at: float
    upto: float
    reached: Reached
    counts: ShareCounts
    frozen: list[Frozen] = []
    settled: list[Settled] = []
    dismissed: list[Places] = []
    free: bytes = b""
    letters: list[bytes] = []
    letters_done: int = 0
    stream: str = ""
    again: list[SentAgain] = []
    again_over: list[str] = []
    known: bytes = b""
    changes: list[LetterChange] = []


class LoggedRecord(msgspec.Struct):
    """``sequence``: in the stream of logs; ``size``: bytes."""

    sequence: int
    record: Record
    size: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class ShareLog:
    """``read`` once, then ``append``."""

    def __init__(self, connection: NatsConnection, names: StreamNames, share: Share, clock: Clock) -> None:
        self._connection = connection
        self._names = names
        self._subject = names.log(share)
        self._clock = clock
        self.last = 0

    async def append(self, record: Record) -> int:
        """Gives its sequence, when it is stored. Raises LogFenced, BrokerAway."""
        data = _encode(record)
        until = self._clock.monotonic() + _TRY_S
        while True:
            headers = {ID: record.id, "Nats-Expected-Last-Subject-Sequence": str(self.last)}
            try:
                answer = await self._connection.append(self._subject, data, headers)
            except JetStreamError as error:
                if error.code != WRONG_SEQUENCE:
                    raise BrokerAway(f"{self._subject}: {error}") from None
                self.last = await self._own_append(record.id)
                return self.last
            except BrokerAway:
                if not self._connection.is_open or self._clock.monotonic() > until:
                    raise
                await self._clock.sleep(_AGAIN_S)  # no leader for a moment: the same again
                continue
            self.last = int(answer["seq"])
            return self.last

    async def _own_append(self, record_id: str) -> int:
        """An answer got lost, and the server compares sequences before ids: is the last one ours?"""
        found = await self.read(first=self.last + 1)
        if found and found[-1].record.id == record_id:
            return found[-1].sequence
        raise LogFenced

    async def read(self, *, first: int = 1) -> list[LoggedRecord]:
        """All records from a sequence on, oldest first. Raises BrokerAway, UserError."""
        found: list[LoggedRecord] = []
        groups = read_messages(self._connection, self._names.frozen, self._subject, self._clock, first=first)
        async for messages in groups:
            for sequence, data in messages:
                found.append(LoggedRecord(sequence, self._record(sequence, data), len(data)))
        self.last = found[-1].sequence if found else self.last
        return found

    def _record(self, sequence: int, data: bytes) -> Record:
        try:
            return _decode(data)
        except msgspec.DecodeError as error:
            raise UserError(
                f"message {sequence} of {self._names.frozen} is no record of ingestd ({error}): nobody else"
                " may write there; without it nobody knows what was sent"
            ) from None

    async def purge(self, before: int) -> None:
        """Forget the records before a sequence. Raises BrokerAway, JetStreamError."""
        body = {"filter": self._subject, "seq": before}
        await self._connection.ask(f"STREAM.PURGE.{self._names.frozen}", body)


async def durable_floor(
    connection: NatsConnection, names: StreamNames, shares: Sequence[Share], clock: Clock
) -> int:
    """The chunk up to which all these shares are settled, as their logs say. Raises BrokerAway."""
    logs = [names.log(share) for share in shares]
    found = await read_last(connection, names.frozen, logs, clock)
    return min((_decode(found[log][1]).reached.floor if log in found else 0 for log in logs), default=0)


async def last_record(connection: NatsConnection, names: StreamNames, share: Share) -> Record | None:
    """Raises BrokerAway, JetStreamError."""
    data = await last_message(connection, names.frozen, names.log(share))
    return _decode(data) if data else None
