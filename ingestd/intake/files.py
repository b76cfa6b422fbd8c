"""The intake: each chunk through dedup window, validation and batcher, into the lane.

``admit`` is synchronous and runs once per chunk; nothing in it is per event but the loops inside
the stages. The one task that calls it also owns the batcher's deadline.
"""

from collections.abc import Callable
from dataclasses import dataclass

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ingestd.bookkeeping import Bookkeeping
from ingestd.core.batch import Batch
from ingestd.core.chunk import Chunk, Positions
from ingestd.core.clock import Clock
from ingestd.core.reasons import Reason
from ingestd.delivery.lane import Lane
from ingestd.recovery import Recovery
from ingestd.sources.jsonl import JsonSource
from ingestd.sources.progress import Progress
from ingestd.stages.batcher import Batcher
from ingestd.stages.dedup import Follower, Window
from ingestd.stages.validate import Validator
from ingestd.store.journal import Journal

MAX_COPY_BYTES = 32 * 1024 * 1024
"""Copies of events on their way that may wait for their fate; past it the intake waits."""

_LOOK_AGAIN_S = 0.5
"""How often a silent source is left to see whether the intake was stopped."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The pure stages, and whom they report to."""

    window: Window
    validator: Validator
    batcher: Batcher
    book: Bookkeeping
    lane: Lane


class Intake:
    """Feeds one run's sources into its lane."""

    def __init__(
        self,
        stages: Stages,
        *,
        recovery: Recovery,
        journal: Journal,
        clock: Clock,
        warn: Callable[[str], None],
    ) -> None:
        self._window = stages.window
        self._validator = stages.validator
        self._batcher = stages.batcher
        self._book = stages.book
        self._lane = stages.lane
        self._recovery = recovery
        self._journal = journal
        self._clock = clock
        self._warn = warn
        self._copies_settled = anyio.Event()
        self._book.on_copies_settled = lambda: self._copies_settled.set()
        self._source: JsonSource | None = None
        self.stopped = False

    async def feed(self, source: JsonSource, progress: Progress, *, start: int, line: int) -> None:
        """All of one source, to its end or until ``stop``. Its last batch may stay open for the next."""
        send, receive = anyio.create_memory_object_stream[Chunk](2)
        self._source = source
        async with anyio.create_task_group() as tasks, receive:
            tasks.start_soon(self._read, source, start, line, send)
            while (chunk := await self._next(receive)) is not None:
                await self._lane.submit(self.admit(chunk, progress))
                await self._room_for_copies()
            source.stop()
            if not source.rereadable:  # what was read of it is here or nowhere
                async for chunk in receive:
                    await self._lane.submit(self.admit(chunk, progress))

    def resume_kept(self) -> None:
        """Batches of an earlier process whose source is gone: their events were kept."""
        for batch in self._recovery.kept_batches():
            self._book.accepted(len(batch))
            self._resume(batch)
        self._say_changed()

    async def finish_recovery(self) -> None:
        """At the end of the input: what an earlier process had frozen and could not be found whole."""
        for batch in self._recovery.incomplete():
            self._resume(batch)
        self._say_changed()

    def _resume(self, batch: Batch) -> None:
        self._window.reclaim(digest for digest in batch.digests if digest)
        self._lane.resubmit(batch)

    def _say_changed(self) -> None:
        if changed := self._recovery.take_changed():
            self._journal.drop(changed)
            self._warn(
                f"{len(changed)} unfinished batches of an earlier run cannot be sent as they were: their"
                " source has changed; what is there now is sent under new keys"
            )

    async def flush(self) -> None:
        """Send what the batcher holds, whatever its size."""
        if len(self._batcher):
            await self._lane.submit([self._batcher.flush()])

    def stop(self) -> None:
        """Take no more chunks; what was read of a pipe still goes on."""
        self.stopped = True
        if self._source:
            self._source.stop()
        self._copies_settled.set()

    async def _read(
        self, source: JsonSource, start: int, line: int, send: MemoryObjectSendStream[Chunk]
    ) -> None:
        async with send:
            try:
                async for chunk in source.chunks(start, line):
                    await send.send(chunk)
            except anyio.BrokenResourceError:
                return  # the intake was stopped and wants no more of a file

    async def _next(self, receive: MemoryObjectReceiveStream[Chunk]) -> Chunk | None:
        """The next chunk; flushes by age while it waits. None at the end, and when stopped."""
        while not self.stopped:
            deadline = self._batcher.deadline
            if deadline is not None and self._clock.monotonic() >= deadline:
                await self.flush()
                continue
            try:
                return receive.receive_nowait()  # the common case, without a timer
            except anyio.WouldBlock:
                pass
            except anyio.EndOfStream:
                return None
            wait_s = _LOOK_AGAIN_S if deadline is None else deadline - self._clock.monotonic()
            with anyio.move_on_after(min(max(wait_s, 0), _LOOK_AGAIN_S)):
                try:
                    return await receive.receive()
                except anyio.EndOfStream:
                    return None
        return None

    async def _room_for_copies(self) -> None:
        while self._window.follower_bytes > MAX_COPY_BYTES and not self.stopped:
            self._copies_settled = anyio.Event()
            await self.flush()
            await self._copies_settled.wait()

    # --- one chunk ---

    def admit(self, chunk: Chunk, progress: Progress) -> list[Batch]:
        """Take over a chunk: every event of it now has its end, or is in a batch, or waits as a copy.

        Gives the batches that are full.
        """
        found = self._recovery.look(chunk) if self._recovery.pending else None
        settled = found.settled if found else set[int]()
        progress.opened(chunk, len(chunk.events) - len(settled), self._clock.monotonic())
        self._book.accepted(len(chunk.events) - len(settled))
        events, positions = chunk.events, range(len(chunk.events))
        chosen: Positions = positions
        if found:
            for batch in found.batches:
                self._resume(batch)
            self._say_changed()
            known = settled | found.taken
            chosen = [position for position in positions if position not in known]
            events = [chunk.events[position] for position in chosen]
        return self._sift(chunk, events, chosen) if events else []

    def _sift(self, chunk: Chunk, events: list[bytes], positions: Positions) -> list[Batch]:
        """Window and validation; ``positions`` are those of ``events`` in the chunk."""
        now = self._clock.monotonic()
        checked = self._validator.check(events)
        digests, duplicates, copies = self._window.claim(checked.keys, now)
        for index, digest in copies:
            self._window.follow(digest, Follower(chunk, positions[index]))
        gone = {*duplicates, *(index for index, _ in copies)}
        refused: dict[int, tuple[Reason, str]] = {}
        for index, refusal in checked.refused.items():
            if (length := chunk.too_long.get(positions[index])) is not None:
                detail = (
                    f"{length} bytes long, the limit is less; only the first {len(events[index])} are kept"
                )
                refused[positions[index]] = (Reason.LINE_TOO_LONG, detail)
            elif self._is_known(checked.refused_keys.get(index)):
                duplicates.append(index)
            else:
                detail = "; ".join(
                    f"{e.field}: {e.message}" if e.field else e.message for e in refusal.errors
                )
                refused[positions[index]] = (refusal.reason, detail)
            gone.add(index)
        gone |= self._too_large(chunk, events, digests, positions, refused, gone)
        self._book.duplicates(chunk, len(duplicates))
        if refused:
            self._book.rejected(chunk, refused)
        if gone:
            events, digests, positions = list(events), list(digests), list(positions)
            for index in sorted(gone, reverse=True):  # few: cheaper than choosing those that stay
                del events[index], digests[index], positions[index]
        return list(self._batcher.add(chunk, events, digests, positions, now)) if events else []

    def _is_known(self, key: str | None) -> bool:
        """An invalid copy of an event that is safe is a duplicate: the window comes first."""
        return bool(key) and self._window.state_of(key or "") == "known"

    def _too_large(
        self,
        chunk: Chunk,
        events: list[bytes],
        digests: list[bytes | None],
        positions: Positions,
        refused: dict[int, tuple[Reason, str]],
        gone: set[int],
    ) -> set[int]:
        """Events that no request has room for; their keys are free again."""
        limit = self._batcher.max_event_bytes
        if chunk.end - chunk.start <= limit:
            return set()
        found = {i for i, event in enumerate(events) if len(event) > limit and i not in gone}
        for index in found:
            detail = f"{len(events[index])} bytes; a request has room for {limit}"
            refused[positions[index]] = (Reason.TOO_LARGE, detail)
            if digest := digests[index]:  # claimed just now: its copies are of this chunk too
                for copy in self._window.release([digest]):
                    refused[copy.position] = refused[positions[index]]
        return found
