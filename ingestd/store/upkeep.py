"""Room on the disk: the log and the free pages of the state file go back when they are not needed, and a disk
counts as full only while there is no room in it, in the log and in the file.

On the writer's thread, between groups of work, in steps of milliseconds: no producer waits for more than one.
"""

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from ingestd.store.ballast import Ballast
from ingestd.store.connection import is_full, is_locked

KEEP_BYTES = 16 * 1024**2
"""Free pages that stay in the file: the next events need no new ones."""

_STEP_PAGES = 256
_STEP_S = 0.005
_MAKE_ROOM_S = 0.1


class StoreBounds(msgspec.Struct, frozen=True):
    """``pause_s``: the longest that readers take to end what they are reading. ``rewrite_bytes``: a file from
    before it could shrink is rewritten, once, when it holds no more than this."""

    pause_s: float = 10.0
    rewrite_bytes: int = 64 * 1024**2


BOUNDS = StoreBounds()


class Upkeep:
    """Of one writing connection. Nothing raises for a disk that is full or a file that is locked."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, ballast: Ballast, monotonic: Callable[[], float]
    ) -> None:
        self._connection = connection
        self._monotonic = monotonic
        self._log = path.with_name(f"{path.name}-wal")
        self._ballast = ballast
        self._page_bytes = self._ask("PRAGMA page_size")
        self._shrinks = self._ask("PRAGMA auto_vacuum") == 2

    def tidy(self, *, quiet: bool) -> bool:
        """One step towards a whole ballast, a small file and, where it is ``quiet``, an empty log. True:
        there is more to do."""
        self._ballast.fill()
        if self._give_back(_STEP_S, keep_bytes=KEEP_BYTES):
            return True
        if quiet and self._log.stat().st_size:
            self.truncate_log()
        return False

    def truncate_log(self) -> None:
        """Never waits: while there are readers, the log stays as it is."""
        waits_ms = self._ask("PRAGMA busy_timeout")
        self._ask("PRAGMA busy_timeout = 0")
        try:
            self._do("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._ask(f"PRAGMA busy_timeout = {waits_ms}")

    def make_room(self) -> bool:
        """On a disk that was full: whether events can be taken again.

        The ballast must be whole, or there must be as much in the file's free pages, and enough ballast to
        settle what is there; and there must be room for the log. First the file shrinks, with the room that
        its log has: a log that is given up first may be somebody else's room then.
        """
        ballast = self._ballast
        deadline = self._monotonic() + _MAKE_ROOM_S
        while not self._has_room():
            more = self._give_back(_STEP_S, keep_bytes=0)
            self._do("PRAGMA wal_checkpoint(PASSIVE)")
            if not more or self._monotonic() > deadline:
                break
        if self._has_room():
            return True
        self.truncate_log()
        if self._has_room():
            return True
        enough = ballast.held_bytes * 4 >= ballast.size_bytes and self.free_bytes >= ballast.size_bytes
        return enough and ballast.leaves_room

    def _has_room(self) -> bool:
        return self._ballast.fill() and self._ballast.leaves_room

    @property
    def free_bytes(self) -> int:
        """In the file's pages that hold nothing."""
        return self._ask("PRAGMA freelist_count") * self._page_bytes

    def _give_back(self, seconds: float, *, keep_bytes: int) -> bool:
        """Move pages to the front and cut the file's end off, for so long. True: there is more to give.
        The file itself shrinks with the next checkpoint."""
        spare = self.free_bytes - keep_bytes if self._shrinks else 0
        deadline = self._monotonic() + seconds
        while spare > 0:
            if self._monotonic() >= deadline:
                return True
            # Not ``execute``: it steps once, and that is one page.
            give = partial(self._connection.executescript, f"PRAGMA incremental_vacuum({_STEP_PAGES})")
            if not _try(give):
                return False
            spare -= _STEP_PAGES * self._page_bytes
        return False

    def _do(self, pragma: str) -> bool:
        return _try(lambda: self._connection.execute(pragma).fetchall())

    def _ask(self, pragma: str) -> int:
        row = self._connection.execute(pragma).fetchone()
        return int(row[0]) if row else 0


def _try(work: Callable[[], object]) -> bool:
    """False: it could not be done now, for the state of the disk, or for another program."""
    try:
        work()
    except sqlite3.Error as error:
        if not (is_full(error) or is_locked(error)):
            raise
        return False
    return True


def let_shrink(connection: sqlite3.Connection, path: Path, *, max_bytes: int = BOUNDS.rewrite_bytes) -> None:
    """Files from before format 4 cannot give pages back. One that holds little is rewritten, in memory
    and then in one transaction; a larger one keeps its pages, and uses them again."""
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] == 2:
        return
    pages, free, page_bytes = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    holds = (pages - free) * page_bytes
    from shutil import disk_usage  # it brings along all that compresses

    if holds > max_bytes or disk_usage(path.parent).free < 2 * holds:
        return
    waits_ms = connection.execute("PRAGMA busy_timeout").fetchone()[0]
    _try(
        lambda: connection.executescript(
            "PRAGMA busy_timeout = 0; PRAGMA temp_store = MEMORY; PRAGMA auto_vacuum = INCREMENTAL;"
            "VACUUM; PRAGMA wal_checkpoint(TRUNCATE);"
        )
    )
    connection.executescript(f"PRAGMA temp_store = DEFAULT; PRAGMA busy_timeout = {waits_ms};")
