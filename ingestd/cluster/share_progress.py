"""How far the owner of a share has read, and how far all is settled: counted in chunks and in events."""

from collections import deque

from ingestd.cluster.share_log import Reached
from ingestd.cluster.share_state import ShareState


class ShareProgress:
    """``floor``: every chunk up to it is settled."""

    def __init__(self, state: ShareState) -> None:
        self.floor = state.reached.floor
        self._at_floor = state.reached.at_floor
        self._read = self.floor
        self._ahead = sum(map(len, state.settled.values()))
        self._events = 0
        self._counted: deque[tuple[int, int]] = deque()  # behind the floor: chunk, events

    def read(self, chunk: int, events: int, *, settled: int) -> None:
        """A chunk came, of which so many events are settled since an earlier owner."""
        self._read = chunk
        self._ahead -= settled
        self._events += events
        self._counted.append((chunk, events))

    def moved(self, floor: int) -> None:
        """Every chunk up to this one is settled."""
        while self._counted and self._counted[0][0] <= floor:
            events = self._counted.popleft()[1]
            self._at_floor += events
            self._events -= events
        self.floor = floor

    def reached(self, in_flight: int) -> Reached:
        return Reached(self.floor, self._at_floor, self._read, self._events, in_flight, self._ahead)
