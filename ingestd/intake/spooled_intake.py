"""From a broker's source into the spool: a message is settled when its events are on disk here, or delivered.

Its events, its place in the stream and the dead letters of what is refused of it get there in one commit, so
that a restart takes no message twice.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from ingestd.core.chunk import Chunk
from ingestd.core.clock import Clock, wait_until_set
from ingestd.core.submission import AcceptedSubmission, Result, Submission
from ingestd.intake.admission import Admission
from ingestd.sources.source import Source
from ingestd.store.journal import Journal

_TRY_AGAIN_S = 0.5
"""Longest wait before the next try: a longer one would save nothing in one process."""


class SpooledIntake:
    """``run`` until ``stop``. ``until_delivered``: a chunk is settled when all sinks have its events."""

    def __init__(
        self, admission: Admission, journal: Journal, clock: Clock, *, until_delivered: bool = False
    ) -> None:
        self._admission = admission
        self._journal = journal
        self._clock = clock
        self._until_delivered = until_delivered
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self, source: Source) -> None:
        """A chunk at a time, in order; while the spool takes none the source is not asked for more."""
        async for chunk, receipt in source.chunks():
            settle = partial(receipt.settle, len(chunk.events))
            if not await self._into_spool(source.name, chunk, settle if self._until_delivered else None):
                return
            if not self._until_delivered:
                settle()

    async def _into_spool(self, producer: str, chunk: Chunk, delivered: Callable[[], None] | None) -> bool:
        """False: it was stopped before, and the broker keeps the chunk."""
        while not self._stop.is_set():
            answered: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            self._admission.submit(
                Submission(
                    chunk.events,
                    partial(_answer, answered),
                    chunk.size_bytes,
                    producer=producer,
                    chunk=chunk,
                    also=self._journal.reached(chunk),
                    unreadable=chunk.unreadable,
                    delivered=delivered,
                )
            )
            result = await answered
            if isinstance(result, AcceptedSubmission):
                return True
            await wait_until_set(self._stop, min(_TRY_AGAIN_S, result.retry_after_s), self._clock)
        return False


def _answer(answered: asyncio.Future[Result], result: Result) -> None:
    """The waiting task may have been cancelled meanwhile."""
    if not answered.done():
        answered.set_result(result)
