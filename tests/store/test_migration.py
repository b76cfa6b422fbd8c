"""A state file of an older format is brought up to date, and what was under way in it is known."""

import sqlite3
from importlib import resources
from pathlib import Path

import pytest

from ingestd.core.batch import Batch
from ingestd.core.chunk import Chunk, Segment
from ingestd.store import frozen
from ingestd.store.connection import VERSION
from tests.store.files import opened

pytestmark = pytest.mark.anyio


def make_old(path: Path, version: int) -> sqlite3.Connection:
    """A state file as a process of that format had made it."""
    connection = sqlite3.connect(path, isolation_level=None)
    for number in range(1, version + 1):
        script = resources.files("ingestd.store").joinpath(f"schema_{number}.sql").read_text()
        connection.executescript(script)
    connection.execute(f"PRAGMA user_version = {version}")
    return connection


@pytest.mark.parametrize("version", [1, 3])
async def test_a_batch_that_was_under_way_and_a_file_are_known(tmp_path: Path, version: int) -> None:
    chunk = Chunk([b"1", b"2"], source=1, start=0, end=8)
    batch = Batch(chunk.events, [None, None], [Segment(chunk, range(2))], batch_id="b")
    with make_old(tmp_path / "state.db", version) as old:
        old.execute(
            "INSERT INTO sources (path, device, inode, head, head_bytes, position, updated)"
            " VALUES ('in', 1, 2, x'00', 4, 8, 0)"
        )
        old.execute(
            "INSERT INTO batches (id, frozen_at, events, body_digest, segments) VALUES ('b', 5, 2, x'', ?)",
            (frozen.pack(batch.segments),),
        )
    old.close()
    async with opened(tmp_path) as journal:
        (found,) = await journal.frozen_batches()
    assert (found.id, found.sink, found.settled, found.keys) == ("b", "ingest_api", False, [])
    with sqlite3.connect(tmp_path / "state.db") as now:
        assert now.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert now.execute("SELECT position, tail, tail_bytes FROM sources").fetchall() == [(8, None, 0)]
    now.close()
