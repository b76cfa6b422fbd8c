"""How many dead letters there are, as a running service shows it, though others change them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingestd.app.maintenance import maintain
from ingestd.core.bounds import DEFAULT_BOUNDS
from ingestd.core.clock import SystemClock
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.store.chosen_letters import PurgeResult
from ingestd.store.dead_letters import Filter
from ingestd.store.letter_changes import LetterChanges
from ingestd.store.new_letters import insert_letters
from ingestd.wiring.pipeline import Pipeline
from tests.each import each
from tests.integration.intake.support import DEADLINE_S, event, running
from tests.receiver import Receiver

pytestmark = pytest.mark.anyio

LETTERS = [DeadLetter(event(n), Reason.REFUSED, "422", 1, n, n, sink="ingest_api") for n in range(3)]


class Steps(SystemClock):
    """Its sleepers wait until the test says that the time has passed."""

    def __init__(self) -> None:
        self.go, self.asleep = asyncio.Event(), asyncio.Event()

    async def sleep(self, seconds: float) -> None:  # type: ignore[override]
        assert seconds == DEFAULT_BOUNDS.maintenance_s
        self.asleep.set()
        await self.go.wait()
        self.go.clear()

    async def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / DEFAULT_BOUNDS.maintenance_s)):
            self.asleep.clear()
            self.go.set()
            async with asyncio.timeout(DEADLINE_S):
                await self.asleep.wait()


@asynccontextmanager
async def kept(directory: Path) -> AsyncIterator[tuple[Pipeline, Steps]]:
    """A pipeline whose maintenance is kept step by step."""
    async with Receiver() as receiver, running(directory, receiver, deliver=False) as life:
        clock, pipeline = Steps(), life.pipeline
        await pipeline.database.run(lambda c: insert_letters(c, LETTERS, clock.wall()))
        pipeline.clock = clock
        maintenance = asyncio.ensure_future(maintain(pipeline, count_letters=True))
        try:
            yield pipeline, clock
        finally:
            maintenance.cancel()
            await asyncio.wait([maintenance])


@each("phase", range(4))
async def test_what_is_purged_beside_a_service_is_no_longer_counted_within_seconds(
    tmp_path: Path, phase: int
) -> None:
    assert DEFAULT_BOUNDS.count_letters_s <= 5.0, "a person looks again"
    async with kept(tmp_path) as (pipeline, clock):
        await clock.pass_time(DEFAULT_BOUNDS.count_letters_s)
        assert pipeline.metrics.letters == {"waiting": 3, "leased": 0, "delivered": 0}
        await clock.pass_time(phase * DEFAULT_BOUNDS.maintenance_s)
        for left in (2, 0):
            where = Filter(ids=(1,)) if left else Filter()
            with LetterChanges.open(tmp_path) as beside:
                beside.purge(where, now=clock.wall(), done=PurgeResult())
            await clock.pass_time(DEFAULT_BOUNDS.count_letters_s)
            assert pipeline.metrics.letters["waiting"] == left
