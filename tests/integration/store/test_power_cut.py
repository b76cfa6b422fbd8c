"""Power cuts: whatever was acknowledged is there afterwards, and nothing is called damaged that is not.

``kill -9`` cannot show this, because the page cache outlives the process. ``make fuzz`` cuts more often.
"""

import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest

from ingestd.core.chunk import Batch, Chunk, Segment
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.simulation.sqlite_vfs import Operation
from ingestd.store.database import Database
from ingestd.store.journal import Journal
from ingestd.store.key_log import KeyLog
from ingestd.store.spool import Spool
from tests.effort import FUZZ, seeds
from tests.ids import new_id
from tests.integration.store.power import Disk, recorded

pytestmark = pytest.mark.anyio

NOW = 1_000_000.0
CUTS = 5_000 if FUZZ else 80
(SEED,) = seeds(1, 1)
ROUNDS = 80
MEMORY = (
    "/dev/shm" if os.path.isdir("/dev/shm") else None
)  # what is left after a cut need not be synced again
Name = tuple[str, Any]
Contents = dict[Name, object]


@dataclass(slots=True)
class Fact:
    """Something in the store. Times are lengths of the log: ``kept``: it was acknowledged; ``ending``: its
    end was noted; ``ended``: that was acknowledged."""

    value: object
    kept: int
    ending: int | None = None
    ended: int | None = None

    def must_be_there(self, at: int) -> bool:
        return self.kept <= at and (self.ending is None or at <= self.ending)

    def must_be_gone(self, at: int) -> bool:
        return self.ended is not None and self.ended <= at


class Story(NamedTuple):
    """What was written, and what was acknowledged meanwhile."""

    log: list[Operation]
    facts: dict[Name, Fact]


# --- the work ---


class Work:
    """The store's side of ``ingestd run``: chunks come in, go out in batches, some become dead letters."""

    def __init__(self, story: Story, database: Database, journal: Journal, spool: Spool) -> None:
        self._log, self._facts = story
        self._database, self._journal, self._spool = database, journal, spool
        self._chance = random.Random(SEED)
        self._keys = 0
        self._waiting: list[Chunk] = []

    async def round(self) -> None:
        await self._accept()
        if self._chance.random() < 0.8:
            await self._send(self._waiting.pop(self._chance.randrange(len(self._waiting))))

    async def _accept(self) -> None:
        pieces = [self._piece() for _ in range(self._chance.randint(1, 3))]
        chunks, on_disk = self._spool.append(pieces, now=NOW)
        self._spool.cursors["ingest_api"].unread = self._spool.end
        await on_disk
        for spooled in chunks:
            self._spool.open_chunk("ingest_api", spooled, lambda events: {})
            value = (spooled.events, spooled.digests)
            self._facts["chunk", spooled.start] = Fact(value, kept=len(self._log))
        self._waiting += chunks

    def _piece(self) -> tuple[list[bytes], list[bytes | None]]:
        events = [self._chance.randbytes(self._chance.choice((10, 500, 9000))) for _ in range(3)]
        self._keys += len(events)
        return events, [b"%016d" % (self._keys - index) for index in range(len(events))]

    async def _send(self, spooled: Chunk) -> None:
        chunk = spooled
        batch = Batch(
            chunk.events, spooled.digests, [Segment(chunk, range(len(chunk.events)))], new_id=new_id
        )
        batch.freeze(b"".join(chunk.events))
        self._journal.freeze(batch, sink="ingest_api", now=NOW)
        await self._journal.commit()
        frozen = self._facts["batch", batch.id] = Fact(len(chunk.events), kept=len(self._log))
        offset, line = chunk.place(0)
        letters = [DeadLetter(chunk.events[0], Reason.GAVE_UP, "503", chunk.source, offset, line)]
        letters = letters if self._chance.random() < 0.3 else []
        frozen.ending = self._facts["chunk", chunk.start].ending = len(self._log)
        self._journal.resolved(
            batch,
            sink="ingest_api",
            segments=batch.segments,
            safe_keys=(),
            letters=letters,
            parts=(),
            now=NOW,
        )
        chunk.receipt.settle(len(chunk.events))
        await self._journal.commit()
        self._facts["chunk", chunk.start].ended = len(self._log)
        for letter in letters:
            self._facts["letter", letter.offset] = Fact(letter.payload, kept=len(self._log))


async def work(directory: Path, *, synchronous: str = "") -> Story:
    """``synchronous``: other than what the store sets."""
    then = f"PRAGMA synchronous={synchronous}" if synchronous else ""
    with recorded(then=then) as log:
        story = Story(log, {})
        database = Database(directory)
        await database.open()
        spool = Spool(database)
        await spool.open(now=NOW)
        journal = Journal(database, spool)
        working = Work(story, database, journal, spool)
        for _ in range(ROUNDS):
            await working.round()
        end = len(log)
        await database.close()
        del log[end:]  # there is no orderly end
    return story


# --- the cuts ---


class Found(NamedTuple):
    contents: Contents
    keys: set[bytes]
    complaints: list[str]
    next_chunk: int


def cuts(story: Story, count: int) -> Iterator[tuple[int, dict[str, bytearray]]]:
    """(length of the log at the cut, the files that are left) at random moments."""
    chance, disk, done = random.Random(SEED + 1), Disk(), 0
    for at in sorted(chance.choices(range(len(story.log) + 1), k=count)):
        for operation in story.log[done:at]:
            disk.apply(operation)
        done = at
        yield at, disk.cut(chance)


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[tuple[Database, Journal, Spool]]:
    database = Database(directory)
    await database.open()
    try:
        spool = Spool(database)
        await spool.open(now=NOW)
        journal = Journal(database, spool)
        yield database, journal, spool
        await spool.close()
    finally:
        await database.close()


async def find(files: dict[str, bytearray]) -> Found:
    """What the store makes of these files."""
    with TemporaryDirectory(dir=MEMORY) as name:
        for file, content in files.items():
            (Path(name) / file).write_bytes(content)
        async with opened(Path(name)) as (database, journal, spool):
            contents: Contents = {}
            for spooled in (await spool.read(first=1, before=spool.end, limit=100_000))[0]:
                contents["chunk", spooled.start] = (spooled.events, spooled.digests)
            for batch in await journal.frozen_batches():
                contents["batch", batch.id] = batch.events
            letters = await database.run(
                lambda c: c.execute("SELECT offset, payload FROM letters").fetchall()
            )
            contents |= {("letter", offset): payload for offset, payload in letters}
            keys = {k for row in await KeyLog(database).read(not_before=0, max_count=10**6) for k in row.keys}
            complaints = [database.warning] if database.warning else []
            complaints += [damage.what for damage in spool.damage]
            verdict = await database.run(lambda c: c.execute("PRAGMA integrity_check").fetchone()[0])
            complaints += [] if verdict == "ok" else [verdict]
            return Found(contents, keys, complaints, spool.end)


def lost(story: Story, at: int, found: Found) -> list[Name]:
    return [
        name
        for name, fact in story.facts.items()
        if fact.must_be_there(at) and found.contents.get(name) != fact.value
    ]


def digests_of(fact: Fact) -> list[bytes]:
    assert isinstance(fact.value, tuple)
    return list(fact.value[1])


# --- what is promised ---


async def test_after_a_power_cut_all_that_was_acknowledged_is_there_and_nothing_is_called_damaged(
    tmp_path: Path,
) -> None:
    story = await work(tmp_path)
    checkpoints = [one for one in story.log if (one.kind, one.file.name) == ("sync", "state.db")]
    assert len(checkpoints) > 1, "they are cut into as well"
    for at, files in cuts(story, CUTS):
        found, case = await find(files), f"cut at {at} of {len(story.log)}, SEED={SEED}"
        assert lost(story, at, found) == [], case
        assert found.complaints == [], case
        again = [n for n, fact in story.facts.items() if fact.must_be_gone(at) and n in found.contents]
        assert [name for name in again if name[0] == "chunk"] == [], f"sent a second time: {case}"
        chunks = {n: fact for n, fact in story.facts.items() if n[0] == "chunk"}
        acknowledged = [number for (_, number), fact in chunks.items() if fact.kept <= at]
        assert found.next_chunk > max(acknowledged, default=0), f"a number is used twice: {case}"
        for name, fact in chunks.items():
            has_end = fact.ending is not None and fact.ending < at
            if name in found.contents:
                assert set(digests_of(fact)) <= found.keys, f"a resend would not be known: {case}"
            elif not has_end:
                assert not found.keys & set(digests_of(fact)), f"its resend would be dropped: {case}"


async def test_the_simulation_notices_a_store_that_does_not_sync_its_commits(tmp_path: Path) -> None:
    story = await work(tmp_path, synchronous="NORMAL")
    losses = noticed = 0
    for at, files in cuts(story, 60):
        found = await find(files)
        if lost(story, at, found):
            losses += 1
            noticed += bool(found.complaints)
    assert losses > 15, f"SEED={SEED}"
    assert noticed > 0, f"the mark outside of the database tells of it: SEED={SEED}"
