"""From a broker's source to the lanes, without the spool: the broker keeps each message until it is settled.

It is a replay that does not end, beside what comes from the spool; each source has batches of its own, which
name its chunks, so that a restart sends them again as they were.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ingestd.core.chunk import Chunk
from ingestd.core.clock import Clock, Tasks
from ingestd.intake.recovery import Which
from ingestd.intake.replay_intake import ReplayIntake
from ingestd.intake.stages import Stages
from ingestd.processing.validate import ValidatedChunk, Validator
from ingestd.sources.source import Source
from ingestd.store.frozen_batches import FrozenBatch

if TYPE_CHECKING:
    from ingestd.intake.fan_out import RecoveredPositions

_LOOK_AGAIN_S = 1.0

NothingBefore = Callable[[int, int, int], Awaitable[bool]]
"""(number, place, reached) -> whether nothing before ``place`` will come of the partition with this number
but what was given out of it, and the last of that ends at ``reached``, or before it. False: unknown."""


class BrokerIntake(ReplayIntake):
    """``last_known``: by number of the source, or of its partitions, the end of the last chunk that an
    earlier process had in a batch. ``numbers``: all that the source has by now. ``is_mixed``: some
    batches have events of several partitions. ``in_order``: chunks of a number come in their order, also
    after a restart. ``more``: of a replay's."""

    def __init__(
        self,
        stages: Stages,
        *,
        clock: Clock,
        last_known: Mapping[int, int],
        nothing_before: NothingBefore,
        numbers: Callable[[], Collection[int]],
        is_mixed: bool = True,
        in_order: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(stages, clock=clock, **more)
        self._looks = clock
        self._name = ""
        self._warn = more["warn"]
        self._events = stages.recorder
        self._last_known = last_known
        self._nothing_before = nothing_before
        self._numbers = numbers
        self._reached = dict.fromkeys(last_known, 0)
        self._deferred: list[tuple[Chunk, ValidatedChunk, RecoveredPositions]] = []
        self._adopted: dict[int, int] = {}
        self._is_mixed = is_mixed
        self._in_order = in_order
        self._waits_for_all = is_mixed and len(last_known) > 1
        """A batch of an earlier process may have events of several partitions, which come in any order:
        nothing that is new goes before the last of them, or a key's events would."""

    async def run(self, source: Source) -> None:
        """Until ``stop``; what is in its batches then is in the lanes."""
        self._name = source.name
        async with Tasks() as tasks:
            tasks.start_soon(self._end_recovery)
            tasks.start_soon(self._send_freed)
            tasks.start_soon(self._end_adopted)
            await self.feed(source)
            tasks.cancel()
        await self.flush()

    def adopt(self, batches: Sequence[FrozenBatch]) -> None:
        """What the owner before this one knew of a partition, before a chunk of it comes."""
        for name, recovery in self._recoveries.items():
            recovery.know(one for one in batches if one.sink == name)
        for by, processed in self._processed.items():
            processed.know(one for one in batches if one.sink == by)
        self._fan_out.looks()
        for one in (s for batch in batches if not batch.settled for s in batch.segments):
            self._adopted[one.source] = max(one.end, self._adopted.get(one.source, 0))
            self._reached[one.source] = 0

    def superseded(self, number: int, named: Collection[str]) -> None:
        """Nothing comes under this number any more: what is there of its batches goes out now, and keys that
        the others had claimed are free, before the next chunk comes. ``named``: ids of batches that the
        number which the partition has now brings with it. Not where batches have events of several: of those
        more may come."""
        if not self._is_mixed:
            self._give_up(Which(sources=(number,), but=named))

    def _give_up(self, which: Which) -> int:
        """No more of these batches comes: what is there of them goes out, and what waited for the others.
        Gives how many others there were."""
        self._resume_incomplete(which)
        self._report_changed(but=which.but)
        return self._copies.give_up_lost(which, for_good=True)

    def _warn_changed(self, batches: int) -> None:
        self._warn(
            f"{self._name}: unfinished batches that cannot be sent again as they were, for messages of them"
            f" are gone or settings of a sink are others: {batches}; what is left of them is sent under new"
            " idempotency keys"
        )

    def _take_over(self, chunk: Chunk, checked: ValidatedChunk, recovered: "RecoveredPositions") -> None:
        """Before its events are new ones, or copies: what some messages are gone of is given up, so that the
        others go in their order."""
        if self._in_order:
            for recovery in self._recoveries.values():
                gone = recovery.passed(chunk) if recovery else set()
                if gone and (lost := self._give_up(Which(batches=gone))):
                    self._warn_changed(lost)
        super()._take_over(chunk, checked, recovered)

    def admit(self, chunk: Chunk) -> None:
        chunk.owners = self._name
        if not self._waits_for_all:
            super().admit(chunk)
        else:
            self._deferred.append((chunk, self._check(chunk), self._fan_out.recover(chunk)))
        if chunk.source in self._reached:
            self._reached[chunk.source] = chunk.end
            if self._waits_for_all and all(self._reached[n] >= end for n, end in self._last_known.items()):
                self._admit_deferred()

    def _admit_deferred(self) -> None:
        """All in one go: a batch that is sent again may be settled when its chunks are known here."""
        deferred, self._deferred, self._waits_for_all = self._deferred, [], False
        for _, _, recovered in deferred:
            self._resume_found(recovered)
        if lost := self._give_up(Which(sources=self._last_known)):
            self._warn_changed(lost)
        for chunk, checked, recovered in deferred:
            self._take_over(chunk, checked, recovered)

    def change_validator(self, validator: Validator) -> None:
        self._validator = validator

    async def _end_recovery(self) -> None:
        """What is left of an earlier process when all that it knew has been read: the broker has lost it."""
        for number, end in self._last_known.items():
            while self._reached[number] < end and not await self._nothing_before(
                number, end, self._reached[number]
            ):
                await self._looks.sleep(_LOOK_AGAIN_S)
        if self._last_known:
            self._admit_deferred()
            await self.flush()

    async def _end_adopted(self) -> None:
        """What is left of an earlier owner's batches when all that they had has been read: it is gone."""
        while True:
            await self._looks.sleep(_LOOK_AGAIN_S)
            for number, end in [*self._adopted.items()]:
                reached = self._reached[number]
                if reached < end and not await self._nothing_before(number, end, reached):
                    continue
                del self._adopted[number]
                if lost := self._give_up(Which(sources=(number,))):
                    self._warn_changed(lost)

    async def _send_freed(self) -> None:
        """Copies of what was posted and did not get on disk go in its place."""
        while True:
            await self._looks.sleep(_LOOK_AGAIN_S)
            if copies := self._events.take_freed(self._numbers()):
                self._copies.send(copies)
                await self.flush()
