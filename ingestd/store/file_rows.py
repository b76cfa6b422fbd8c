"""Files that are followed, as the table ``sources`` has them: by what they hold, wherever they are by now."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ingestd.core.chunk import Mark, digest
from ingestd.store.database import Database

_SELECT = (
    "SELECT id, path, device, inode, CAST(head AS BLOB), head_bytes, position, line, updated,"
    " CAST(tail AS BLOB), tail_bytes, tail_end FROM sources "
)
_GONE = -1
"""The inode of a file that was deleted: another may have its own by now."""


class FileRow(NamedTuple):
    """``head``: the digest of its first ``head_bytes``; ``tail``: of the ``tail_bytes`` before ``tail_end``,
    as they are on disk. ``updated``: the wall time when ``position`` was noted."""

    number: int
    path: str
    device: int
    inode: int
    head: bytes
    head_bytes: int
    position: int
    line: int
    updated: float
    tail: bytes
    tail_bytes: int
    tail_end: int


class FileRows:
    """Beside ``Journal.find_file``, which finds one file by its place on the disk."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def at(self, identities: Sequence[tuple[int, int]]) -> list[FileRow]:
        """Of files that had these places on the disk, newest first."""

        def read(connection: sqlite3.Connection) -> list[FileRow]:
            sql = _SELECT + "WHERE device = ? AND inode = ? ORDER BY id DESC LIMIT 100"
            return [FileRow(*row) for one in identities for row in connection.execute(sql, one)]

        return await self._database.run(read)

    async def latest(self, most: int) -> list[FileRow]:
        """Files that were read, newest first."""
        sql = _SELECT + "WHERE device > 0 ORDER BY id DESC LIMIT ?"
        return await self._database.run(lambda c: [FileRow(*row) for row in c.execute(sql, (most,))])

    async def older(self, than: float) -> list[FileRow]:
        """Files of which nothing was read since."""
        sql = _SELECT + "WHERE device > 0 AND updated < ? ORDER BY id LIMIT 5000"
        return await self._database.run(lambda c: [FileRow(*row) for row in c.execute(sql, (than,))])

    def is_at(
        self, number: int, path: str, identity: tuple[int, int], head: tuple[bytes, int], mark: Mark | None
    ) -> None:
        """What it holds is there now. ``mark``: of its position, if that has changed with it."""
        self._note(
            "UPDATE sources SET path = ?, device = ?, inode = ?, head = ?, head_bytes = ? WHERE id = ?",
            (path, *identity, *head, number),
        )
        if mark:
            self._note(
                "UPDATE sources SET tail = ?, tail_bytes = ?, tail_end = ? WHERE id = ?",
                (digest(mark[1]), len(mark[1]), mark[0], number),
            )

    def grown(self, number: int, head: tuple[bytes, int]) -> None:
        """It was shorter when it was seen first."""
        self._note("UPDATE sources SET head = ?, head_bytes = ? WHERE id = ?", (*head, number))

    def gone(self, number: int) -> None:
        """It was deleted, or what it held is not there any more: what has its place is another file."""
        self._note("UPDATE sources SET inode = ? WHERE id = ?", (_GONE, number))

    def forget(self, numbers: Iterable[int]) -> None:
        """Of files that are gone for long. A number that a dead letter has, and the newest, stay taken."""
        sql = (
            "DELETE FROM sources WHERE id = ? AND id < (SELECT max(id) FROM sources)"
            " AND NOT EXISTS (SELECT 1 FROM single_letters AS one WHERE one.source = sources.id)"
            " AND NOT EXISTS (SELECT 1 FROM envelopes WHERE envelopes.source = sources.id)"
        )
        for number in numbers:
            self._note(sql, (number,))

    def _note(self, sql: str, values: tuple[object, ...]) -> None:
        def write(connection: sqlite3.Connection) -> None:
            connection.execute(sql, values)

        self._database.note(write)
