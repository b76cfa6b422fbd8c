"""A chunk as a message: the digests of its events' keys, then the events; how many there are is a header."""

from collections.abc import Mapping, Sequence
from struct import Struct

import msgspec

from ingestd.core.chunk import Chunk, packed_keys
from ingestd.core.receipt import Digests
from ingestd.core.sequences import COMPILED
from ingestd.processing.dedup import DIGEST_BYTES

EVENTS, ONLY, BATCH = "Ingestd-Events", "Ingestd-Only", "Ingestd-Batch"
"""Headers: how many events; the one sink that they are for, of dead letters that are sent again; and the
batch that they were."""
ID = "Nats-Msg-Id"
_NO_KEY = b"\0" * DIGEST_BYTES
_keys = Struct(f"{DIGEST_BYTES}s")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


def encode(events: Sequence[bytes], digests: Digests) -> bytes:
    """The body of a message; ``digests`` run parallel to the events."""
    compiled = isinstance(events, COMPILED)
    packed = events.msgpack() if compiled else _encode(events)  # type: ignore[attr-defined]
    return packed_keys(digests, missing=_NO_KEY) + packed


def decode(data: bytes, headers: Mapping[str, str], *, sequence: int, source: int, at: float) -> Chunk:
    """Raises ValueError for a message of somebody else. ``at``: when it was stored (wall time)."""
    count = int(headers.get(EVENTS, ""))
    keys = data[: count * DIGEST_BYTES]
    events = _decode(memoryview(data)[count * DIGEST_BYTES :])
    if len(events) != count or len(keys) != count * DIGEST_BYTES:
        raise ValueError(f"{len(events)} events where the header says {count}")
    digests: list[bytes | None] = [key for (key,) in _keys.iter_unpack(keys)]
    if _NO_KEY in keys:  # also where one ends and the next begins with zeros
        digests = [None if key == _NO_KEY else key for key in digests]
    chunk = Chunk(
        events,
        source=source,
        start=sequence,
        end=sequence + 1,
        place=lambda index: (sequence, index + 1),
        digests=digests,
        accepted_at=at,
    )
    chunk.size_bytes = len(data)
    return chunk
