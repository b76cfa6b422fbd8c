"""A partition of a topic, from when it was recognised on: what was taken of it, and is settled."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ingestd.core.chunk import Chunk
from ingestd.core.receipt import OrderedAcks
from ingestd.sources.broker.chunks import Cutter, KnownCut
from ingestd.sources.broker.messages import Message, MessageColumns, sequence_of
from ingestd.sources.kafka.client import NONE, Start, TopicPart
from ingestd.sources.kafka.leaders import Leaders, Span, merged, without
from ingestd.sources.kafka.runs import TOMBSTONE, epoch_of, is_later, is_same, without_time
from ingestd.sources.source import Position

if TYPE_CHECKING:
    from ingestd.store.named_batches import NamedBatches

MakeCutter = Callable[[int, Sequence[KnownCut], Callable[[Message], str]], Cutter]


class Acks(OrderedAcks[Position]):
    """They know also what is settled behind the oldest that is not."""

    def settled_beyond(self) -> list[tuple[int, int]]:
        """Places: from the end of the chunk before it to its own, neighbours as one."""
        found: list[tuple[int, int]] = []
        before, was_settled = 0, False
        for receipt, position, _ in self._unresolved:
            is_settled, end = receipt.open == 0, position.offset
            if is_settled and was_settled:
                found[-1] = found[-1][0], end
            elif is_settled:
                found.append((before, end))
            before, was_settled = end, is_settled
        return found


class OtherMessages(Exception):
    """The message that was read last is not what it was."""


class Partition:
    """``number``: of the source that it is to the journal. ``resolved``: the offset before which all is, and
    ``consumed``: before which all was taken; ``cut_to``: before which all has become chunks that were given.
    ``mark``: of the message before it, 0 if that is not known. ``cuts``: chunks of an earlier process.
    ``is_leaving``: it is given back as soon as it is settled."""

    def __init__(
        self,
        place: TopicPart,
        identity: bytes,
        number: int,
        offset: int,
        cuts: Sequence[KnownCut],
        make_cutter: MakeCutter,
        moved: Callable[["Partition", Position], None],
        mark: int = 0,
    ) -> None:
        self.place = place
        self.identity = identity
        self.number = number
        self.resolved = self.consumed = self.read_to = offset
        self._consumed_mark = self.last_mark = self._resolved_mark = mark
        self.ended_at = NONE
        """There was nothing more before this offset, the last time that all was read."""
        self.given = 0
        self.cut_to = offset
        self.is_assigned = self.is_leaving = False
        self.acks = Acks(self.ack)
        self.cutter = make_cutter(number, cuts, self._where)
        self._again_to = self.cutter.known_to
        self._passed_before: tuple[int, int] | None = None
        self.named: NamedBatches | None = None
        """What its next owner has to know, where that is told."""
        self.skips: Sequence[Span] = ()
        """What an earlier owner has settled beyond ``offset``."""
        self.leaders = Leaders()
        self._moved = moved
        self._times: deque[tuple[int, float]] = deque()

    def _where(self, message: Message) -> str:
        topic, number = self.place
        what = f", {message.subject}" if message.subject else ""
        return f"topic {topic}, partition {number}, offset {message.sequence}{what}"

    @property
    def words(self) -> str:
        return words_of([self.place])

    # --- what comes ---

    def take(self, messages: MessageColumns, *, skip_tombstones: bool) -> tuple[MessageColumns | None, int]:
        """Those that were not taken before; and how many come again. Raises OtherMessages."""
        if self._consumed_mark and not (messages := self._compared(messages)):
            return None, 0
        again = bisect_left(messages.sequences, self._again_to)
        last = messages.sequences[-1]
        if last >= self._again_to:
            self._again_to = 0
        known_to = self.consumed
        if last >= known_to:
            self.consumed, self.last_mark = last + 1, messages[-1].mark
            self.leaders.read(messages, self.last_mark)
            self.read_to = max(self.read_to, self.consumed)
        if messages.sequences[0] < known_to:
            again = bisect_left(messages.sequences, known_to)
            messages = messages.part(again)
        if messages and (before := self._passed_before):  # the log lost its end: up to there it is as it was
            offset, mark = before
            fresh = [
                at
                for at, sequence in enumerate(messages.sequences)
                if sequence >= offset or is_later(messages[at].mark, mark)
            ]
            again += len(messages) - len(fresh)
            messages = messages.pick(fresh)
        for span in self.skips if messages else ():
            if span.first <= messages.sequences[-1] and span.last > messages.sequences[0]:
                count, messages = len(messages), without(messages, span)
                again += count - len(messages)
                if not messages:
                    break
        if skip_tombstones and not all(messages.payloads):
            messages = messages.pick(
                [at for at, one in enumerate(messages) if one.payload or one.subject != TOMBSTONE]
            )
        return messages if len(messages) else None, again

    def _compared(self, messages: MessageColumns) -> MessageColumns:
        """Without those before what comes next, which only show whether the last one is still there, and none
        that came since is before it. Raises OtherMessages."""
        before, known = bisect_left(messages.sequences, self.consumed), epoch_of(self._consumed_mark)
        for message in messages.part(0, before):
            if epoch_of(message.mark) > known:
                self.last_mark = without_time(known)  # the epoch alone tells what came since
                raise OtherMessages
            if message.sequence == self.consumed - 1 and not is_same(message.mark, self._consumed_mark):
                raise OtherMessages
        if before < len(messages):
            self._consumed_mark = 0
        return messages.part(before)

    def pass_gap(self) -> None:
        """What comes next is gone. Messages that came before may still wait to be taken."""
        self._consumed_mark = 0

    def cut(self, messages: MessageColumns) -> Iterator[Chunk]:
        return self.cutter.cut(messages)

    def end(self, offset: int) -> Iterator[Chunk]:
        """All before the offset has come, so that the rest of a known chunk is gone."""
        self.ended_at, self.read_to = offset, max(self.read_to, offset)
        return self.cutter.end(offset)

    def pass_over(self, before: "Partition") -> None:
        """What was settled of it as it was before, and is still there. What is on its way comes again: what
        is committed from now on must not be behind it."""
        self._passed_before = before.resolved, before.last_mark
        places = [tuple(map(sequence_of, span)) for span in before.acks.settled_beyond()]
        spans = [span for first, last in places for span in before.leaders.split(first, last)]
        self.skips = merged([*before.skips, *spans])

    # --- what is settled ---

    def noted(self, chunk: Chunk, stored_at: float) -> None:
        self._times.append((chunk.end, stored_at))

    def ack(self, position: Position) -> None:
        self.resolved = sequence_of(position.offset)
        self._resolved_mark = position.mark[0]
        while self._times and self._times[0][0] <= position.offset:
            self._times.popleft()
        self._moved(self, position)

    @property
    def oldest_stored_at(self) -> float | None:
        return self._times[0][1] if self._times else None

    @property
    def is_settled(self) -> bool:
        """All that was taken."""
        return self.acks.oldest_since is None and not self.cutter.is_waiting

    def to_commit(self) -> Start:
        """Behind what holds no event, too, as the mark of a transaction, where all before it is settled."""
        is_all = self.is_settled and self.cut_to == self.consumed
        offset, mark = (self.read_to, self.last_mark) if is_all else (self.resolved, self._resolved_mark)
        return Start(offset, epoch_of(mark) if mark else NONE)

    def goes_on_at(self) -> Start:
        """At the last message that was taken, if it is known, to see whether it is still that one. Where
        there is none now, as where a transaction ends, it is the brokers that know."""
        self._consumed_mark = mark = self.last_mark
        return Start(self.consumed - 1, epoch_of(mark)) if mark else Start(self.consumed)

    def looks_back(self, cut: int | None, first: int, end: int) -> Start | None:
        """Where reading goes on if the log has nothing from ``cut`` on that is of the leader of the last
        message, or of an earlier one. What came since need not be messages: a later leader may have ended a
        transaction. None: some of what was taken is gone. ``first``, ``end``: of what is there."""
        if cut is None or end < self.consumed or (cut == NONE and epoch_of(self.last_mark) > 0):
            return None
        start = self.goes_on_at()
        if cut == NONE:  # its messages have no epochs
            return start._replace(epoch=NONE)
        return Start(max(first, cut)) if self.last_mark and cut < start.offset else start


def words_of(places: Sequence[TopicPart]) -> str:
    return ", ".join(f"partition {number} of topic {topic}" for topic, number in sorted(places))
