"""The window's memory: which keys became known, and which were freed again, in the order it happened."""

import secrets
import sqlite3
from collections.abc import Sequence

import msgspec

from ingestd.store.database import Database

DIGEST_BYTES = 16


class WindowRow(msgspec.Struct, frozen=True):
    """Keys that became known at a wall time, or were ``released`` then."""

    at: float
    keys: list[bytes]
    released: bool


class KeyLog:
    """Keeps the table ``window``. Rows are added where their events are settled or accepted: see
    ``journal`` and ``spool_rows``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def secret(self) -> bytes:
        """The installation's secret for key digests, made at first use."""

        def read(connection: sqlite3.Connection) -> bytes:
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('secret', ?)", (secrets.token_bytes(32),))
            row: tuple[bytes] = connection.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone()
            return row[0]

        return await self._database.run(read)

    async def cut_short(self) -> float | None:
        """When a process that left batches on their way was last seen at work; None if none was left."""

        def read(connection: sqlite3.Connection) -> float | None:
            (frozen_at,) = connection.execute("SELECT max(frozen_at) FROM batches").fetchone()
            last = connection.execute("SELECT confirmed_at FROM window ORDER BY id DESC LIMIT 1").fetchone()
            return None if frozen_at is None else max(float(frozen_at), float(last[0] if last else 0.0))

        return await self._database.run(read)

    async def read(self, *, not_before: float, max_count: int) -> list[WindowRow]:
        """What became of keys since ``not_before``, oldest first; at least the youngest ``max_count``.

        What was released is among it, however old: after a clock was set back, a key would else seem known
        of whose event only a dead letter is left, and that one would never be sent.
        """

        def read(connection: sqlite3.Connection) -> list[WindowRow]:
            found: list[WindowRow] = []
            count = 0
            for confirmed_at, packed, released in connection.execute(
                "SELECT confirmed_at, CAST(digests AS BLOB), released FROM window"  # of a damaged row too
                " WHERE released OR confirmed_at >= ? ORDER BY id DESC",
                (not_before,),
            ):
                if count >= max_count:
                    break
                keys = [
                    packed[i : i + DIGEST_BYTES]
                    for i in range(0, len(packed) // DIGEST_BYTES * DIGEST_BYTES, DIGEST_BYTES)
                ]
                found.append(WindowRow(confirmed_at, keys, bool(released)))
                count += 0 if released else len(keys)
            return found[::-1]

        return await self._database.run(read)

    def released(self, digests: Sequence[bytes], *, now: float) -> None:
        """Keys that were known are free again: their events became dead letters."""
        packed = b"".join(digests)
        self._database.note(
            lambda c: c.execute(
                "INSERT INTO window (confirmed_at, digests, released) VALUES (?, ?, 1)", (now, packed)
            )
        )

    def trim(self, *, not_before: float, max_count: int) -> None:
        """Forget keys that the window has forgotten."""
        most = max_count * DIGEST_BYTES * 17 // 16  # the window's granularity is a sixteenth

        def trim(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM window WHERE NOT released AND confirmed_at < ?", (not_before,))
            connection.execute(  # of no key that is left
                "DELETE FROM window WHERE released AND confirmed_at < ?"
                " AND id < ifnull((SELECT min(id) FROM window WHERE NOT released), id + 1)",
                (not_before,),
            )
            connection.execute(
                "DELETE FROM window WHERE id <= (SELECT id FROM (SELECT id, sum(length(digests)) OVER"
                " (ORDER BY id DESC) AS total FROM window) WHERE total > ? ORDER BY id DESC LIMIT 1)",
                (most,),
            )

        self._database.note(trim)
