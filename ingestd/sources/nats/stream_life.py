"""How far a stream of NATS JetStream was read: of one that keeps its name and its messages."""

from collections.abc import Callable, Iterable, Sequence

from ingestd.core.receipt import OrderedAcks
from ingestd.sources.nats.stream_state import StreamState
from ingestd.sources.source import Position

_EVER = 2**63
"""It is not known when the last message was stored that is settled."""


class StreamLife:
    """A stream that is recognised. ``is_new``: for the first time. ``consumed``: the last message that was
    given out, stored at ``consumed_at``; ``passed``: the last that was deleted before it was; ``resolved``:
    the last of those before which all are."""

    def __init__(
        self,
        identity: bytes,
        number: int,
        ack: Callable[[Position], None],
        resolved: int = 0,
        read_at: int = 0,
    ) -> None:
        self.identity = identity
        self.number = number
        self.acks = OrderedAcks(ack)
        self.consumed = self.resolved = resolved
        self.consumed_at = read_at or _EVER
        self.passed = 0
        self._has_begun = True
        self.is_over = False
        self.is_new = False

    def begin(self, stands: int) -> None:
        """A new one is read from behind this message on, or from a later one: its consumer may be set so."""
        self.is_new, self.resolved, self.consumed = False, stands, stands
        self._has_begun = False

    def pass_deleted(
        self, stream: StreamState, subjects: Sequence[str], *, after: int = 0, before: int | None = None
    ) -> range:
        """Messages that the limits of the stream, or a person, deleted before they were read; each once.
        ``after``, ``before``: only between these two. Empty where they may have been of other ``subjects``,
        and where a stream lets go of what was read."""
        next_one = max(self.consumed, self.passed, after) + 1
        end = stream.first if before is None else min(stream.first, before)
        if self.is_new or not self._has_begun or not keeps_all(stream, subjects) or end <= next_one:
            return range(0)
        self.passed = end - 1
        return range(next_one, end)

    def gaps(self, sequences: Iterable[int]) -> list[tuple[int, int]]:
        """Between which messages some are left out, of those that are given out now, in their order."""
        found, reached = list[tuple[int, int]](), max(self.consumed, self.passed)
        for sequence in sequences:
            if sequence > reached + 1 and self._has_begun:
                found.append((reached, sequence))
            reached, self._has_begun = max(reached, sequence), True
        return found


def keeps_all(stream: StreamState, subjects: Sequence[str]) -> bool:
    """Whether nobody but its limits, and persons, leaves messages out that are read as these ``subjects``."""
    if stream.retention != "limits" or stream.is_part:
        return False
    return not subjects or (not stream.is_fed and {*stream.subjects} <= {*subjects})


def lost_words(stream: str, lost: range) -> str:
    return (
        f"stream {stream} has lost at most {len(lost)} messages, sequences {lost[0]} to {lost[-1]}, deleted"
        " before they were read: its limits are too small for such an outage, or it was purged"
    )


def other_words(stream: str) -> str:
    return (
        f"stream {stream} has other messages now under numbers that were read already: it lost its"
        " end (a power cut, and sync_interval is not always?), or is an older copy; it is read from where its"
        " consumer stands"
    )


def another_words(stream: str, last: int) -> str:
    """``last``: the message of it that was read last; not more than 0: none is known."""
    where = f"behind message {last}, to which it was read before" if last > 0 else "where its consumer stands"
    return (
        f"stream {stream} is another one now: it was deleted and made again, or other servers answer at this"
        f" address; it is read from {where}"
    )
