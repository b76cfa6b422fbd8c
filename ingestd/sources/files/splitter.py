"""What cuts an input into events, whatever its format: *regions*, which are whole events of up to a chunk.

Their borders depend on the region's start alone, so that the same stream is always cut the same way.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

KEPT_OF_TOO_LONG = 16 * 1024
"""Bytes of an event that is over the limit: enough to recognise it by."""


class ByteStream(Protocol):
    """What is cut. ``cut_off``: the end that ``read`` showed is not the stream's true end."""

    @property
    def cut_off(self) -> bool: ...

    def read(self, size: int, /) -> bytes: ...


class UnfinishedValue(NamedTuple):
    """A value at the end of a file that is still being written: left where it is."""

    start: int
    line: int
    size: int


class Damaged(Exception):
    """The stream cannot be cut any further; what came before is good."""


class Region(msgspec.Struct):
    """Events of ``[start, end)``. ``line``: number of the first line (or element), from 1.

    ``locate(i)`` gives (offset, line) of event i. ``too_long``: full length of events of which
    only the head was kept, by index. ``unreadable``: why one is none, by index. ``tail``: the last
    bytes before ``end``.
    """

    events: Sequence[bytes]
    start: int
    end: int
    line: int
    locate: Callable[[int], tuple[int, int]]
    too_long: dict[int, int] = msgspec.field(default_factory=dict)
    next_line: int = 0
    tail: bytes = b""
    unreadable: dict[int, str] = msgspec.field(default_factory=dict)


class Splitter(Protocol):
    """``half``: what is left at the end, as it may still be written to. ``reached``: where the next region
    begins, and the number of its first line."""

    @property
    def half(self) -> UnfinishedValue | None: ...
    @property
    def reached(self) -> tuple[int, int]: ...

    def next_region(self) -> Region | None:
        """None at the end. Raises Damaged for what is behind all that was given."""
        ...
