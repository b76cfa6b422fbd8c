"""Receipts: how a source learns that all events of a chunk are resolved, at one sink or at several.

Nothing here is per event unless it failed: each sink settles its own view of the chunk, and when the last
one has, the fate of all its events is known.
"""

from collections.abc import Callable, Mapping

from ingestd.core.letter import DeadLetter
from ingestd.core.positions import Positions

Routed = Mapping[str, Positions]
"""Sink -> the positions in a chunk of the events that go there."""


class Receipt:
    """Counts the events of one chunk that have not had their end; calls ``done`` when it gets to zero.

    ``buried``: those that became dead letters, counted for chunks of the spool.
    """

    __slots__ = ("_done", "buried", "open")

    def __init__(self, count: int, done: Callable[[], None]) -> None:
        self.open = count
        self.buried = 0
        self._done = done

    def settle(self, count: int = 1) -> None:
        if count == 0:
            return
        self.open -= count
        if self.open < 0:
            raise AssertionError("an event had two ends")
        if self.open == 0:
            self._done()

    def close(self) -> None:
        """There was nothing to wait for."""
        self._done()


class FanOutReceipt:
    """``routed``: who gets what. ``events``: how many go anywhere, ``unmatched``: how many nowhere.
    ``settle`` is called once for each of ``sinks`` sinks; ``done`` after the last. ``open``: how many are
    to come.

    ``confirming``: by position, how many APIs have accepted the event and have yet to say what became of
    it; ``decided`` is called when that is nobody any more. ``known``: after ``done``; what is confirming
    then has its end later.
    """

    __slots__ = ("_done", "confirming", "decided", "events", "failed", "known", "open", "routed", "unmatched")

    def __init__(
        self,
        routed: Routed,
        *,
        events: int,
        unmatched: int = 0,
        sinks: int,
        done: Callable[["FanOutReceipt"], None],
    ) -> None:
        self.routed = routed
        self.events = events
        self.unmatched = unmatched
        self.failed: dict[int, tuple[int, DeadLetter]] = {}  # position -> at how many sinks, the first letter
        self.confirming: dict[int, int] = {}
        self.decided: Callable[[], None] = _nobody
        self.known = False
        self.open = sinks
        self._done = done

    def fail(self, position: int, letter: DeadLetter) -> bool:
        """An event became a dead letter of one sink. True if it is one of all sinks that it goes to."""
        before, first = self.failed.get(position) or (0, letter._replace(payload=b""))  # the store has it
        if first.digest is None and letter.digest:  # of a letter of an earlier process less is known
            first = first._replace(digest=letter.digest)
        self.failed[position] = (before + 1, first)
        return before + 1 >= self.sinks_of(position)

    def lost(self) -> dict[int, DeadLetter]:
        """Events that no sink took, each with a letter of it, without its payload."""
        return {
            position: letter
            for position, (times, letter) in self.failed.items()
            if times >= self.sinks_of(position)
        }

    def settle(self) -> None:
        """One sink is done with its events of the chunk."""
        self.open -= 1
        if self.open < 0:
            raise AssertionError("a sink was done with a chunk twice")
        if self.open == 0:
            self._done(self)

    def sinks_of(self, position: int) -> int:
        """To how many sinks the event goes."""
        return sum(position in positions for positions in self.routed.values())


def _nobody() -> None:
    """Nobody wants to know."""
