"""From the chunks of a share to its lane: what is settled is passed over, copies are told apart, and batches
that were on their way go first.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec

from ingestd.cluster import chunk_message
from ingestd.cluster.chunk_message import BATCH, ONLY
from ingestd.cluster.names import Share
from ingestd.cluster.share_consumer import ShareDelivery
from ingestd.cluster.share_state import SOURCE, ShareState
from ingestd.cluster.sink_parts import SinkParts
from ingestd.cluster.stream_journal import StreamJournal
from ingestd.cluster.stream_window import StreamWindow
from ingestd.core.chunk import Batch, Chunk, Segment
from ingestd.core.reasons import Reason
from ingestd.core.receipt import OrderedAcks, Positions
from ingestd.core.sequences import pick
from ingestd.delivery.lane import Lane
from ingestd.delivery.queues import Batcher
from ingestd.recording.event_recorder import EventRecorder
from ingestd.recording.sink_recorder import SinkRecorder


class ShareFeed:
    """``admit`` chunks in their order. ``recovering``: batches of an earlier owner are not whole yet, and
    nothing new goes out before they are."""

    def __init__(
        self,
        share: Share,
        parts: SinkParts,
        state: ShareState,
        *,
        window: StreamWindow,
        journal: StreamJournal,
        events: EventRecorder,
        recorder: SinkRecorder,
        lane: Lane,
        batcher: Batcher,
    ) -> None:
        self._share = share
        self._parts = parts
        self._state = state
        self._clock = parts.clock
        self._window = window
        self._journal = journal
        self._events = events
        self._recorder = recorder
        self._lane = lane
        self._batcher = batcher
        self._acks = OrderedAcks[int](journal.moved)
        self._recovery = parts.make_recovery(state.open, lane, window)
        self._held_back: list[tuple[Chunk, set[int], Mapping[str, str]]] = []
        self._recovered: list[Batch] = []
        self.recovering = bool(state.open)

    @property
    def oldest_since(self) -> float | None:
        """When the oldest chunk was read that is not settled."""
        return self._acks.oldest_since

    def admit(self, delivery: ShareDelivery) -> None:
        """Its batches go to the lane, as far as they are full."""
        self._window.upto = max(self._window.upto, delivery.at)
        self._pass_deleted(delivery.sequence)
        try:
            chunk = chunk_message.decode(
                delivery.data, delivery.headers, sequence=delivery.sequence, source=SOURCE, at=delivery.at
            )
        except (ValueError, msgspec.DecodeError) as error:
            self._refuse(delivery, str(error))
            return
        settled = self._state.settled.pop(chunk.start, set())
        self._journal.progress.read(chunk.start, len(chunk.events), settled=len(settled))
        chunk.receipt = self._acks.receipt(len(chunk.events), chunk.start, self._clock.monotonic())
        self._events.accepted(len(chunk.events) - len(settled))
        chunk.receipt.settle(len(settled))
        if self.recovering:
            if found := self._recovery.look(chunk):
                settled |= found.in_batches
                self._recovered += found.batches
            self._held_back.append((chunk, settled, delivery.headers))
            if chunk.start >= self._state.last_open:
                self.end_recovery()
            return
        self._claim(chunk, settled, delivery.headers)

    def _pass_deleted(self, sequence: float) -> None:
        """Chunks before this one that were settled in part, and were deleted since: what they had is over."""
        settled = self._state.settled
        for chunk in sorted(one for one in settled if one < sequence):
            self._journal.passed(chunk, len(settled.pop(chunk)))

    @property
    def waits_for_chunks(self) -> bool:
        """Some that the log speaks of did not come."""
        return self.recovering or bool(self._state.settled)

    def nothing_follows(self) -> None:
        """All that the stream holds has come: the others were deleted."""
        self._pass_deleted(math.inf)
        if self.recovering:
            self.end_recovery()

    def end_recovery(self) -> None:
        """Batches that were on their way go first, as they were, in the order of their first events: of one
        that was cut there may be parts that hold events of one key."""
        batches = self._recovered + self._recovery.incomplete()
        batches.sort(key=lambda batch: (batch.segments[0].chunk.start, batch.segments[0].positions[0]))
        self._recorder.started(sum(map(len, batches)))
        for batch in batches:
            self._lane.resubmit(batch)
        ids = {batch.id for batch in batches}
        gone = [batch for batch in self._state.open if batch.id not in ids]
        if gone:
            self._journal.drop([batch.id for batch in gone])
            # Nobody would ever settle the keys of events that are not there any more: their copies go.
            self._window.release([key for batch in gone for key in batch.keys])
            self._window.reclaim(digest for batch in batches for digest in batch.digests if digest)
            self._parts.warn(
                f"{self._share}: {len(gone)} unfinished batches cannot be rebuilt: their events are sent"
                " under new idempotency keys"
            )
        self.recovering = False
        held, self._held_back = self._held_back, []
        for chunk, known, headers in held:
            self._claim(chunk, known, headers)

    def _claim(self, chunk: Chunk, known: set[int], headers: Mapping[str, str]) -> None:
        """What of a chunk is for this sink, and no copy, goes on. ``known``: positions that are resolved, or
        in a batch."""
        only = headers.get(ONLY, "")
        now, everything = self._clock.wall(), range(len(chunk.events))
        mine: Positions = everything if only in ("", self._share.sink) else ()
        if mine and not only:
            mine = self._parts.matching(chunk.events)
        if len(mine) < len(everything):
            matched = {*mine}
            unmatched = [at for at in everything if at not in matched and at not in known]
            if unmatched:
                self._events.unmatched(chunk, len(unmatched))
                self._journal.dismissed(chunk, unmatched, now=now)
        if known:
            mine = [at for at in mine if at not in known]
        if not mine:
            return
        if only:
            self._send_again(chunk, mine, headers.get(BATCH, ""))
            return
        new, duplicates, copies = self._window.take(chunk.digests, mine)
        if duplicates:
            self._events.duplicates(chunk, len(duplicates))
            self._parts.show_duplicates(chunk, duplicates)
            self._journal.dismissed(chunk, duplicates, now=now)
        if copies:
            self._window.follow(chunk, copies)
        if new:
            self._batch(chunk, new)

    def _batch(self, chunk: Chunk, positions: Sequence[int]) -> None:
        events, digests = chunk.events, chunk.digests
        if len(positions) < len(events):
            events, digests = pick(events, positions), pick(digests, positions)
        else:
            positions = range(len(events))
        self._recorder.started(len(positions))
        sizes, now = self._parts.sink.sizes(events), self._clock.monotonic()
        if full := list(self._batcher.add(chunk, events, digests, positions, now, sizes=sizes)):
            self._lane.add(full)

    def _send_again(self, chunk: Chunk, positions: Positions, batch_id: str) -> None:
        """Dead letters that somebody sends again: they pass the window by. Those of one request that may have
        arrived are that request, under its key."""
        if not batch_id or len(positions) < len(chunk.events):
            again = [at for at in positions if self._is_known(chunk.digests[at])]
            if again:  # their producers have sent them again meanwhile
                self._events.duplicates(chunk, len(again))
                self._parts.show_duplicates(chunk, again)
                self._journal.dismissed(chunk, again, now=self._clock.wall())
            if left := [at for at in positions if at not in again]:
                self._window.reclaim(digest for digest in pick(chunk.digests, left) if digest)
                self._batch(chunk, left)
            return
        self._window.reclaim(digest for digest in pick(chunk.digests, positions) if digest)
        batch = Batch(
            chunk.events,
            chunk.digests,
            [Segment(chunk, positions)],
            self._lane.new_id,
            batch_id=batch_id,
        )
        batch.ambiguous = True
        self._recorder.started(len(positions))
        self._lane.resubmit(batch)

    def _is_known(self, digest: bytes | None) -> bool:
        return digest is not None and self._window.state_of_digest(digest) == "known"

    def _refuse(self, delivery: ShareDelivery, why: str) -> None:
        """A message that is no chunk: nobody but edges should write there."""
        sequence = delivery.sequence
        chunk = Chunk([delivery.data], source=SOURCE, start=sequence, end=sequence + 1, line=1)
        chunk.receipt = self._acks.receipt(1, sequence, self._clock.monotonic())
        settled = self._state.settled.pop(sequence, None)
        self._journal.progress.read(sequence, 1, settled=1 if settled else 0)
        if settled:
            chunk.receipt.settle(1)
            return
        self._events.accepted(1)
        self._events.rejected(chunk, {0: (Reason.UNPARSABLE, f"it is no chunk: {why}")})
        self._journal.dismissed(chunk, [0], now=self._clock.wall())
