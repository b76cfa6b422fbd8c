"""How far a stream of NATS JetStream was read: of one that keeps its name and its messages."""

from collections.abc import Callable, Sequence

from ingestd.core.receipt import OrderedAcks
from ingestd.sources.nats.consumer import StreamState
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
        self.is_over = False
        self.is_new = False

    def pass_deleted(self, stream: StreamState, subjects: Sequence[str]) -> range:
        """Messages that the limits of the stream, or a person, deleted before they were read; each once.
        Empty where they may have been of other ``subjects``, and where a stream lets go of what was read."""
        next_one = max(self.consumed, self.passed) + 1
        may_be_others = bool(subjects) and not {*stream.subjects} <= {*subjects}
        if self.is_new or stream.retention != "limits" or may_be_others or stream.first <= next_one:
            return range(0)
        self.passed = stream.first - 1
        return range(next_one, stream.first)


def lost_words(stream: str, lost: range) -> str:
    return (
        f"stream {stream} has lost at most {len(lost)} messages, sequences {lost[0]} to {lost[-1]}, deleted"
        " before they were read: its limits are too small for such an outage, or it was purged"
    )
