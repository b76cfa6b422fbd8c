"""Which events of a source are dead letters already, for a later process's ledger. See ``confirming``."""

import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Iterator

from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.store.envelopes import IN_ENVELOPES

_REASONS = list(Reason)
_NO_KEY = bytes(16)


class LostPlaces:
    """Letters of sinks that are not delivered, in the order of their offsets. 27 bytes each: a sink that is
    away for long may have a million of them behind it."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._offsets = array("q")
        self._reasons = array("B")
        self._digests = bytearray()
        self._sinks = array("H")
        self._names: list[str] = []

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, offset: int, reason: Reason, digest: bytes | None, sink: str) -> None:
        self._offsets.append(offset)
        self._reasons.append(_REASONS.index(reason))
        self._digests += digest or _NO_KEY
        if sink not in self._names:
            self._names.append(sink)
        self._sinks.append(self._names.index(sink))

    def between(self, first: int, last: int) -> Iterator[DeadLetter]:
        """Those of the places ``first`` to ``last``, with what the ledger wants to know of them."""
        at = bisect_left(self._offsets, first)
        while at < len(self._offsets) and self._offsets[at] <= last:
            digest = bytes(self._digests[at * len(_NO_KEY) : (at + 1) * len(_NO_KEY)])
            yield DeadLetter(
                b"",
                _REASONS[self._reasons[at]],
                "",
                self._source,
                self._offsets[at],
                0,
                None if digest == _NO_KEY else digest,
                sink=self._names[self._sinks[at]],
            )
            at += 1


def read_lost_places(connection: sqlite3.Connection, source: int, *, first: int) -> LostPlaces:
    """Of the places from ``first`` on."""
    found = LostPlaces(source)
    rows = connection.execute(
        "SELECT offset, reason, CAST(digest AS BLOB), sink, id FROM single_letters"  # noqa: S608
        " WHERE source = ?1 AND offset >= ?2 AND offset >= 0 AND sink <> '' AND state <> 'delivered'"
        f" UNION ALL SELECT offset, reason, CAST(digest AS BLOB), sink, one.id FROM {IN_ENVELOPES}"
        " WHERE source = ?1 AND last_offset >= ?2 AND offset >= max(?2, 0) AND sink <> ''"
        " ORDER BY offset, 5",
        (source, first),
    )
    for offset, reason, digest, sink, _ in rows:
        found.add(offset, Reason(reason), digest, sink)
    return found
