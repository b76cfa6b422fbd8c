"""What a member of a classic group has, as its leader wrote it down and the brokers keep it."""

import struct
from collections.abc import Iterator

_NUMBER, _LENGTH = struct.Struct(">i"), struct.Struct(">h")
_VERSION_BYTES = 2


def places_of(assignment: bytes) -> Iterator[tuple[str, int]]:
    """(topic, partition), of ConsumerProtocolAssignment in any version. Empty: of none. Raises struct.error,
    UnicodeDecodeError."""
    if not assignment:
        return
    at = _VERSION_BYTES
    (topics,) = _NUMBER.unpack_from(assignment, at)
    at += _NUMBER.size
    for _ in range(topics):
        (length,) = _LENGTH.unpack_from(assignment, at)
        at += _LENGTH.size
        topic = assignment[at : at + length].decode()
        at += length
        (count,) = _NUMBER.unpack_from(assignment, at)
        at += _NUMBER.size
        for number in struct.unpack_from(f">{count}i", assignment, at):
            yield topic, number
        at += _NUMBER.size * count
