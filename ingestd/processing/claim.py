"""What a dedup window says of keys that are claimed."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from ingestd.core.chunk import Chunk


class Claim(NamedTuple):
    """What became of a chunk's keys.

    ``digests``: parallel to the keys; None where there was no key, or the event is a copy.
    ``duplicates``: indices of copies of events that are safe. ``copies``: (index, digest) of copies
    of events that still are on their way.
    """

    digests: Sequence[bytes | None]
    duplicates: list[int]
    copies: list[tuple[int, bytes]]


class WaitingCopy(NamedTuple):
    """A copy that waits until its event is safe or has failed."""

    chunk: Chunk
    position: int


waiting_copy: Callable[[tuple[Chunk, int]], WaitingCopy] = partial(tuple.__new__, WaitingCopy)
"""As ``WaitingCopy``, of a tuple of its fields."""
