"""Who would go along with dead letters that a person wants sent: what ``dlq retry --dry-run`` says."""

import json
import sqlite3
from collections.abc import Sequence

from ingestd.store.chosen_letters import Mates
from ingestd.store.letter_changes import obstacles_of, requests_of
from ingestd.store.letter_leases import BROKEN

_ASKED = "CREATE TEMP TABLE IF NOT EXISTS wanted (id INTEGER PRIMARY KEY, mate INTEGER, risky INTEGER)"
_ADD = (
    "INSERT OR {} INTO wanted SELECT id, {}, ambiguous AND batch IN (SELECT value FROM json_each(?2))"
    " FROM single_letters WHERE state = 'waiting' AND {} IN (SELECT value FROM json_each(?3))"
)
_CHOSEN = _ADD.format("REPLACE", "0", "id")
_MATES = _ADD.format("IGNORE", "1 + (batch IN (SELECT value FROM json_each(?1)))", "ambiguous AND batch")
_COUNT = "SELECT total(mate > 0), total(mate = 2), total(risky) FROM wanted"


def count_mates(connection: sqlite3.Connection, numbers: Sequence[int], *, now: float) -> Mates:
    """Of these letters. Asked piece by piece on one connection, it counts no letter twice; so the numbers may
    be negative: some that were counted are chosen now."""
    connection.execute(_ASKED)
    before = connection.execute(_COUNT).fetchone()
    batches = requests_of(connection, json.dumps([*numbers]))
    obstacles = obstacles_of(connection, batches, now)
    broken = json.dumps([batch for batch, why in obstacles.items() if why == BROKEN])
    for statement, among in ((_CHOSEN, [*numbers]), (_MATES, batches)):
        connection.execute(statement, (broken, json.dumps([*obstacles]), json.dumps(among)))
    after = connection.execute(_COUNT).fetchone()
    return Mates(*(int(new - old) for new, old in zip(after, before, strict=True)))
