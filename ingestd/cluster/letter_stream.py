"""Dead letters of a spool on JetStream: a stream, one message a letter, found by sink and reason.

A letter's id says which event it is of and which sink gave it up, so that it is there once, however often it
is written. What becomes of it is a new version in its place, written by one who has seen the version before.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from ingestd.cluster.names import StreamNames
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.sources.nats.connection import JetStreamError, NatsConnection

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_WRONG_SEQUENCE = 10071


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
    """The subject and the headers that it is stored with: only where it is not there."""
    headers = {_EXPECTED: "0"}
    return names.letter(unpack(packed).where), headers


async def store(connection: NatsConnection, names: StreamNames, packed: bytes) -> None:
    """Returns when it is there. Raises BrokerAway, JetStreamError."""
    subject, headers = address(names, packed)
    try:
        await connection.append(subject, packed, headers)
    except JetStreamError as error:
        if error.code != _WRONG_SEQUENCE:  # else it is there
            raise


async def change(connection: NatsConnection, names: StreamNames, one: LetterChange) -> int:
    """The sequence of the new version; 0: it is gone, or somebody else has changed it. Raises BrokerAway,
    JetStreamError."""
    subject = names.letter(one.where)
    if not one.letter:
        await connection.ask(f"STREAM.PURGE.{names.dead}", {"filter": subject})
        return 0
    try:
        answer = await connection.append(subject, one.letter, {_EXPECTED: str(one.before)})
    except JetStreamError as error:
        if error.code != _WRONG_SEQUENCE:
            raise
        return 0
    return int(answer["seq"])
