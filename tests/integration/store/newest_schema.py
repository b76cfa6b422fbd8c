"""What all migrations of an empty state file come to, as statements: ``python -m
tests.integration.store.newest_schema`` writes ``ingestd/store/newest_schema.sql`` again."""

import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

from ingestd.store import connection as store

_HEAD = "-- What all migrations come to, made by `make reference`: write a migration instead.\n"
_OF_A_DUMP = ("BEGIN TRANSACTION;", "COMMIT;")


def made() -> str:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for number in range(1, store.VERSION + 1):
            script = resources.files("ingestd.store").joinpath(f"schema_{number}.sql").read_text()
            connection.executescript(script)
        lines = [line for line in connection.iterdump() if line not in _OF_A_DUMP]
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(store.__file__).with_name("newest_schema.sql").write_text(made(), encoding="utf-8")
