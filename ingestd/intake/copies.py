"""Copies of events on their way, in a replay: they wait for the fate of the event they are copies of.

Also of events that an earlier process had on its way: the keys of its batches are claimed before anything is
read, though a batch is whole again only when the last of its chunks has been. Used by ``replay_intake.py``.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from ingestd.core.chunk import Chunk
from ingestd.core.clock import Clock
from ingestd.intake.fan_out import FanOut
from ingestd.intake.recovery import Recovery
from ingestd.intake.stages import Stages
from ingestd.processing.dedup import WaitingCopy
from ingestd.store.journal import Journal


class CopyTracker:
    """``room`` waits while too many wait. Where there are several branches the chunks claim the keys: each is
    read from its first event that is not settled."""

    def __init__(
        self,
        stages: Stages,
        fan: FanOut,
        recoveries: Mapping[str, Recovery],
        *,
        journal: Journal,
        clock: Clock,
        max_bytes: int,
    ) -> None:
        self._max_bytes = max_bytes
        self._window, self._validator, self._book = stages.window, stages.validator, stages.book
        self._fan = fan
        self._only = stages.branches[0] if len(stages.branches) == 1 else None
        self._recovery = recoveries[self._only.name] if self._only else None
        self._journal = journal
        self._clock = clock
        self._stopped = False
        if self._recovery:
            self._window.reclaim(self._recovery.awaited)

    # --- room ---

    @property
    def too_many(self) -> bool:
        return self._window.follower_bytes > self._max_bytes

    async def room(self, flush: Callable[[], Awaitable[None]]) -> None:
        """Wait while too many copies wait for what is on its way. What they wait for may also be still to be
        read: then reading goes on."""
        awaited = self._recovery.awaited if self._recovery else frozenset[bytes]()
        while self.too_many and not (
            self._fan.incomplete or self._stopped or self._window.waits_only_for(awaited)
        ):
            self._book.copies_resolved.clear()
            await flush()
            await self._book.copies_resolved.wait()

    def wake(self) -> None:
        self._book.copies_resolved.set()

    def stop(self) -> None:
        self._stopped = True
        self._book.copies_resolved.set()

    # --- what an earlier process had on its way, and is not there any more ---

    def free_stale(self) -> None:
        """Events of a batch are not what they were: copies of those that are gone go in their place."""
        if self._recovery and (stale := self._recovery.take_stale()):
            self._send(self._window.release(stale))

    def give_up_lost(self) -> None:
        """At the end of the input. A batch that no copy waits for stays known: its file may come back."""
        for batch_id, keys in self._recovery.lost().items() if self._recovery else ():
            if copies := self._window.release(keys):
                self._journal.drop([batch_id])
                self._send(copies)

    def _send(self, copies: Sequence[WaitingCopy]) -> None:
        by_chunk: dict[Chunk, list[int]] = {}
        for chunk, position in sorted(
            copies, key=lambda one: (one.chunk.source, one.chunk.start, one.position)
        ):
            by_chunk.setdefault(chunk, []).append(position)
        for chunk, positions in by_chunk.items():
            self._send_of(chunk, positions)

    def _send_of(self, chunk: Chunk, positions: list[int]) -> None:
        assert self._only
        now = self._clock.monotonic()
        keys = self._validator.check([chunk.events[position] for position in positions]).keys
        digests, duplicates, copies = self._window.claim(keys, now)
        for index, digest in copies:
            self._window.follow(digest, WaitingCopy(chunk, positions[index]))
        if duplicates:
            ended = [positions[index] for index in duplicates]
            self._book.duplicates(chunk, len(ended))
            self._journal.dismissed(chunk, ended, now=self._clock.wall())
        gone = {*duplicates, *(index for index, _ in copies)}
        left = [index for index in range(len(positions)) if index not in gone]
        self._fan.take_alone(
            self._only,
            chunk,
            [chunk.events[positions[index]] for index in left],
            [digests[index] for index in left],
            [positions[index] for index in left],
            now,
        )
