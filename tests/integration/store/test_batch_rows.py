"""Rows of batches, where each event is one: how much of the file a commit changes."""

import random
from contextlib import closing
from pathlib import Path

from ingestd.core.chunk import batch_ids
from ingestd.store.connection import connect
from ingestd.store.frozen_batches import Changes

_FRAME_BYTES = 24 + 4096
"""Of the log: a page with what stands before it."""


def test_batches_that_end_together_change_few_pages_however_many_there_are(tmp_path: Path) -> None:
    path, ids = tmp_path / "state.db", batch_ids(random.Random(1))
    names = [ids() for _ in range(4_000)]
    digest, segments, key = b"d" * 12, b"s" * 30, b"k" * 16
    rows = [(name, 1.0, 1, digest, segments, None, "api", key, None, 0) for name in names]
    with closing(connect(path)) as connection:
        Changes(1.0, rows=dict(zip(names, rows, strict=True))).write(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        Changes(2.0, settled=names[2_000:2_016]).write(connection)
        connection.execute("COMMIT")
        pages = path.with_name("state.db-wal").stat().st_size // _FRAME_BYTES
    assert 0 < pages <= 4, "one or two leaves of the table"
