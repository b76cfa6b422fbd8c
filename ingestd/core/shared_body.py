"""One body for several sinks that send the same events and put other bytes around them. Pure.

The longest is made, and its CRC-32; the others are parts of it, and what theirs are follows from that.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ingestd.core.accelerator import crc32
from ingestd.core.answer import Octets
from ingestd.core.checksum import Ends, reframed
from ingestd.core.chunk import frame


class Frame(NamedTuple):
    """A body is ``prefix + separator.join(events) + suffix``."""

    prefix: bytes
    separator: bytes
    suffix: bytes

    def body(self, events: Sequence[bytes]) -> bytes:
        return frame(self.prefix, self.separator, self.suffix, events)

    @property
    def overhead_bytes(self) -> int:
        """What stands before the first event and behind the last."""
        return len(self.prefix) + len(self.suffix)

    @property
    def ends(self) -> Ends:
        return self.prefix, self.suffix

    def holds(self, other: "Frame") -> bool:
        """Whether the body in the other frame is a part of that in this one."""
        return (
            self.separator == other.separator
            and self.prefix.endswith(other.prefix)
            and self.suffix.startswith(other.suffix)
        )


class SharedBodies:
    """Of sinks with these ``frames``. What one has taken is kept for the others, up to ``max_bytes`` in all;
    who comes later makes its own."""

    def __init__(self, frames: Sequence[Frame], *, max_bytes: int) -> None:
        self._frames = frames
        self._longest = max(frames, key=lambda one: one.overhead_bytes)
        self._ends_bytes = self._longest.overhead_bytes
        self._max_bytes = max_bytes
        self._kept: dict[_Shared, None] = {}  # the oldest first
        self.kept_bytes = 0

    @staticmethod
    def can(frames: Sequence[Frame]) -> bool:
        """Whether one of these frames holds all of them."""
        return any(all(one.holds(other) for other in frames) for one in frames)

    def share(self) -> "list[_Taker]":
        """One for each of the sinks, for the same events."""
        shared = _Shared(len(self._frames))
        return [_Taker(self, shared, one) for one in self._frames]

    def take(self, shared: "_Shared", mine: Frame, events: Sequence[bytes]) -> tuple[Octets, int]:
        longest = self._longest
        shared.left -= 1
        if not shared.whole:
            if shared.is_given_up or not shared.left:
                own = mine.body(events)
                return own, crc32(own)
            shared.whole = longest.body(events)
            shared.checksum = crc32(shared.whole)
            self._keep(shared)
        whole, checksum = shared.whole, shared.checksum
        if not shared.left:
            self._drop(shared)
        if mine is longest or mine == longest:
            return whole, checksum
        first, behind = len(longest.prefix) - len(mine.prefix), len(longest.suffix) - len(mine.suffix)
        body = memoryview(whole)[first : len(whole) - behind]
        return body, reframed(checksum, len(whole) - self._ends_bytes, longest.ends, mine.ends)

    def _keep(self, shared: "_Shared") -> None:
        self._kept[shared] = None
        self.kept_bytes += len(shared.whole)
        while self.kept_bytes > self._max_bytes and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))

    def _drop(self, shared: "_Shared") -> None:
        if shared in self._kept:
            del self._kept[shared]
            self.kept_bytes -= len(shared.whole)
            shared.whole, shared.is_given_up = b"", True


class _Shared:
    """``left``: sinks that have not taken theirs. The events are not in it: a few may hold a whole chunk."""

    __slots__ = ("checksum", "is_given_up", "left", "whole")

    def __init__(self, sinks: int) -> None:
        self.left = sinks
        self.whole, self.checksum, self.is_given_up = b"", 0, False


class _Taker(NamedTuple):
    bodies: SharedBodies
    shared: _Shared
    frame: Frame

    def take(self, events: Sequence[bytes]) -> tuple[Octets, int]:
        return self.bodies.take(self.shared, self.frame, events)
