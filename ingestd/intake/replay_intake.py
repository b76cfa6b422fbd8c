"""The intake of a replay: each chunk through dedup window, validation and routes to the sinks.

``admit`` is synchronous and runs once per chunk; nothing in it is per event but the loops inside
the stages.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ingestd.core.bounds import DEFAULT_BOUNDS, Bounds
from ingestd.core.chunk import Batch, Chunk, Keeper
from ingestd.core.clock import Clock, Tasks
from ingestd.core.ledger import MaxRejected
from ingestd.core.reasons import Reason
from ingestd.core.receipt import Digests, Positions
from ingestd.core.sequences import longest, pick, positions_without, without
from ingestd.delivery.queues import flush_by_age
from ingestd.delivery.sink_runner import SinkRunner
from ingestd.intake.copies import CopyTracker
from ingestd.intake.fan_out import FanOut, RecoveredPositions
from ingestd.intake.part import Part
from ingestd.intake.processed_events import ProcessedEvents
from ingestd.intake.recovery import ALL, Recovery, Which
from ingestd.intake.stages import Stages
from ingestd.processing.validate import FirstEvents, ValidatedChunk
from ingestd.sources.source import Source
from ingestd.store.journal import Journal

if TYPE_CHECKING:
    from ingestd.core.errors import UserError

_READ_AHEAD = 2
"""Chunks that are read while others go on their way."""


class ReplayIntake:
    """Feeds one run's sources into its lanes. Keys of what an earlier process had on its way are claimed
    from the start. ``part``: what of them this process takes; None: all."""

    def __init__(
        self,
        stages: Stages,
        *,
        recoveries: Mapping[str, Recovery],
        processed: Mapping[str, ProcessedEvents],
        journal: Journal,
        clock: Clock,
        warn: Callable[[str], None],
        bounds: Bounds = DEFAULT_BOUNDS,
        max_rejected: str = "",
        part: Part | None = None,
    ) -> None:
        self._window = stages.window
        self._validator = stages.validator
        self._recorder = stages.recorder
        self._outboxes = stages.outboxes
        self._sinks = stages.sinks
        self._recoveries = recoveries
        self._processed = processed
        self._journal = journal
        self._clock = clock
        self._warn = warn
        self._part = part
        self.of_others = 0
        self._fan_out = FanOut(
            stages.sinks,
            stages.routes,
            recoveries,
            processed,
            recorder=stages.recorder,
            journal=journal,
            clock=clock,
            max_pending_bytes=bounds.pending_bytes,
        )
        self._copies = CopyTracker(
            stages, self._fan_out, recoveries, journal=journal, clock=clock, max_bytes=bounds.copy_bytes
        )
        self._source: Source | None = None
        self._begun = asyncio.Event()
        self._taking = True
        self._max_rejected = MaxRejected.parse(max_rejected) if max_rejected else None
        self._first: FirstEvents | None = None
        self.stopped = False
        self.error: UserError | None = None

    async def feed(self, source: Source, first: FirstEvents | None = None) -> None:
        """All of one source, to its end or until ``stop``. Its last batch may stay open for the next.

        ``error``: why it was ended early, where that is for what was rejected. ``first``: looks at its first
        events.
        """
        self._first = first
        read = asyncio.Queue[Chunk | None](_READ_AHEAD)
        self._source = source
        self._taking = True
        async with Tasks() as ageing:
            ageing.start_soon(flush_by_age, self._fan_out, self._begun, self._flush_due, self._clock)
            async with Tasks() as reading:
                reading.start_soon(self._read, source, read)
                while chunk := await read.get():
                    if self.stopped and source.keeper is Keeper.SOURCE:
                        break  # it is read again; what came of a pipe is here or nowhere
                    self.admit(chunk)
                    self._begun.set()
                    await self._fan_out.room()
                    if self._window.follower_count:
                        await self._copies.room(source.keeper, self.flush)
                source.stop()
                self._taking = False
                while not read.empty():  # who waits for room goes on, and ends
                    read.get_nowait()
            ageing.cancel()

    def resume_kept(self) -> None:
        """Batches of an earlier process whose source is gone: their events were kept."""
        for sink in self._sinks:
            for batch in self._recoveries[sink.name].kept_batches():
                self._recorder.accepted(len(batch))
                sink.recorder.started(len(batch))
                self._resume(sink, batch)
        self._report_changed()

    async def finish_recovery(self) -> None:
        """At the end of the input: what an earlier process had frozen and could not be found whole."""
        self._resume_incomplete()
        self._copies.give_up_lost()
        self._report_changed()

    def _resume_incomplete(self, which: Which = ALL) -> None:
        for sink in self._sinks:
            for batch in self._recoveries[sink.name].incomplete(which):
                self._resume(sink, batch)

    def _resume(self, sink: SinkRunner, batch: Batch) -> None:
        if self._recoveries[sink.name].claims_keys:
            self._window.reclaim(digest for digest in batch.digests if digest)
        sink.lane.resubmit(batch)
        self._copies.free_stale()

    def _report_changed(self, but: Collection[str] = ()) -> None:
        """``but``: of those a new owner of their source has others."""
        found = (batch for recovery in self._recoveries.values() for batch in recovery.take_changed())
        if changed := [batch for batch in found if batch not in but]:
            self._journal.drop(changed)
            self._warn_changed(len(changed))

    def _warn_changed(self, batches: int) -> None:
        self._warn(
            f"{batches} unfinished batches cannot be sent again as they were: the file, or the settings of a"
            " sink, have changed; what the file holds now is sent under new idempotency keys"
        )

    async def flush(self) -> None:
        """Send what the batchers hold, whatever its size."""
        self._fan_out.flush()
        await self._fan_out.room()

    def stop(self) -> None:
        """Take no more chunks; what was read of a pipe still goes on."""
        self.stopped = True
        if self._source:
            self._source.stop()
        self._copies.stop()
        self._fan_out.stop()

    def lose(self, sink: SinkRunner) -> None:
        """This run does without the sink: what was to go there stays with its file."""
        sink.lost = True
        self._fan_out.wake()
        self._copies.wake()

    async def _read(self, source: Source, read: asyncio.Queue[Chunk | None]) -> None:
        async for chunk, _ in source.chunks():
            await read.put(chunk)
            if not self._taking:
                return  # the intake was stopped, and the source keeps what it has
        await read.put(None)

    async def _flush_due(self) -> None:
        """A batch does not wait for more events than ``max_age`` allows, whatever its size."""
        self._fan_out.flush_due(self._clock.monotonic())
        await self._fan_out.room()

    # --- one chunk ---

    def admit(self, chunk: Chunk) -> None:
        """Take over a chunk: every event of it now is resolved, or is in a batch, or waits as a copy."""
        checked = self._check(chunk)
        if self._first and self._is_foreign(self._first, chunk, checked):
            return
        if self._part:
            before = len(chunk.events)
            checked = self._part.narrow(chunk, checked, self._validator.watch)
            self.of_others += before - len(chunk.events)
            if not chunk.events:
                return
        recovered = self._fan_out.recover(chunk)
        self._resume_found(recovered)
        self._take_over(chunk, checked, recovered)

    def _is_foreign(self, first: FirstEvents, chunk: Chunk, checked: ValidatedChunk) -> bool:
        """Whether the replay ends before this chunk. What comes of a pipe is kept all the same."""
        error = first.look(chunk, checked.refused)
        if first.known:
            self._first = None
        if error:
            self.error = error
            self.stop()
        return error is not None and chunk.keeper is Keeper.SOURCE

    def _resume_found(self, recovered: RecoveredPositions) -> None:
        for sink, batch in recovered.batches:
            self._resume(sink, batch)
        if recovered.batches:
            self._report_changed()

    def _take_over(self, chunk: Chunk, checked: ValidatedChunk, recovered: RecoveredPositions) -> None:
        before = len(recovered.resolved) + len(recovered.dismissed)
        self._recorder.accepted(len(chunk.events) - before)
        chunk.receipt.settle(before)
        events, positions = chunk.events, range(len(chunk.events))
        chosen: Positions = positions
        known = recovered.resolved | recovered.claimed
        if known or recovered.dismissed:
            if len(self._sinks) == 1:
                self._know_keys(chunk, checked, recovered)
            chosen = [p for p in positions if p not in known and p not in recovered.dismissed]
            events = pick(events, chosen)
            checked = checked.pick(chosen)
        digests: Digests = []
        ended: list[int] = []
        if events:
            events, digests, chosen, ended = self._sift(chunk, checked, events, chosen)
        if self._outboxes:
            self._add_accepted(chunk, sorted({*known, *chosen}) if events else sorted(known))
        self._fan_out.dispatch(chunk, events, digests, chosen, recovered)
        if ended:
            self._journal.dismissed(chunk, ended, now=self._clock.wall())

    def _know_keys(self, chunk: Chunk, checked: ValidatedChunk, recovered: RecoveredPositions) -> None:
        """The only sink there is has these events since a process with several sinks, of which others lacked
        them: then their keys were noted nowhere. A copy that comes later is none the less a copy."""
        for sink, found in recovered.by_sink.items():
            failed = self._recorder.unconfirmed.lost_offsets(chunk, sink)
            there = (p for p in found.settled if not failed or chunk.place(p)[0] not in failed)
            digests = self._window.digests(checked.keys[position] for position in there)
            if new := [one for one in digests if one and self._window.state_of_digest(one) == "new"]:
                self._recorder.resolve_keys(new, ())
                self._journal.safe(new, (), now=self._clock.wall())
            self._window.reclaim(
                filter(None, self._window.digests(checked.keys[p] for p in found.in_batches))
            )

    def _check(self, chunk: Chunk) -> ValidatedChunk:
        """Its events against the schema, counted once for their keys; a part is counted by itself."""
        checked = self._checked(chunk)
        if self._validator.watch and not self._part:
            checked.count_for(self._validator.watch)
        return checked

    def _checked(self, chunk: Chunk) -> ValidatedChunk:
        """What is not JSON may be several events; a broker's message is one, or what its source found."""
        accept = self._validator.accept
        keys = accept(chunk.events) if accept else None
        if keys is None or None in keys:
            checked = self._validator.check(chunk.events, keys, again=True)
        else:  # nearly always
            checked = ValidatedChunk(keys, {}, {})
        if chunk.about or chunk.unreadable:
            for index, why in chunk.unreadable.items():
                checked.refuse(index, why)
            return checked
        if not checked.refused or not (unparsable := checked.unparsable):
            return checked
        from ingestd.intake.broken_lines import cut_apart

        return cut_apart(chunk, checked, unparsable, self._validator)

    def _add_accepted(self, chunk: Chunk, accepted: Sequence[int]) -> None:
        for name, add in self._outboxes.items():
            before = self._processed[name].of(chunk)
            new = [position for position in accepted if position not in before]
            if work := add([chunk.events[position] for position in new]):
                now = self._clock.wall()
                self._journal.processed(name, chunk, sorted({*before, *new}), now=now, also=work)

    def _sift(
        self, chunk: Chunk, checked: ValidatedChunk, events: Sequence[bytes], positions: Positions
    ) -> tuple[Sequence[bytes], Digests, Positions, list[int]]:
        """Window and validation; ``positions`` are those of ``events`` in the chunk. Gives what is left, and
        the positions of what is resolved."""
        now = self._clock.monotonic()
        digests, duplicates, copies = self._window.claim(checked.keys, now)
        gone = {*duplicates, *[index for index, _ in copies]}
        # else they are read again
        if copies and not (self._fan_out.incomplete(chunk.keeper) and self._copies.too_many):
            self._window.follow(chunk, [(positions[index], digest) for index, digest in copies])
        refused: dict[int, tuple[Reason, str]] = {}
        known = self._window.known(checked.refused_keys) if checked.refused_keys else ()
        for index, refusal in checked.refused.items():
            if (position := positions[index]) in chunk.too_long:
                length, kept = chunk.too_long[position], len(events[index])
                detail = f"{length} bytes long, the limit is less; only the first {kept} are kept"
                refused[position] = (Reason.LINE_TOO_LONG, detail)
            elif index in known:
                # an invalid copy of an event that is safe is a duplicate: the window comes first
                duplicates.append(index)
            else:
                refused[position] = (refusal.reason, refusal.words)
        gone.update(checked.refused)
        gone |= self._too_large(chunk, events, digests, positions, refused, gone)
        self._recorder.duplicates(chunk, len(duplicates))
        ended = [*refused, *(positions[index] for index in duplicates)]
        if refused:
            self._recorder.rejected(chunk, refused)
            self._end_if_too_many()
        if gone:
            left_out = sorted(gone)
            events, digests = without(events, left_out), without(digests, left_out)
            positions = positions_without(positions, left_out)
        return events, digests, positions, ended

    def _end_if_too_many(self) -> None:
        limit, ledger = self._max_rejected, self._recorder.ledger
        if limit and not self.stopped and limit.exceeded_by(ledger, at_end=False):
            self.error = limit.error(ledger)
            self.stop()

    def _too_large(
        self,
        chunk: Chunk,
        events: Sequence[bytes],
        digests: Digests,
        positions: Positions,
        refused: dict[int, tuple[Reason, str]],
        gone: set[int],
    ) -> set[int]:
        """Events that no request has room for; their keys are free again."""
        limit = self._fan_out.max_event_bytes
        if chunk.size_bytes <= limit or longest(events) <= limit:
            return set()
        found = {i for i, event in enumerate(events) if len(event) > limit and i not in gone}
        for index in found:
            detail = f"{len(events[index])} bytes; a request has room for {limit}"
            refused[positions[index]] = (Reason.TOO_LARGE, detail)
            if digest := digests[index]:  # claimed just now: its copies are of this chunk too
                for copy in self._window.release([digest]):
                    refused[copy.position] = refused[positions[index]]
        return found
