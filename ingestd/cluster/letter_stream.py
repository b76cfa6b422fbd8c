"""Dead letters of a spool on JetStream: a stream, one message a letter, found by sink and reason.

A letter's id says which event it is of and which sink gave it up, so that it is there once, however often it
is written.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from ingestd.cluster.names import StreamNames
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.sources.nats.connection import JetStreamError, NatsConnection

_WRONG_SEQUENCE = 10071


class StreamLetter(msgspec.Struct, array_like=True):
    """``sequence``, ``position``: the chunk in the stream of events, and the event in it; ``at``: when it
    failed, ``first_sent``: 0 if it never was (wall time)."""

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


def unpack(data: bytes) -> StreamLetter:
    """Raises msgspec.DecodeError."""
    return _decode(data)


def address(names: StreamNames, packed: bytes) -> tuple[str, Mapping[str, str]]:
    """The subject and the headers that it is stored with: only where it is not there."""
    letter = unpack(packed)
    headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
    return names.letter(letter.sink, letter.reason, letter.id), headers


async def store(connection: NatsConnection, names: StreamNames, packed: bytes) -> None:
    """Returns when it is there. Raises BrokerAway, JetStreamError."""
    subject, headers = address(names, packed)
    try:
        await connection.append(subject, packed, headers)
    except JetStreamError as error:
        if error.code != _WRONG_SEQUENCE:  # else it is there
            raise
