"""Connections to the state file: its settings, its migrations, and what its errors mean."""

import json
import os
import sqlite3
import struct
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from ingestd.core.errors import UserError

T = TypeVar("T")

VERSION = 8
MAX_CHECKED_BYTES = 64 * 1024**2
FILE_NAME, MARK_NAME = "state.db", "state.mark"
PARTS_NAME = "parts.json"
"""Where the state is that of several processes: see ``parts.py``."""
MAP_NAME = "state.map"
REACH = "reach "
"""How the names of rows in ``meta`` begin that say how far a sink has come in the spool (``spool_reach.py``).
They are not in the map."""

KEPT_NAME = f"{FILE_NAME}.damaged"
CHECK_NAME = "state.check"
"""A process has met damage: the next start looks at all of the state file, however large it is."""
MARK = struct.Struct("<QQ")


MAX_LOG_BYTES = 16 * 1024**2
"""The log is cut back to this when it starts again; how far it grows before is up to who reads meanwhile."""

PRAGMAS = (
    "PRAGMA auto_vacuum=INCREMENTAL;"  # of a new file: it can shrink again, see ``upkeep.py``
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=FAST;"
    f"PRAGMA journal_size_limit={MAX_LOG_BYTES};"
)
"""Some builds of SQLite write zeros over whatever is deleted, which is as dear as writing it was. Without it
what was delivered stays in the file's free pages until they are used again; nobody else may read the file."""


class StoreFailed(UserError):
    """The state file cannot be written or read. Nothing that was acknowledged depends on the last write."""

    exit_code = 1


class StoreDamaged(StoreFailed):
    """SQLite cannot read it. ``how``: in SQLite's words."""

    def __init__(self, path: Path, how: object) -> None:
        self.how = str(how).rpartition("\n")[2]  # a check names the database first
        super().__init__(damaged(path, self.how))


class StoreBlocked(StoreFailed):
    """Nothing can be written now, but may be soon: the disk is ``full``, or another program has a lock.
    ``summary``: the text for a producer, without paths of this machine."""

    def __init__(self, message: str, *, full: bool, summary: str = "") -> None:
        super().__init__(message)
        self.summary = summary or message
        self.full = full


def read_only_uri(path: Path) -> str:
    """For any path: a question mark, a percent sign, bytes that are no UTF-8."""
    return f"file:{quote(os.fsencode(path))}?mode=ro"


def connect(
    path: Path, *, read_only: bool = False, busy_timeout_s: float = 10.0, check: bool = False
) -> sqlite3.Connection:
    """A connection with this store's settings, migrated to ``VERSION``. ``check``: look for damage first, in
    all of a file that is small or in which damage was met. Raises StoreFailed, sqlite3.Error."""
    if check and unfinished(path):
        raise StoreDamaged(path, "an earlier start has found that")
    connection = sqlite3.connect(
        read_only_uri(path) if read_only else path,
        uri=read_only,
        isolation_level=None,
        timeout=busy_timeout_s,
        check_same_thread=not read_only,  # see ``ReadConnection``
    )
    connection.text_factory = text_of
    if read_only:
        return connection
    try:
        _prepare(connection, path, check=check)
    except BaseException:
        connection.close()
        raise
    return connection


class ReadConnection:
    """For reads beside the writer. It is kept, since SQLite goes through all of the schema for a new one; who
    reads while it is paused, or while another reads, has one for that time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._keeps = True
        self._kept: sqlite3.Connection | None = None

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """What ``query`` gives, which reads to the end what it wants. On any thread. Raises sqlite3.Error."""
        with self._lock:
            connection, self._kept = self._kept, None
        connection = connection or connect(self._path, read_only=True)
        try:
            found = query(connection)
        except BaseException:
            connection.close()  # it may have met damage
            raise
        with self._lock:
            if keep := self._keeps and self._kept is None:
                self._kept = connection
        if not keep:
            connection.close()
        return found

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.read(lambda connection: connection.execute(sql).fetchall())

    async def pause(self) -> None:
        self.close()

    def resume(self) -> None:
        self._keeps = True

    def close(self) -> None:
        with self._lock:
            self._keeps = False
            connection, self._kept = self._kept, None
        if connection:
            connection.close()


text_of = partial(str, encoding="utf-8", errors="replace")
"""Text of a damaged row too: the default fails on one, and with it all of its transaction."""


def connect_without_trace(path: Path) -> sqlite3.Connection:
    """A connection that only reads and leaves no file behind. Raises sqlite3.Error."""
    log = path.with_name(f"{path.name}-wal")
    mode = "mode=ro" if log.exists() else "immutable=1"  # the latter makes no files of its own
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)
    connection.text_factory = text_of
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, *, check: bool) -> None:
    connection.executescript(PRAGMAS)
    os.chmod(path, 0o600)  # payloads may hold personal data
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    refuse_newer(version, path)
    if check and version:
        _check(connection, path)
    migrate(connection, version)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StoreDamaged."""
    asked_for = path.with_name(CHECK_NAME)
    thorough = asked_for.exists()
    if thorough or path.stat().st_size <= MAX_CHECKED_BYTES:
        (found,) = connection.execute(f"PRAGMA {'integrity' if thorough else 'quick'}_check(1)").fetchone()
        if found != "ok":
            raise StoreDamaged(path, found)
        asked_for.unlink(missing_ok=True)


def write_map(connection: sqlite3.Connection, path: Path, before: bytes) -> bytes:
    """The map of the state file, if it says something else than ``before``. Gives what it says now. Raises
    sqlite3.Error; on a full disk it stays as it was."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    roots = connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'").fetchall()
    meta = connection.execute(_SETTINGS, (f"{REACH}*",)).fetchall()
    content = json.dumps([version, dict(roots), meta], default=lambda value: {"hex": value.hex()}).encode()
    if content == before:
        return before
    new = path.with_name(f".{MAP_NAME}.new")
    try:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(file, "wb") as opened:
            opened.write(b"%d\n" % zlib.crc32(content) + content)
        new.replace(path.with_name(MAP_NAME))
    except OSError:
        with suppress(OSError):
            new.unlink()
        return before
    return content


_SETTINGS = "SELECT name, value FROM meta WHERE name <> 'commits' AND name NOT GLOB ? ORDER BY name"


def kept_files(directory: Path) -> list[Path]:
    """Damaged state files that nobody has moved away."""
    found = (path for path in directory.glob(f"{KEPT_NAME}*") if not path.name.endswith(("-wal", "-shm")))
    return sorted(found)


def unfinished(path: Path) -> Path | None:
    """A start before was about to mend the state file, and was ended: the damaged one. See ``mend.py``."""
    for kept in kept_files(path.parent):
        with suppress(OSError):
            if os.path.samefile(kept, path):
                return kept
    return None


def ask_for_check(path: Path) -> None:
    """Of the next start."""
    with suppress(OSError):
        path.with_name(CHECK_NAME).touch(0o600)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """All steps or, on a full disk, none: then the version before can go on with the file."""
    script = _steps(version, VERSION) if version else newest_schema()
    connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {VERSION}; COMMIT;")


def make_format(connection: sqlite3.Connection, version: int) -> None:
    """The tables of a format, empty."""
    connection.executescript(
        f"BEGIN IMMEDIATE; {_steps(0, version)} PRAGMA user_version = {version}; COMMIT;"
    )


def _steps(before: int, after: int) -> str:
    return "\n".join(_script(f"schema_{number}.sql") for number in range(before + 1, after + 1))


@cache
def newest_schema() -> str:
    """What all migrations of an empty file come to, as statements: a start on a new state directory would
    wait for them. A test holds it to the migrations."""
    return _script("newest_schema.sql")


def _script(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def connect_in_memory() -> sqlite3.Connection:
    """The same tables, empty, for rows whose home is elsewhere. Used by one thread at a time."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.text_factory = text_of
    migrate(connection, 0)
    return connection


def refuse_newer(version: int, path: Path) -> None:
    """Raises StoreFailed with the way out."""
    if version > VERSION:
        raise StoreFailed(
            f"{path} was written by a newer ingestd (format {version}, this one knows {VERSION}): use that"
            f" ingestd, or a copy of {path.parent} from before the upgrade"
        )


def refuse_other(version: int, path: Path) -> None:
    """For who only reads. Raises StoreFailed with the way out."""
    refuse_newer(version, path)
    if version == 0:
        raise StoreFailed(f"{path} holds nothing: its write-ahead log is gone, or lost its head")
    if version != VERSION:
        raise StoreFailed(f"{path} has format {version}; `ingestd run` brings it to {VERSION}")


def damaged(path: Path, how: object) -> str:
    return (
        f"{path} is damaged ({how}): start again, and `ingestd run` or `replay` makes a new one of what can"
        " be read; or move it away, or restore it"
    )


def is_full(error: Exception) -> bool:
    """No room: also the file-size limit, which SQLite tells as a failed write."""
    names = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"}
    return getattr(error, "sqlite_errorname", "") in names


def is_locked(error: Exception) -> bool:
    return getattr(error, "sqlite_errorname", "") in {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_BUSY_RECOVERY"}


def disk_full(path: Path, *, patient: bool) -> StoreBlocked:
    """``patient``: of a process that goes on by itself."""
    then = "free some space, and it goes on by itself" if patient else "free some space and start again"
    return StoreBlocked(
        f"the disk under {path.parent} is full: {then}; nothing is lost",
        summary="the disk is full",
        full=True,
    )


def locked(path: Path) -> StoreBlocked:
    return StoreBlocked(
        f"{path} is locked by another program", summary="the store is locked by another program", full=False
    )


def explain(error: Exception, path: Path) -> StoreFailed:
    """The error as one that a person can act on."""
    if isinstance(error, StoreFailed):
        return error
    if is_full(error):
        return disk_full(path, patient=False)
    if is_locked(error):
        return locked(path)
    name: str = getattr(error, "sqlite_errorname", "")
    if name in {"SQLITE_NOTADB", "SQLITE_CORRUPT"}:
        return StoreDamaged(path, error)
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")) and _is_read_only(path):
        return StoreFailed(
            f"{path.parent} cannot be written, and SQLite keeps files there even to read {path.name}:"
            " copy the directory to where it can be"
        )
    return StoreFailed(f"cannot use {path}: {error}")


def _is_read_only(path: Path) -> bool:
    return path.exists() and not os.access(path.parent, os.W_OK)


def unpack_mark(data: bytes) -> tuple[int, int]:
    """(commits, high water); zeros for an invalid or torn mark."""
    if len(data) != MARK.size + 4 or struct.unpack("<I", data[-4:])[0] != zlib.crc32(data[:-4]):
        return 0, 0
    commits, high_water = MARK.unpack(data[:-4])
    return commits, high_water
