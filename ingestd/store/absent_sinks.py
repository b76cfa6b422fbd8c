"""Letters of sinks that are out of the configuration. An event that is accepted meanwhile does not go there:
that its key is known then says nothing of such a letter, which is sent all the same when its sink is back.
The same holds for a sink that is there, where a file is read again for the others alone."""

import json
import sqlite3
import sys
from collections.abc import Callable, Collection, Sequence

from ingestd.store.envelopes import keep_keys_at

_STEP_LETTERS = 10_000
_DIGEST_BYTES = 16
_FREE = (
    "SELECT id, CAST(digest AS BLOB) FROM letters WHERE id > ? AND key_released AND state <> 'delivered'"
    " AND digest IS NOT NULL AND sink IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?"
)
_SENT_ANYWAY = "UPDATE {} SET key_released = 0 WHERE id IN (SELECT value FROM json_each(?))"
_TABLES = ("single_letters", "sealed_letters")
"""Whatever the window knows: see ``key_released`` of the table."""


def send_anyway(
    connection: sqlite3.Connection, sinks: Collection[str], is_known: Callable[[bytes], bool]
) -> None:
    """At the first start without these sinks, before anything is accepted. ``is_known``: the window's; an
    event that was accepted again before now went to its sink too."""
    last, among = 0, json.dumps([*sinks])
    while letters := connection.execute(_FREE, (last, among, _STEP_LETTERS)).fetchall():
        last = letters[-1][0]
        numbers = [number for number, digest in letters if not is_known(digest)]
        for table in _TABLES:
            connection.execute(_SENT_ANYWAY.format(table), (json.dumps(numbers),))


def send_settled_anyway(
    connection: sqlite3.Connection, *, sink: str, source: int, offsets: Sequence[int]
) -> None:
    """The events at these places (ascending) of a source became known by other sinks alone, since this one
    had settled them before. Of whichever reading its letters are: one that waits stands for later ones."""
    if offsets[-1] < 0:
        return  # events without a place
    connection.execute(
        "UPDATE single_letters SET key_released = 0 WHERE source = ?1 AND offset BETWEEN ?2 AND ?3"
        " AND likely(offset >= 0) AND sink = ?4 AND key_released AND state <> 'delivered'"
        " AND offset IN (SELECT value FROM json_each(?5))",
        (source, max(offsets[0], 0), offsets[-1], sink, json.dumps(offsets)),
    )
    keep_keys_at(connection, source, offsets, sink)


def forget_chunks(
    connection: sqlite3.Connection, sinks: Collection[str], first: int, last: int = sys.maxsize
) -> None:
    """These sinks do not get the chunks ``first`` to ``last`` of the spool, which were given up or are
    damaged: what they say of these sinks' letters is void, too."""
    among = json.dumps([*sinks])
    (has_letters,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM letters WHERE key_released AND state <> 'delivered'"
        " AND sink IN (SELECT value FROM json_each(?)))",
        (among,),
    ).fetchone()
    if not has_letters:
        return
    connection.execute("CREATE TEMP TABLE forgotten (digest BLOB PRIMARY KEY) WITHOUT ROWID")
    select = "SELECT CAST(digests AS BLOB) FROM spool WHERE id >= ? AND id <= ?"
    for (packed,) in connection.execute(select, (first, last)):
        keys = [(packed[at : at + _DIGEST_BYTES],) for at in range(0, len(packed), _DIGEST_BYTES)]
        connection.executemany("INSERT OR IGNORE INTO forgotten VALUES (?)", keys)
    void = "SET key_released = 0 WHERE key_released AND digest IN (SELECT digest FROM forgotten) AND"
    mine = "sink IN (SELECT value FROM json_each(?))"
    connection.execute(
        f"UPDATE single_letters {void} state <> 'delivered' AND {mine}",
        (among,),
    )
    connection.execute(
        f"UPDATE sealed_letters {void} envelope IN (SELECT id FROM envelopes WHERE {mine})",  # noqa: S608
        (among,),
    )
    connection.execute("DROP TABLE forgotten")
