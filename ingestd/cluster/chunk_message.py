"""A chunk as a message: the digests of its events' keys, then the events; how many there are is a header."""

from collections.abc import Mapping, Sequence

import msgspec

from ingestd.core.chunk import Chunk, packed_chunk
from ingestd.core.receipt import Digests
from ingestd.processing.dedup import DIGEST_BYTES

EVENTS, ONLY, BATCH = "Ingestd-Events", "Ingestd-Only", "Ingestd-Batch"
"""Headers: how many events; the one sink that they are for, of dead letters that are sent again; and the
batch that they were."""
ID = "Nats-Msg-Id"
_NO_KEY = b"\0" * DIGEST_BYTES
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


def encode(events: Sequence[bytes], digests: Digests) -> bytes:
    """The body of a message; ``digests`` run parallel to the events."""
    keys, (packed, _) = packed_chunk(events, digests, missing=_NO_KEY)
    return keys + packed


def decode(data: bytes, headers: Mapping[str, str], *, sequence: int, source: int, at: float) -> Chunk:
    """Raises ValueError for a message of somebody else. ``at``: when it was stored (wall time)."""
    count = int(headers.get(EVENTS, ""))
    keys = data[: count * DIGEST_BYTES]
    events = _decode(data[count * DIGEST_BYTES :])
    if len(events) != count or len(keys) != count * DIGEST_BYTES:
        raise ValueError(f"{len(events)} events where the header says {count}")
    digests = [
        None if (key := keys[first : first + DIGEST_BYTES]) == _NO_KEY else key
        for first in range(0, len(keys), DIGEST_BYTES)
    ]
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
