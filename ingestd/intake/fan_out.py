"""Fans a replay's events out: each sink gets those that its pattern matches. Used by ``replay_intake.py``.

A sink that lags behind the fastest may hold back so many bytes before the intake waits for it.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence, Set
from functools import partial

import msgspec

from ingestd.core.chunk import Batch, Chunk, Keeper
from ingestd.core.clock import Clock
from ingestd.core.reasons import Reason
from ingestd.core.receipt import Digests, FanOutReceipt, Positions
from ingestd.core.sequences import pick
from ingestd.core.token_bucket import TokenBucket
from ingestd.delivery.recorder import FailedEvent, Outcomes
from ingestd.delivery.sink_runner import SinkRunner
from ingestd.intake.common_batches import CommonBatches, common_batches
from ingestd.intake.processed_events import ProcessedEvents
from ingestd.intake.recovery import RecoveredChunk, Recovery
from ingestd.intake.transforming import transform
from ingestd.processing.routes import RoutedChunk, Routes
from ingestd.recording.event_recorder import EventRecorder
from ingestd.store.journal import DISMISSED, EVERYWHERE, Journal

_NOTHING = RecoveredChunk(frozenset(), frozenset(), [])
_GETS_ON_S = 0.1
_IDLE_SHARE, _MOST_IDLE_S = 0.05, 0.05
"""A full lane whose API took something so lately is waited for while the others have something to send, and
for such a share of the time while one of them has not: so much at once. Else it would stay as far behind as
it may be, though it is no slower; what lanes in step send is in memory once, and in the processor's cache."""


class RecoveredPositions(msgspec.Struct, frozen=True):
    """What earlier processes knew of a chunk (positions). ``dismissed``: events that went to no sink;
    ``resolved``: at all sinks; ``claimed``: those whose keys ``batches`` have claimed already. ``by_sink``:
    what each sink knows besides."""

    dismissed: Set[int] = frozenset()
    resolved: Set[int] = frozenset()
    claimed: Set[int] = frozenset()
    batches: Sequence[tuple[SinkRunner, Batch]] = ()
    by_sink: Mapping[str, RecoveredChunk] = msgspec.field(default_factory=dict)


_UNKNOWN = RecoveredPositions()


class FanOut:
    """``recover`` what is known of a chunk, then ``dispatch`` what is left of it; ``room`` waits while the
    lanes are full.

    ``processed``: events that an earlier process knew to be resolved, EVERYWHERE or DISMISSED.
    """

    def __init__(
        self,
        sinks: Sequence[SinkRunner],
        routes: Routes,
        recoveries: Mapping[str, Recovery],
        processed: Mapping[str, ProcessedEvents],
        *,
        recorder: EventRecorder,
        journal: Journal,
        clock: Clock,
        max_pending_bytes: int,
    ) -> None:
        self._max_pending_bytes = max_pending_bytes
        self._sinks = sinks
        self._routes = routes if routes.chooses else None
        self._recoveries = recoveries
        self._processed = processed
        self._to_recover = any(map(bool, (*recoveries.values(), *processed.values())))
        self._recorder = recorder
        self._journal = journal
        self._clock = clock
        self._idle_time = TokenBucket(_IDLE_SHARE, _MOST_IDLE_S, clock.monotonic())
        self._news = asyncio.Event()
        for sink in sinks:
            sink.lane.rooms.append(self._news)
        self._stopped = False
        self._common = common_batches([sink for sink in sinks if len(sinks) > 1 and sink.name in routes.open])

    def looks(self) -> None:
        """Recoveries know more now."""
        self._to_recover = True

    @property
    def max_event_bytes(self) -> int:
        """The longest event that fits a request of at least one sink; the others dead-letter it."""
        return max(sink.batcher.max_event_bytes for sink in self._sinks)

    @property
    def deadline(self) -> float | None:
        """When the first batch is due by age."""
        batchers = [*(sink.batcher for sink in self._sinks), *filter(None, (self._common,))]
        return min((due for one in batchers if (due := one.deadline) is not None), default=None)

    def incomplete(self, keeper: Keeper) -> bool:
        """A sink was lost: what is read now will be read again, and the position stays before it."""
        return keeper is Keeper.SOURCE and any(sink.lost for sink in self._sinks)

    # --- one chunk ---

    def recover(self, chunk: Chunk) -> RecoveredPositions:
        """What an earlier process knew of a chunk that is read again."""
        if not self._to_recover:
            return _UNKNOWN
        dismissed = self._processed[DISMISSED].of(chunk)
        resolved: Set[int] = self._processed[EVERYWHERE].of(chunk)
        claimed = set[int]()
        batches: list[tuple[SinkRunner, Batch]] = []
        by_sink: dict[str, RecoveredChunk] = {}
        for sink in self._sinks:
            recovery = self._recoveries[sink.name]
            if found := recovery.look(chunk):
                by_sink[sink.name] = found
                batches += [(sink, batch) for batch in found.batches]
                if recovery.claims_keys:
                    resolved, claimed = resolved | found.settled, claimed | found.in_batches
                dismissed -= found.settled | found.in_batches  # it was a copy of itself, of another chunk
        dismissed -= resolved
        chunk.dismissed.update(dismissed)
        return RecoveredPositions(dismissed, resolved, claimed, batches, by_sink)

    def dispatch(
        self,
        chunk: Chunk,
        events: Sequence[bytes],
        digests: Digests,
        positions: Positions,
        recovered: RecoveredPositions = _UNKNOWN,
    ) -> None:
        """Events of the chunk, with their keys and places in it, that are on their way now."""
        for name, found in recovered.by_sink.items():
            if found.settled:  # where a sink is alone, they are resolved, and none of these
                there = ((at, key) for at, key in zip(positions, digests, strict=True) if at in found.settled)
                if keys_there := {key: at for at, key in there if key}:
                    chunk.settled_keys[name] = keys_there
        routed, unmatched = self._routes.route(events) if self._routes else self._to_all(events)
        parts = {name: _pick(chosen, events, digests, positions) for name, chosen in routed.items()}
        sinks = [sink for sink in self._sinks if not sink.lost or chunk.keeper is Keeper.JOURNAL]
        if len(self._sinks) > 1:
            places = {name: part[2] for name, part in parts.items()}
            matched = len(events) - len(unmatched)
            self._share(chunk, digests, positions, places, sinks, matched, recovered.resolved)
        if unmatched:
            self._unmatched(chunk, *_pick(unmatched, events, digests, positions)[1:])
        wanted = []
        for sink in sinks:
            mine, keys, at = parts[sink.name]
            found = recovered.by_sink.get(sink.name, _NOTHING)
            if found.settled or found.in_batches:
                known = found.settled | found.in_batches
                left = [index for index, place in enumerate(at) if place not in known]
                mine, keys, at = _pick(left, mine, keys, at)
            expected = len(mine) + len(found.in_batches)
            sink.recorder.expect(chunk, expected)
            if mine:
                wanted.append((sink, mine, keys, at))
        together: Sequence[SinkRunner] = ()
        if self._common and wanted:
            takes_all = [sink for sink, mine, _, _ in wanted if mine is events]
            together = self._batch_together(takes_all, chunk, events, digests, positions)
        for sink, mine, keys, at in wanted:
            if sink not in together:
                self._batch(sink, chunk, mine, keys, at)

    def _to_all(self, events: Sequence[bytes]) -> RoutedChunk:
        return RoutedChunk(dict.fromkeys((sink.name for sink in self._sinks), range(len(events))), [])

    def _share(
        self,
        chunk: Chunk,
        digests: Digests,
        positions: Positions,
        routed: Mapping[str, Positions],
        sinks: Sequence[SinkRunner],
        matched: int,
        resolved: Set[int],
    ) -> None:
        """Gives the chunk a receipt that is settled when all these sinks have resolved their part of it."""
        size_bytes = chunk.size_bytes
        for sink in sinks:
            sink.pending_bytes += size_bytes
        receipt = chunk.receipt = FanOutReceipt(
            chunk.receipt,
            routed,
            events=matched,
            sinks=len(sinks),
            digests=digests,
            positions=positions,
            resolved=resolved,
            sink_done=partial(self._sink_done, size_bytes),
            incomplete=len(sinks) < len(self._sinks),
        )
        self._recorder.unconfirmed.adopt(receipt, chunk, positions)

    def _unmatched(self, chunk: Chunk, digests: Sequence[bytes | None], positions: Positions) -> None:
        """Events that go nowhere are resolved: a copy of one is a duplicate."""
        now, safe = self._clock.wall(), [digest for digest in digests if digest]
        letters = self._recorder.resolve_keys(safe, ())
        self._journal.safe(safe, letters, now=now)
        self._recorder.known_elsewhere(chunk, safe)
        self._journal.processed(EVERYWHERE, chunk, positions, now=now)
        self._recorder.unmatched(chunk, len(digests))

    def _batch(
        self,
        sink: SinkRunner,
        chunk: Chunk,
        events: Sequence[bytes],
        digests: Digests,
        positions: Positions,
    ) -> None:
        if sink.transforms:
            events, digests, positions = transform(sink.transforms, sink, chunk, events, digests, positions)
            if not events:
                return
        sizes, now = sink.sink.sizes(events), self._clock.monotonic()
        if full := list(sink.batcher.add(chunk, events, digests, positions, now, sizes=sizes)):
            self._hand_over(sink, full)

    def _batch_together(
        self,
        wanted: Sequence[SinkRunner],
        chunk: Chunk,
        events: Sequence[bytes],
        digests: Digests,
        positions: Positions,
    ) -> Sequence[SinkRunner]:
        """These sinks take all of the events. Gives those for which they are in batches now; what was batched
        before goes before them."""
        common = self._common
        if common and common.serve and all(sink in wanted for sink in common.sinks):
            for sink in common.sinks:
                self._flush_own(sink)
            now = self._clock.monotonic()
            self._hand_over_all(common, common.add(chunk, events, digests, positions, now))
            return common.sinks
        self._flush_common()
        return ()

    def _hand_over_all(self, common: CommonBatches, batches: Sequence[list[Batch]]) -> None:
        for sink, mine in zip(common.sinks, batches, strict=True):
            if mine:
                self._hand_over(sink, mine)

    def _hand_over(self, sink: SinkRunner, batches: list[Batch]) -> None:
        if not sink.lost:
            sink.lane.add(batches)
            return
        for batch in batches:
            if batch.segments[0].chunk.keeper is Keeper.JOURNAL:  # it is here or nowhere
                dead_letter(
                    sink, batch, "the sink was given up in this run, and its events cannot be read again"
                )

    # --- the way to the lanes ---

    def flush(self) -> None:
        """What the batchers hold, whatever its size."""
        for sink in self._sinks:
            self._flush(sink)

    def flush_due(self, now: float) -> None:
        for sink in self._sinks:
            self._flush(sink, due=now)

    def _flush(self, sink: SinkRunner, due: float = math.inf) -> None:
        self._flush_common(due)
        self._flush_own(sink, due)

    def _flush_common(self, due: float = math.inf) -> None:
        common = self._common
        if common and (deadline := common.deadline) is not None and due >= deadline:
            self._hand_over_all(common, common.flush())

    def _flush_own(self, sink: SinkRunner, due: float = math.inf) -> None:
        while (deadline := sink.batcher.deadline) is not None and due >= deadline:
            self._hand_over(sink, [sink.batcher.flush()])

    async def room(self) -> None:
        """Wait while all lanes are full, or one lags too far behind; and a while for one that gets on."""
        while sinks := [] if self._stopped else [sink for sink in self._sinks if not sink.lost]:
            self._news.clear()
            least = min(sink.pending_bytes for sink in sinks)
            if any(sink.pending_bytes > max(least, self._max_pending_bytes) for sink in sinks):
                for sink in sinks:
                    if sink.lane.idle:  # what is to be resolved is not on its way yet
                        self._flush(sink)
                await self._news.wait()
            elif not (full := [sink for sink in sinks if sink.lane.full and not sink.lane.draining]):
                return
            elif len(full) == len(sinks):
                await self._news.wait()
            elif not await self._wait_for(full, [sink for sink in sinks if sink not in full]):
                return

    async def _wait_for(self, full: Sequence[SinkRunner], others: Sequence[SinkRunner]) -> bool:
        """Whether it has waited for news of lanes that fall behind the others."""
        now, timer = self._clock.monotonic(), None
        if not any(now - sink.lane.last_success < _GETS_ON_S for sink in full):
            return False
        idle = not all(sink.lane.queued for sink in others)
        if idle:
            self._idle_time.fill(now)
            if self._idle_time.tokens <= 0.001:  # a timer may be early
                return False
            timer = self._clock.call_later(self._idle_time.tokens, self._news.set)
        await self._news.wait()
        if timer is not None:
            timer.cancel()
            self._idle_time.take(ended := self._clock.monotonic(), ended - now)
        return True

    def _sink_done(self, size_bytes: int, name: str) -> None:
        for sink in self._sinks:
            if sink.name == name:
                sink.pending_bytes -= size_bytes
        self._news.set()

    def wake(self) -> None:
        self._news.set()

    def stop(self) -> None:
        self._stopped = True
        self._news.set()


def dead_letter(sink: SinkRunner, batch: Batch, detail: str) -> None:
    """Events that cannot be read again, and will not be sent in this run."""
    failed = [FailedEvent(index, Reason.INTERRUPTED, detail) for index in range(len(batch))]
    sink.recorder.resolve(batch, Outcomes(failed=failed))


def _pick(
    chosen: Positions, events: Sequence[bytes], digests: Digests, positions: Positions
) -> tuple[Sequence[bytes], Digests, Positions]:
    """Those at the indices ``chosen`` (ascending) of three parallel sequences."""
    if len(chosen) == len(events):
        return events, digests, positions
    return pick(events, chosen), pick(digests, chosen), pick(positions, chosen)
