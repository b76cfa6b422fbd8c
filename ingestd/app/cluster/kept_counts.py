"""What the admin process of a supervisor has summed up, in memory that outlives it: when it is killed the
next one goes on from there, and no sum falls.
"""

import mmap
import struct
import zlib

import msgspec

from ingestd.app.cluster.machine_view import CountsState
from ingestd.telemetry.summed_metrics import SumsState

_HEAD = struct.Struct("=QII")
"""Number of the writing, length, checksum."""
_SIZE = 4 * 1024**2
"""Of each of two places. Of what nothing was written to, nothing is in memory."""


class Carried(msgspec.Struct):
    """``started``: the supervisor (wall time), and ``started_s`` (monotonic)."""

    started: float
    started_s: float
    counts: CountsState = msgspec.field(default_factory=CountsState)
    sums: SumsState = msgspec.field(default_factory=SumsState)


_decode = msgspec.msgpack.Decoder(Carried).decode
_encode = msgspec.msgpack.Encoder().encode


class KeptCounts:
    """Made before the processes are forked; one of them writes at a time. ``size``: of a place, in bytes."""

    def __init__(self, size: int = _SIZE) -> None:
        self._size = size
        self._memory = mmap.mmap(-1, 2 * size)

    def write(self, carried: Carried) -> None:
        """In the place of the older writing: who is killed meanwhile leaves the younger. What has no room is
        not written."""
        data = _encode(carried)
        if len(data) > self._size - _HEAD.size:
            return
        number = max(self._head(place)[0] for place in (0, 1)) + 1
        at = number % 2 * self._size
        self._memory[at + _HEAD.size : at + _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._memory, at, number, len(data), zlib.crc32(data))

    def read(self) -> Carried | None:
        """The youngest that is whole; None: there is none."""
        for place in sorted((0, 1), key=lambda place: self._head(place)[0], reverse=True):
            number, length, checksum = self._head(place)
            at = place * self._size + _HEAD.size
            data = self._memory[at : at + length]
            if number and zlib.crc32(data) == checksum:
                return _decode(data)
        return None

    def _head(self, place: int) -> tuple[int, int, int]:
        number, length, checksum = _HEAD.unpack_from(self._memory, place * self._size)
        return int(number), min(int(length), self._size - _HEAD.size), int(checksum)
