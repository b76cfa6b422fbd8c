"""How far a broker's stream is resolved, as the journal notes it."""

from pathlib import Path

import pytest

from ingestd.core.chunk import Chunk
from ingestd.store.database import Database
from ingestd.store.journal import Journal

pytestmark = pytest.mark.anyio


async def test_a_position_does_not_fall_behind_what_a_commit_of_the_spool_has_noted(tmp_path: Path) -> None:
    """The receipt of a chunk is settled after its commit, and told to the journal later still: by then the
    next chunk may be in the spool."""
    database = Database(tmp_path)
    await database.open()
    journal = Journal(database)
    number = (await journal.find_stream("s", b"1", now=1.0)).number
    journal.moved(number, 100, 1, (7, b""))
    await database.append(journal.reached(Chunk([b"1"], source=number, start=100, end=200)))
    await journal.commit()
    state = await journal.find_stream("s", b"1", now=2.0)
    assert (state.number, state.position) == (number, 200)
    other = await journal.find_stream("s", b"1", now=2.0, as_new=True)
    assert (other.number > number, other.position) == (True, 0)
    assert (await journal.find_stream("s", b"2", now=3.0)).position == 0
    await database.close()
