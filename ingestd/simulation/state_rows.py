"""Rows of the state file, for the judge and for who damages it: beside a life, or between two."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ingestd.simulation.trace import Violation
from ingestd.store.connection import FILE_NAME

Rows = Callable[..., list[Any]]
"""(statement, values) -> rows; none where a life ended before its first start was over. Raises Violation."""


@contextmanager
def opened(directory: Path) -> Iterator[Rows]:
    """With the last connection that is closed SQLite takes the log away."""
    path = directory / FILE_NAME
    with closing(sqlite3.connect(path if path.exists() else ":memory:", isolation_level=None)) as connection:

        def rows(sql: str, *values: object) -> list[Any]:
            try:
                return connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                if "no such" in str(error):
                    return []
                raise Violation(f"the state file cannot be read: {error}") from None

        yield rows


@contextmanager
def copied(directory: Path) -> Iterator[Rows]:
    """Of a copy: the next life finds everything as it was left, and recovers the log itself."""
    copy = directory.with_name("copy")
    shutil.copytree(directory, copy)
    try:
        with opened(copy) as rows:
            yield rows
    finally:
        shutil.rmtree(copy)
