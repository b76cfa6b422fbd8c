"""Files as a journal knows them, over several processes' lives."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ingestd.sources.files.streams import fingerprint
from ingestd.store.database import Database
from ingestd.store.journal import Journal
from ingestd.store.source_rows import SourceState

NOW = 1_000_000.0


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Journal]:
    """A journal in a process of its own, so to speak."""
    database = Database(directory)
    await database.open()
    journal = Journal(database)
    yield journal
    await journal.commit()
    await database.close()


async def find(journal: Journal, path: Path, **options: Any) -> SourceState:
    status = os.stat(path)
    return await journal.find_file(
        str(path),
        identity=(status.st_dev, status.st_ino),
        fingerprints=lambda start, length: fingerprint(str(path), length, start=start),
        size=options.get("size", status.st_size),
        from_start=options.get("from_start", False),
        chunk_bytes=options.get("chunk_bytes", 0),
        now=NOW,
    )


async def known_file(directory: Path) -> tuple[Path, int]:
    """A file that was read up to position 8, line 2."""
    path = directory / "events"
    path.write_bytes(b'{"a":1}\n{"b":2}\n')
    async with opened(directory) as journal:
        state = await find(journal, path)
        assert (state.position, state.line) == (0, 1)
        journal.moved(state.number, 8, 2)
    return path, state.number
