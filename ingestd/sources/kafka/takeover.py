"""What goes with an offset for the next owner of a partition, and what this process finds there.

A batch is named before its first request, so that the partition's next owner repeats it: the same bytes
under the same key. What is settled behind the offset is named as well.
"""

from collections.abc import Callable, Sequence
from functools import partial

from ingestd.core.clock import Clock
from ingestd.sources.broker.messages import place_of, sequence_of
from ingestd.sources.broker.source import SourceCounts
from ingestd.sources.kafka.client import Start, TopicPart
from ingestd.sources.kafka.heirs import Heirs
from ingestd.sources.kafka.leaders import merged
from ingestd.sources.kafka.note import MAX_BYTES, Note, write_note
from ingestd.sources.kafka.partition import Partition
from ingestd.store.frozen_batches import FrozenBatch
from ingestd.store.journal import Journal
from ingestd.store.named_batches import NamedBatches

NAMED_WITHIN_S = 5.0
"""A batch that cannot be named in this time is sent all the same: brokers that are away, or a note that is
full, must not hold up a sink that others use, too."""


class Takeover:
    """``changed``: of a partition there is something new to commit; True: at once. ``frozen``: by number of a
    partition, the batches of earlier processes with this state directory. ``heirs``: sends them again."""

    def __init__(
        self,
        journal: Journal,
        *,
        changed: Callable[[TopicPart, bool], None],
        frozen: Callable[[int], Sequence[FrozenBatch]],
        heirs: Heirs,
        counts: SourceCounts,
        clock: Clock,
        warn: Callable[[str], None],
        within_s: float,
    ) -> None:
        self.max_bytes = MAX_BYTES
        self._journal = journal
        self._changed = changed
        self._frozen = frozen
        self._heirs = heirs
        self._counts = counts
        self._clock = clock
        self._warn = warn
        self._within_s = within_s

    def begin(self, one: Partition, note: Note, *, is_new: bool, is_known: bool) -> None:
        """Of a partition that was given now. ``is_new``: to this state directory, which has no batch of it.
        ``is_known``: what it has of it is awaited anyway."""
        if not note.is_readable:
            self._warn(
                f"{one.words}: what its last owner has named cannot be read; it may be delivered twice"
            )
        batches = note.batches(one.number) if is_new else self._frozen(one.number)
        one.named = self._journal.named[one.number] = NamedBatches(
            partial(self._changed, one.place),
            unannounced=self._count,
            clock=self._clock,
            within_s=self._within_s,
        )
        spans = [*note.inherited, *(note.spans if is_new else ())]  # what was settled here the journal knows
        one.skips = merged([span for span in spans if span.last > one.consumed])
        one.named.known(batches, {named.id for named in note.batches(one.number)})
        if batches and not is_known:
            if is_new:
                self._journal.adopt(batches, now=self._clock.wall())
            self._heirs.adopt(batches)

    def forget(self, one: Partition) -> None:
        self._journal.named.pop(one.number, None)

    def start_of(self, one: Partition, owner: str) -> Start | None:
        """What is to be committed of it. None: what was told before has no room any more, so that what is
        committed stays as it is."""
        start = one.to_commit()
        if one.named is None:
            return start._replace(note=owner)
        settled = one.acks.settled_beyond()
        one.named.done([(0, place_of(start.offset)), *settled])
        one.skips = [span for span in one.skips if span.last > start.offset]
        one.leaders.forget(start.offset)
        spans = [
            span for begin, end in settled for span in one.leaders.split(*map(sequence_of, (begin, end)))
        ]
        written = write_note(owner, one.named, spans, one.skips, self.max_bytes)
        return start._replace(note=written[0], announced=written[1]) if written else None

    def refused(self) -> None:
        """A broker keeps shorter notes."""
        self.max_bytes //= 2
        self._warn(
            "the brokers refuse so much metadata with an offset (offset.metadata.max.bytes): it has"
            f" {self.max_bytes} bytes at most now, and batches that have no room there may be delivered twice"
            " when a partition moves"
        )

    def _count(self, batches: int) -> None:
        self._counts.unnamed += batches
