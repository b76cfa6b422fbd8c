"""Where one event is, by a state directory alone: of a replay, or of a service that does not run.

What a running service knows beside its files (why a sink is away) is not there: ``app/console/where.py``
asks it.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ingestd.app.audit_lines import find_log
from ingestd.app.console.where import (
    NOT_KNOWN,
    attempts,
    key_hint,
    keys_of,
    of_event,
    read_steps,
    words_of,
)
from ingestd.app.state_place import directory_of
from ingestd.config import load
from ingestd.core.redaction import redact_tree
from ingestd.processing.dedup import Window
from ingestd.store.connection import FILE_NAME, explain, read_only_uri, refuse_other
from ingestd.wiring.factories import make_validator

Fields = dict[str, Any]
NO_TRAIL = "It is known: it was delivered, or goes to no sink. A replay keeps no trail of single events."


def where_in_state(asked: str, state_dir: str | None, config_file: str | None) -> Fields:
    """As ``app.console.where.where``. Raises UserError."""
    settings = load(config_file, {("state", "dir"): state_dir})
    directory = directory_of(state_dir)
    path = directory / FILE_NAME
    keys = keys_of(make_validator(settings), asked) if asked.startswith("{") else keys_of(None, asked)
    try:
        found, trail = _read(path, keys, asked)
    except sqlite3.Error as error:
        raise explain(error, path) from None
    batches = {one["batch"] for one in (*found["steps"], *found["letters"])} - {None}
    lines = attempts(find_log(None, str(directory), config_file).path, batches)
    found["attempts"] = lines if asked in batches else list(of_event(lines, found))
    known = found["state"] == "known" and not (found["steps"] or found["letters"] or found["waiting"])
    words = NO_TRAIL if known and not trail else words_of(found)
    if words == NOT_KNOWN:
        words += key_hint(make_validator(settings), asked)
    shown: Fields = redact_tree({"asked": asked, "words": words, **found})
    return shown


def _read(path: Path, keys: set[str], asked: str) -> tuple[Fields, bool]:
    """What is known, and whether a trail of single events was kept."""
    with closing(sqlite3.connect(read_only_uri(path), uri=True)) as connection:
        refuse_other(connection.execute("PRAGMA user_version").fetchone()[0], path)
        secret = connection.execute("SELECT value FROM meta WHERE name = 'secret'").fetchone()
        digests = list(map(Window(secret[0], max_count=1).digest, keys)) if secret else []
        state = "known" if any(_is_known(connection, digest) for digest in digests) else "new"
        trail = bool(connection.execute("SELECT 1 FROM trail LIMIT 1").fetchall())
        cursors = connection.execute("SELECT sink, position FROM cursors ORDER BY sink").fetchall()
    found = read_steps(path, digests, asked)
    waiting = list(_waiting(found.pop("chunks"), cursors))
    return {**found, "state": state, "waiting": waiting}, trail


def _is_known(connection: sqlite3.Connection, digest: bytes) -> bool:
    """By what was last written of the key."""
    query = "SELECT released FROM window WHERE instr(digests, ?) > 0 ORDER BY id DESC LIMIT 1"
    return any(not released for (released,) in connection.execute(query, (digest,)).fetchall())


def _waiting(chunks: Sequence[int], cursors: Sequence[tuple[str, int]]) -> Iterator[Fields]:
    """A single sink has no cursor: what is in the spool waits for it."""
    for sink, position in cursors or [("the only sink", 0)]:
        if any(number >= position for number in chunks):
            yield {"sink": sink, "place": "in the spool", "circuit": "", "why": None}
