"""What is known of the state file beside it, for the day on which a page of it cannot be read: where its
tables begin, which its first page says, and the settings in ``meta``, a table of one page.

It is a witness only: it is up to half a minute old, nothing waits for it, and one that is gone is made again
(``connection.write_map``).
"""

import json
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from ingestd.store.connection import MAP_NAME


class StateMap(NamedTuple):
    """``roots``: the first page of each table."""

    version: int
    roots: dict[str, int]
    meta: list[tuple[str, Any]]


def read(directory: Path) -> StateMap | None:
    """None: there is none, or it is damaged."""
    try:
        summed, _, content = (directory / MAP_NAME).read_bytes().partition(b"\n")
        if int(summed) != zlib.crc32(content):
            return None
        version, roots, meta = json.loads(content, object_hook=_bytes)
        return StateMap(version, roots, [(name, value) for name, value in meta])
    except (OSError, ValueError):
        return None


def _bytes(found: dict[str, Any]) -> Any:
    return bytes.fromhex(found["hex"]) if [*found] == ["hex"] and isinstance(found["hex"], str) else found
