"""Receipts: how a source learns that all events of a chunk are resolved, at one sink or at several.

A chunk has one receipt: its source's own, or one that several sinks share. Nothing here is per event unless
it failed. An outcome is taken in two steps: ``resolve`` says what is known with it, which is written down,
then ``finish`` tells the source.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Generic, NamedTuple, TypeVar

import msgspec

from ingestd.core.letter import NONE, DeadLetter, Failures
from ingestd.core.sequences import COMPILED

T = TypeVar("T")

Positions = Sequence[int]
"""Which events of a chunk: a ``range`` where they are neighbours, else ascending integers."""

Routed = Mapping[str, Positions]
"""Sink -> the positions in a chunk of the events that go there."""

Digests = Sequence[bytes | None]
"""Of events' keys; None where an event has none."""


class Resolution(msgspec.Struct):
    """``count`` events are resolved at all sinks that they go to.

    Those in ``failed`` became a dead letter of at least one of them, ``unmatched`` of them went nowhere,
    ``dropped`` were left out by the transforms of all their sinks, of ``unconfirmed`` the API has yet to say
    what became of them, the others are delivered. ``keys``: of events that a sink has. ``lost``: letters of
    events that no sink has, so that their keys are free; ``in_store``: those of them that were written down
    before. ``positions``: those to remember as resolved, in a file that may be read again. ``durable`` False:
    a sink was given up, and the chunk will be read again.
    """

    count: int = 0
    failed: Sequence[DeadLetter] = ()
    unmatched: int = 0
    dropped: int = 0
    unconfirmed: int = 0
    keys: Sequence[bytes] = ()
    lost: Sequence[DeadLetter] = ()
    in_store: Sequence[DeadLetter] = ()
    positions: Positions = ()
    durable: bool = True

    def delivered(self) -> int:
        return self.count - len(self.failed) - self.unmatched - self.dropped - self.unconfirmed


class Receipt:
    """Counts the unresolved events (``open``) of one chunk, which go to one sink; calls ``done`` when none is
    left, ``confirmed`` when an API has said of all that it had accepted what became of them.

    ``dead_letters``: events that became one; ``skipped``: that no sink gets. ``sinks``: how many are not done
    with it. ``unconfirmed``: by position, how many APIs have accepted the event and have yet to say what
    became of it.
    """

    __slots__ = ("_confirmed", "_done", "dead_letters", "open", "sinks", "skipped", "unconfirmed")

    final = True
    """Whether what a sink makes of an event is its outcome: it goes nowhere else."""

    def __init__(
        self, count: int, done: Callable[[], None], *, confirmed: Callable[[], None] = lambda: None
    ) -> None:
        self.open = count
        self.dead_letters = self.skipped = 0
        self.sinks = 1
        self.unconfirmed: dict[int, int] = {}
        self._done = done
        self._confirmed = confirmed

    def settle(self, count: int = 1) -> None:
        """``count`` events are resolved: at their sinks, or since they go to none."""
        if count == 0:
            return
        self.open -= count
        if self.open < 0:
            raise AssertionError("an event was resolved twice")
        if self.open == 0:
            self._done()

    def recount(self, more: int) -> None:
        """The chunk has this number of events more."""
        self.open += more

    # --- what a sink says ---

    def expect(self, sink: str, count: int) -> None:
        """``count`` events are on their way to this sink."""

    def resolve(
        self, sink: str, positions: Positions, keys: Digests, failed: Failures = NONE, dropped: Positions = ()
    ) -> Resolution:
        """Events are delivered, with these ``keys``, but for those that ``failed`` or were ``dropped``."""
        letters = failed.letters
        self.dead_letters += len(letters)
        self.skipped += len(dropped)
        pending = len(self.unconfirmed.keys() & positions) if self.unconfirmed else 0
        known = known_keys(keys)
        return Resolution(len(positions), letters, 0, len(dropped), pending, known, letters)

    def finish(self, sink: str, count: int) -> None:
        """``resolve`` was recorded for this number of events."""
        self.settle(count)

    def fail(self, position: int, letter: DeadLetter) -> bool:
        """An event that was accepted failed after all. True: no sink has it."""
        self.dead_letters += 1
        return True

    def confirm(self, position: int) -> bool:
        """An API has said what became of an event. True: nothing of it is open any more."""
        left = self.unconfirmed[position] - 1
        if left:
            self.unconfirmed[position] = left
            return False
        del self.unconfirmed[position]
        known = self._is_resolved()
        if not self.unconfirmed:
            self._confirmed()
        return known

    def letter_of(self, position: int, letter: DeadLetter | None) -> DeadLetter | None:
        """The letter that the event counts as; ``letter``: of the sink that spoke last."""
        return letter

    def state(self) -> tuple[int, int, int]:
        """(events that are not resolved, or not confirmed; dead letters; events that no sink gets)."""
        return self.open + len(self.unconfirmed), self.dead_letters, self.skipped

    def _is_resolved(self) -> bool:
        return True


class FanOutReceipt(Receipt):
    """Shared by ``sinks`` sinks, each of which must ``resolve`` what it was given by ``expect``.

    ``whole``: the chunk's own. ``routed``: which sinks get which events; ``events``: how many go to any,
    ``unmatched``: how many to none, that are to be counted with the rest. ``digests``, of the events at
    ``positions``: where a key is known only once its event is; ``resolved``: positions that were before.
    ``sink_done(sink)`` is called for each sink, and after the last one the whole is settled. ``incomplete``:
    an event may go to a sink that was given up. ``known``: all is resolved, but what is unconfirmed.
    """

    __slots__ = (
        "_before",
        "_digests",
        "_dropped",
        "_expected",
        "_incomplete",
        "_known",
        "_positions",
        "_reported_lost",
        "_sink_done",
        "_whole",
        "events",
        "failed",
        "routed",
        "unmatched",
    )

    final = False

    def __init__(
        self,
        whole: Receipt,
        routed: Routed,
        *,
        events: int,
        unmatched: int = 0,
        sinks: int,
        digests: Digests = (),
        positions: Positions = (),
        resolved: Set[int] = frozenset(),
        sink_done: Callable[[str], None] = lambda sink: None,
        confirmed: Callable[[], None] = lambda: None,
        incomplete: bool = False,
        known: bool = False,
    ) -> None:
        super().__init__(0, _nothing, confirmed=confirmed)
        self.routed = routed
        self.events = events
        self.unmatched = unmatched
        self.sinks = sinks  # that are not done
        self.failed: dict[int, tuple[int, DeadLetter]] = {}  # position -> at how many sinks, the first letter
        self._dropped: dict[int, int] = {}  # position -> at how many sinks
        self._whole = whole
        self._expected: dict[str, int] = {}
        self._digests = digests
        self._positions = positions
        self._before = resolved
        self._sink_done = sink_done
        self._incomplete = incomplete
        self._reported_lost: set[int] = set()
        self._known = known

    def settle(self, count: int = 1) -> None:
        self._whole.settle(count)

    def expect(self, sink: str, count: int) -> None:
        self._expected[sink] = count

    def resolve(
        self, sink: str, positions: Positions, keys: Digests, failed: Failures = NONE, dropped: Positions = ()
    ) -> Resolution:
        """The outcome is known, of all events at once, with the last event of the last sink."""
        lost = []
        for position, letter in zip(failed.positions, failed.letters, strict=True):
            if self.fail(position, letter):
                self._reported_lost.add(position)
                lost.append(letter)
        for position in dropped:
            self._dropped[position] = self._dropped.get(position, 0) + 1
        self._expected[sink] -= len(positions)
        if self._expected[sink] < 0:
            raise AssertionError("a sink resolved an event twice")
        if self.sinks > 1 or self._expected[sink]:
            return Resolution(lost=lost, in_store=lost)
        return self._resolved(lost)

    def finish(self, sink: str, count: int) -> None:
        if self._expected.get(sink) != 0:
            return
        del self._expected[sink]
        self.sinks -= 1
        if self.sinks < 0:
            raise AssertionError("a sink was done with a chunk twice")
        self._sink_done(sink)
        if self.sinks == 0 and not self._incomplete:
            self._whole.settle(self.events + self.unmatched)

    def fail(self, position: int, letter: DeadLetter) -> bool:
        """An event became a dead letter of one sink. True if it is one of all sinks that it goes to."""
        before, first = self.failed.get(position) or (0, letter._replace(payload=b""))  # the store has it
        if first.digest is None and letter.digest:  # of a letter of an earlier process less is known
            first = first._replace(digest=letter.digest)
        self.failed[position] = (before + 1, first)
        return before + 1 >= self.sinks_of(position)

    def letter_of(self, position: int, letter: DeadLetter | None) -> DeadLetter | None:
        failed = self.failed.get(position)
        return failed[1] if failed else None

    def lost(self) -> dict[int, DeadLetter]:
        """Events that no sink took, each with a letter of it, without its payload."""
        return {
            position: letter
            for position, (times, letter) in self.failed.items()
            if times >= self.sinks_of(position)
        }

    def sinks_of(self, position: int) -> int:
        """To how many sinks the event goes."""
        return sum(position in positions for positions in self.routed.values())

    def state(self) -> tuple[int, int, int]:
        dead, dropped = len(self.failed), self._dropped_everywhere()
        skipped = self.unmatched + dropped
        if self._known:
            return len(self.unconfirmed.keys() - self.failed.keys()), dead, skipped
        return self.events - dead - dropped, dead, skipped

    def _dropped_everywhere(self) -> int:
        """By the transforms of all the sinks that the event goes to."""
        return sum(times >= self.sinks_of(position) for position, times in self._dropped.items())

    def _resolved(self, lost: list[DeadLetter]) -> Resolution:
        self._known = True
        keys = self._digests
        if keys and (gone := self.lost()):
            keys = [key for at, key in zip(self._positions, keys, strict=True) if at not in gone]
            lost = lost + [letter for at, letter in gone.items() if at not in self._reported_lost]
        return Resolution(
            self.events + self.unmatched,
            [letter for at, (_, letter) in self.failed.items() if at not in self.unconfirmed],
            self.unmatched,
            self._dropped_everywhere(),
            len(self.unconfirmed),
            known_keys(keys),
            lost,
            lost,
            sorted({*self._before, *self._positions}) if self._before else self._positions,
            durable=not self._incomplete,
        )

    def _is_resolved(self) -> bool:
        return self._known


def receipt_without_chunk(routed: Routed, *, known: bool) -> FanOutReceipt:
    """Of events of an earlier process, whose chunk is gone, or was not read yet. ``known``: they are
    resolved, but for what is unconfirmed."""
    return FanOutReceipt(Receipt(0, _nothing), routed, events=0, sinks=0, known=known)


def _nothing() -> None:
    """Nobody waits."""


class _Unresolved(NamedTuple, Generic[T]):
    receipt: Receipt
    position: T
    since: float


class OrderedAcks(Generic[T]):
    """Gives receipts for one source's chunks, in the order in which they are read, and acknowledges the
    position to which all of them are resolved, in whatever order that happens."""

    def __init__(self, ack: Callable[[T], None]) -> None:
        self._ack = ack
        self._unresolved: deque[_Unresolved[T]] = deque()

    def receipt(self, events: int, position: T, now: float) -> Receipt:
        """Of a chunk of so many events that ends at ``position``; ``now``: the clock of ``oldest_since``."""
        receipt = Receipt(events, self._advance)
        self._unresolved.append(_Unresolved(receipt, position, now))
        if not events:
            self._advance()
        return receipt

    @property
    def oldest_since(self) -> float | None:
        """When the oldest chunk was read that has an unresolved event."""
        return self._unresolved[0].since if self._unresolved else None

    def _advance(self) -> None:
        last: T | None = None
        while self._unresolved and self._unresolved[0].receipt.open == 0:
            last = self._unresolved.popleft().position
        if last is not None:
            self._ack(last)


def known_keys(digests: Sequence[bytes | None]) -> Sequence[bytes]:
    """Those that there are."""
    if isinstance(digests, COMPILED):
        return digests.known()  # type: ignore[attr-defined,no-any-return]
    return list(filter(None, digests))
