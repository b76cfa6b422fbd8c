from pathlib import Path

import pytest

from ingestd.store.database import Database
from ingestd.store.journal import Journal
from ingestd.store.key_log import KeyLog, WindowRow

pytestmark = pytest.mark.anyio

NOW = 1_000_000.0
KEYS = [b"%016d" % number for number in range(30)]


def note_ten(journal: Journal) -> None:
    """Three keys a second."""
    for n in range(10):
        journal.retried(delivered=(), safe_keys=KEYS[3 * n : 3 * n + 3], failed=(), now=NOW + n)


async def test_keys_that_became_safe_come_back_oldest_first_within_age_and_count(tmp_path: Path) -> None:
    database = Database(tmp_path)
    await database.open()
    note_ten(Journal(database))
    await database.close()
    database = Database(tmp_path)
    await database.open()
    keys = KeyLog(database)
    all_of_them = await keys.read(not_before=NOW, max_count=1000)
    assert all_of_them == [WindowRow(NOW + n, KEYS[3 * n : 3 * n + 3], False) for n in range(10)]
    assert await keys.read(not_before=NOW + 7, max_count=1000) == all_of_them[7:]
    assert await keys.read(not_before=0, max_count=4) == all_of_them[8:]
    await database.close()


@pytest.mark.parametrize(("not_before", "max_count", "left"), [(NOW + 7, 1000, 3), (0, 12, 4), (0, 1000, 10)])
async def test_the_stored_window_is_trimmed_by_age_and_count(
    not_before: float, max_count: int, left: int, database: Database
) -> None:
    note_ten(Journal(database))
    keys = KeyLog(database)
    keys.trim(not_before=not_before, max_count=max_count)
    found = await keys.read(not_before=0, max_count=10**6)
    assert [row.at for row in found] == [NOW + n for n in range(10)][-left:]


async def test_keys_that_were_freed_are_told_after_those_that_became_known(database: Database) -> None:
    keys = KeyLog(database)
    note_ten(Journal(database))
    keys.released(KEYS[:2], now=NOW + 20)
    found = await keys.read(not_before=0, max_count=10**6)
    assert found[-1] == WindowRow(NOW + 20, KEYS[:2], True)
    assert not any(row.released for row in found[:-1])


async def test_the_secret_is_made_once(database: Database) -> None:
    keys = KeyLog(database)
    secret = await keys.secret()
    assert len(secret) == 32
    assert await keys.secret() == secret


async def test_a_key_that_was_released_after_a_clock_was_set_back_is_not_known_again(
    database: Database,
) -> None:
    """Else the dead letter of its event would pass for a copy of one that was accepted, and never be sent."""
    keys, journal = KeyLog(database), Journal(database)
    journal.retried(delivered=(), safe_keys=KEYS[:2], failed=(), now=NOW + 7200)
    keys.released(KEYS[:1], now=NOW)
    journal.retried(delivered=(), safe_keys=KEYS[5:6], failed=(), now=NOW + 300)
    told = [(row.keys, row.released) for row in await keys.read(not_before=NOW + 200, max_count=1000)]
    assert told == [(KEYS[:2], False), (KEYS[:1], True), (KEYS[5:6], False)]
    keys.trim(not_before=NOW + 200, max_count=1000)
    assert len(await keys.read(not_before=NOW + 200, max_count=1000)) == 3
    keys.trim(not_before=NOW + 7201, max_count=1000)
    assert await keys.read(not_before=0, max_count=1000) == []
