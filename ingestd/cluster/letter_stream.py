"""Dead letters of a spool on JetStream: a stream, one message a letter, found by sink and reason.

A letter's id says which event it is of and which sink gave it up, so that it is there once, however often it
is written. What becomes of it is a new version in its place, written by one who has seen the version before.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from ingestd.cluster.chunk_message import ID
from ingestd.cluster.direct_read import read_last, read_messages
from ingestd.cluster.names import StreamNames
from ingestd.cluster.stream_errors import WRONG_SEQUENCE
from ingestd.core.clock import Clock
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.sources.nats.connection import JetStreamError, NatsConnection

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class LetterNow(msgspec.Struct, array_like=True):
    """How a letter stands since somebody did something with it; the fields are those of ``StoredLetter``.
    ``named``: the reason that its subject has."""

    named: str
    last_failed: float
    due: float | None
    requested: float
    obstacle: str
    edited: int
    key_released: int
    form: int


class StreamLetter(msgspec.Struct, array_like=True):
    """``sequence``, ``position``: the chunk in the stream of events, and the event in it; ``at``: when it
    failed, ``first_sent``: 0 if it never was (wall time). ``now``: None as long as it is as it was made."""

    id: str
    sink: str
    reason: str
    detail: str
    at: float
    sequence: int
    position: int
    digest: bytes
    batch: str
    batch_index: int
    batch_size: int
    attempts: int
    ambiguous: bool
    first_sent: float
    payload: bytes
    producer: str = ""
    now: LetterNow | None = None

    @property
    def where(self) -> str:
        """Its place: a part of its subject."""
        return f"{self.sink or '-'}.{self.now.named if self.now else self.reason}.{self.id}"


class LetterChange(msgspec.Struct, array_like=True):
    """What is to stand in the place of a letter: the next version, packed, or nothing. ``before``: the
    sequence of the version that this one follows."""

    where: str
    before: int
    letter: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StreamLetter).decode


def pack(letter: DeadLetter, *, sink: str, at: float, share: str) -> bytes:
    """``share``: of what it is a letter, for its id."""
    position = max(0, letter.line - 1)
    named = f"{share} {letter.offset} {position}".encode()
    return _encode(
        StreamLetter(
            hashlib.blake2b(named, digest_size=10).hexdigest(),
            sink,
            str(letter.reason),
            letter.detail,
            at,
            letter.offset,
            position,
            letter.digest or b"",
            letter.batch,
            letter.batch_index,
            letter.batch_size,
            letter.attempts,
            letter.ambiguous,
            letter.first_sent_wall,
            letter.payload,
        )
    )


def refused_letter(
    payload: bytes, reason: Reason, detail: str, *, producer: str, at: float, edge: str, number: int
) -> bytes:
    """Of an event that fails its schema; ``number``: of those that this ``edge`` kept."""
    letter_id = hashlib.blake2b(f"{edge} {number}".encode(), digest_size=10).hexdigest()
    return _encode(
        StreamLetter(
            letter_id, "", str(reason), detail, at, 0, 0, b"", "", 0, 0, 0, False, 0.0, payload, producer
        )
    )


def pack_again(letter: StreamLetter) -> bytes:
    """Of one that was changed."""
    return _encode(letter)


def unpack(data: bytes) -> StreamLetter:
    """Raises msgspec.DecodeError."""
    return _decode(data)


def address(names: StreamNames, packed: bytes) -> tuple[str, Mapping[str, str]]:
    """The subject and the headers that it is stored with: only where it is not there, and was not a moment
    ago. An owner that stood still meanwhile must not bring back what is delivered or purged."""
    letter = unpack(packed)
    return names.letter(letter.where), {_EXPECTED: "0", ID: f"letter-{letter.id}"}


async def store(connection: NatsConnection, names: StreamNames, packed: bytes) -> None:
    """Returns when it is there. Raises BrokerAway, JetStreamError."""
    subject, headers = address(names, packed)
    try:
        await connection.append(subject, packed, headers)
    except JetStreamError as error:
        if error.code != WRONG_SEQUENCE:  # else it is there
            raise


async def change(connection: NatsConnection, names: StreamNames, one: LetterChange) -> int:
    """The sequence of the new version; 0: it is gone, or somebody else has changed it. Raises BrokerAway,
    JetStreamError."""
    subject = names.letter(one.where)
    if not one.letter:
        await delete(connection, names, one.where)
        return 0
    try:
        answer = await connection.append(subject, one.letter, {_EXPECTED: str(one.before)})
    except JetStreamError as error:
        if error.code != WRONG_SEQUENCE:
            raise
        return 0
    sequence = int(answer["seq"])
    await delete(connection, names, one.where, upto=sequence - 1)
    return sequence


async def delete(
    connection: NatsConnection, names: StreamNames, where: str, *, upto: int | None = None
) -> None:
    """All versions of a letter; ``upto``: but for those that are younger than this one. Raises BrokerAway,
    JetStreamError.

    With a limit of messages a subject nats-server (2.15.1) would do that by itself; but when it is killed it
    forgets that it did, and when the youngest version is deleted then the one before comes back to life.
    """
    body: dict[str, object] = {"filter": names.letter(where)}
    await connection.ask(f"STREAM.PURGE.{names.dead}", body | ({} if upto is None else {"seq": upto + 1}))


async def put_on_top(
    connection: NatsConnection, names: StreamNames, one: LetterChange, clock: Clock
) -> tuple[int, StreamLetter | None]:
    """A person was quicker, with what is to be done with the letter: what became of it is told there, too.

    Gives the sequence of that version, and the version if it had to be made; 0: the letter is gone, has
    another text, or a later owner knows more of it. Raises BrokerAway, JetStreamError."""
    subject, ours = names.letter(one.where), unpack(one.letter)
    found = await read_last(connection, names.dead, [subject], clock)
    if subject not in found:
        return 0, None
    sequence, data = found[subject]
    theirs = unpack(data)
    if data == one.letter:  # an answer was lost
        return sequence, None
    if theirs.payload != ours.payload or not _is_later(ours, theirs):
        return 0, None
    both = _with_wish(ours, theirs)
    return await change(connection, names, LetterChange(one.where, sequence, pack_again(both))), both


def _is_later(letter: StreamLetter, other: StreamLetter) -> bool:
    """Whether it says more of what became of the letter than another version does."""
    if letter.attempts == other.attempts:  # an answer said that it was not taken
        return letter.batch == other.batch and other.ambiguous and not letter.ambiguous
    return letter.attempts > other.attempts


def _with_wish(letter: StreamLetter, other: StreamLetter) -> StreamLetter:
    """A letter as it stands, with what a person wants of it in another version."""
    now, wish = letter.now, other.now
    if now is None or wish is None:
        return letter
    if wish.due is None:
        now = msgspec.structs.replace(now, due=None, requested=0.0)
    elif wish.requested > now.requested:
        soonest = wish.due if now.due is None else min(now.due, wish.due)
        now = msgspec.structs.replace(now, due=soonest, requested=wish.requested)
    return msgspec.structs.replace(letter, now=now)


async def read_request(
    connection: NatsConnection, names: StreamNames, sink: str, batch: str, clock: Clock
) -> list[tuple[int, StreamLetter]]:
    """The letters of a request that may have been taken, in any order, with their sequences. All letters of
    the sink are read for it. Raises BrokerAway.

    A person parks a request, or wants it sent, one letter after the other, and the command may be cut short:
    only who has looked at all of them can tell that from a request of which letters are gone.
    """
    found: dict[str, tuple[int, StreamLetter]] = {}
    async for messages in read_messages(connection, names.dead, names.letters_of(sink), clock):
        for sequence, data in messages:
            letter = unpack(data)
            if letter.batch == batch or letter.where in found:
                found[letter.where] = sequence, letter  # the youngest version counts
    return [one for one in found.values() if one[1].batch == batch and one[1].ambiguous]
