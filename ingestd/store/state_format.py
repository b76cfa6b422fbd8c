"""What a state file is, for who only looks at it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from ingestd.store.connection import (
    MAX_CHECKED_BYTES,
    StoreDamaged,
    StoreFailed,
    connect_without_trace,
    explain,
    refuse_newer,
)


def look_at(path: Path) -> int:
    """The format of a file, which stays as it is; 0: it is empty. Raises StoreFailed for one that a start
    would refuse: newer, damaged, or another program's. A large one is not read to its end."""
    try:
        with closing(connect_without_trace(path)) as connection:
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
            refuse_newer(version, path)
            if version:
                connection.execute("SELECT value FROM meta WHERE name = 'commits'").fetchone()
            elif connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise StoreFailed(f"{path} is a database of another program: move it away")
            if path.stat().st_size <= MAX_CHECKED_BYTES:
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if found != "ok":
                    raise StoreDamaged(path, found)
    except sqlite3.Error as error:
        raise explain(error, path) from None
    return version
