"""What the supervisor and its children know of each other: numbers in memory that all of them share."""

import mmap
import struct

_BEAT = struct.Struct("=d")
_PLACE = struct.Struct("=III")


class Board:
    """``places``: one for each child. The supervisor writes who lives, the child its port when it is open;
    numbers of one place are written by one process at a time."""

    def __init__(self, places: int) -> None:
        self._memory = mmap.mmap(-1, _BEAT.size + places * _PLACE.size)

    def beat(self, now: float) -> None:
        """The supervisor lives at ``now``, seconds of the monotonic clock."""
        _BEAT.pack_into(self._memory, 0, now)

    @property
    def last_beat(self) -> float:
        return float(_BEAT.unpack_from(self._memory, 0)[0])

    def started(self, place: int, pid: int, starts: int) -> None:
        """A child in a place, for the ``starts``-th time; pid 0: there is none."""
        _PLACE.pack_into(self._memory, _at(place), pid, 0, starts)

    def opened(self, place: int, port: int) -> None:
        """By the child."""
        pid, _, starts = self.read(place)
        _PLACE.pack_into(self._memory, _at(place), pid, port, starts)

    def read(self, place: int) -> tuple[int, int, int]:
        """(pid, port, starts); port 0: it is not open yet."""
        pid, port, starts = _PLACE.unpack_from(self._memory, _at(place))
        return int(pid), int(port), int(starts)


def _at(place: int) -> int:
    return _BEAT.size + place * _PLACE.size
