"""What is compared of a file, to tell whether it is the one that was read before."""

import hashlib

MARK_BYTES = 4096
"""So many bytes of its head, and of what stands before the place where reading ended."""

Mark = tuple[int, bytes]
"""A place in a file as it is on disk, and the last bytes before it."""

NO_MARK: Mark = (0, b"")


def digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def last_bytes(before: bytes, data: bytes | memoryview) -> bytes:
    """The last ``MARK_BYTES`` of both, one after the other."""
    new = bytes(data[-MARK_BYTES:])
    return new if len(new) == MARK_BYTES else (before + new)[-MARK_BYTES:]
