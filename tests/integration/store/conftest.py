"""A state directory with its database open."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestd.store.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path)
    await database.open()
    yield database
    await database.close()
