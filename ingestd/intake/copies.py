"""Copies of events on their way, in a replay: they wait until the event they are copies of is resolved.

Also of events that an earlier process had on its way: the keys of its batches are claimed before anything is
read, though a batch is whole again only when the last of its chunks has been. Used by ``replay_intake.py``.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence, Set

from ingestd.core.chunk import Chunk, Keeper
from ingestd.core.clock import Clock
from ingestd.intake.fan_out import FanOut
from ingestd.intake.recovery import ALL, Recovery, Which
from ingestd.intake.stages import Stages
from ingestd.processing.claim import WaitingCopy
from ingestd.store.journal import Journal


class CopyTracker:
    """``room`` waits while too many wait. Keys that the batches of an earlier process had claimed are claimed
    from the start."""

    def __init__(
        self,
        stages: Stages,
        fan_out: FanOut,
        recoveries: Mapping[str, Recovery],
        *,
        journal: Journal,
        clock: Clock,
        max_bytes: int,
    ) -> None:
        self._max_bytes = max_bytes
        self._window, self._validator, self._recorder = stages.window, stages.validator, stages.recorder
        self._fan_out = fan_out
        self._recoveries = [*recoveries.values()]
        self._journal = journal
        self._clock = clock
        self._stopped = False
        for recovery in self._recoveries:
            self._window.reclaim(recovery.awaited)

    # --- room ---

    @property
    def _awaited(self) -> Set[bytes]:
        return set[bytes]().union(*(recovery.awaited for recovery in self._recoveries))

    @property
    def too_many(self) -> bool:
        return self._window.follower_bytes > self._max_bytes

    async def room(self, keeper: Keeper, flush: Callable[[], Awaitable[None]]) -> None:
        """Wait while too many copies wait for what is on its way. What they wait for may also be still to be
        read: then reading goes on."""
        while self.too_many and not (
            self._fan_out.incomplete(keeper) or self._stopped or self._window.waits_only_for(self._awaited)
        ):
            self._recorder.copies_resolved.clear()
            await flush()
            await self._recorder.copies_resolved.wait()

    def wake(self) -> None:
        self._recorder.copies_resolved.set()

    def stop(self) -> None:
        self._stopped = True
        self._recorder.copies_resolved.set()

    # --- what an earlier process had on its way, and is not there any more ---

    def free_stale(self) -> None:
        """Events of a batch are not what they were: copies of those that are gone go in their place."""
        for recovery in self._recoveries:
            if stale := recovery.take_stale():
                self.send(self._window.release(stale))

    def give_up_lost(self, which: Which = ALL, *, for_good: bool = False) -> int:
        """At the end of the input. A batch that no copy waits for stays known: its file may come back, unless
        it is gone ``for_good``. Gives how many there are no more."""
        dropped = 0
        for recovery in self._recoveries:
            for batch_id, keys in recovery.lost(which).items():
                if (copies := self._window.release(keys)) or for_good:
                    self._journal.drop([batch_id])
                    self.send(copies)
                    dropped += 1
        return dropped

    def send(self, copies: Sequence[WaitingCopy]) -> None:
        by_chunk: dict[Chunk, list[int]] = {}
        for chunk, position in sorted(
            copies, key=lambda one: (one.chunk.source, one.chunk.start, one.position)
        ):
            by_chunk.setdefault(chunk, []).append(position)
        for chunk, positions in by_chunk.items():
            self._send_of(chunk, positions)

    def _send_of(self, chunk: Chunk, positions: list[int]) -> None:
        keys = self._validator.check([chunk.events[position] for position in positions]).keys
        digests, duplicates, copies = self._window.claim(keys, self._clock.monotonic())
        if copies:
            self._window.follow(chunk, [(positions[index], digest) for index, digest in copies])
        if duplicates:
            ended = [positions[index] for index in duplicates]
            self._recorder.duplicates(chunk, len(ended))
            self._journal.dismissed(chunk, ended, now=self._clock.wall())
        gone = {*duplicates, *(index for index, _ in copies)}
        left = [index for index in range(len(positions)) if index not in gone]
        self._fan_out.dispatch(
            chunk,
            [chunk.events[positions[index]] for index in left],
            [digests[index] for index in left],
            [positions[index] for index in left],
        )
