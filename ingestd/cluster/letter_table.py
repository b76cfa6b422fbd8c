"""Dead letters of a share in memory, each as a row and as its stream has it."""

import json
import sqlite3
import weakref
import zlib
from collections.abc import Iterable

import msgspec

from ingestd.cluster import letter_rows
from ingestd.cluster.letter_rows import LetterPlace
from ingestd.cluster.letter_stream import StreamLetter
from ingestd.store.dead_letters import StoredLetter, select

_MOST = 20_000
_ROW_BYTES = 500
IDS = "id IN (SELECT value FROM json_each(?))"


class KeptLetter(msgspec.Struct):
    """A row as the stream has it: ``version`` without what differs while it is leased."""

    place: LetterPlace
    where: str
    sequence: int
    version: tuple[object, ...]
    checksum: int
    ambiguous: bool
    size: int


class LetterTable:
    """``kept``: by number. A letter keeps its number for as long as it is here."""

    def __init__(self, most_bytes: int) -> None:
        self.kept: dict[int, KeptLetter] = {}
        self._most_bytes = most_bytes
        self._numbers: dict[str, int] = {}
        self._bytes = 0
        self._rows: sqlite3.Connection | None = None

    @property
    def rows(self) -> sqlite3.Connection:
        if self._rows is None:
            self._rows = letter_rows.open_rows()
            weakref.finalize(self, self._rows.close)  # an owner's end may come at any moment
        return self._rows

    @property
    def is_full(self) -> bool:
        return len(self.kept) >= _MOST or self._bytes >= self._most_bytes

    def number_of(self, where: str) -> int | None:
        return self._numbers.get(where)

    def is_leased(self, number: int) -> bool:
        return bool(select(self.rows, "id = ? AND state = 'leased'", (number,)))

    def has_text_of(self, number: int, letter: StreamLetter) -> bool:
        return zlib.crc32(letter.payload) == self.kept[number].checksum

    def insert(self, sequence: int, letter: StreamLetter, *, is_sent: bool) -> None:
        """Under that number. One that is not due is left out, unless it ``is_sent``."""
        letter_rows.insert(self.rows, [(sequence, letter)])
        (row,) = select(self.rows, "id = ?", (sequence,))
        if row.due is None and not is_sent:
            self.rows.execute("DELETE FROM single_letters WHERE id = ?", (sequence,))
            return
        place = LetterPlace(letter.id, letter.now.named if letter.now else letter.reason)
        size = len(letter.payload) + _ROW_BYTES
        self.kept[sequence] = KeptLetter(
            place, letter.where, sequence, version_of(row), row.checksum, bool(row.ambiguous), size
        )
        self._numbers[letter.where] = sequence
        self._bytes += size

    def adopt(self, number: int, sequence: int, letter: StreamLetter) -> None:
        """A person wants something else of it; that it goes with its request, under that key, stays."""
        kept = self.kept[number]
        kept.sequence, kept.version = sequence, ()
        if letter.now:
            self.rows.execute(
                "UPDATE single_letters SET due = ?, requested = ? WHERE id = ?",
                (letter.now.due, letter.now.requested, number),
            )
            self.rows.execute("DELETE FROM touched WHERE id = ?", (number,))

    def drop(self, number: int) -> None:
        kept = self.kept.pop(number)
        self._numbers.pop(kept.where, None)
        self._bytes -= kept.size
        self.rows.execute("DELETE FROM single_letters WHERE id = ?", (number,))

    def give_back(self, letters: Iterable[int]) -> None:
        """They are leased, and not sent."""
        self.rows.execute(
            f"UPDATE single_letters SET state = 'waiting', lease = NULL WHERE {IDS}",  # noqa: S608
            (json.dumps([*letters]),),
        )


def version_of(row: StoredLetter) -> tuple[object, ...]:
    """What of a row is in the stream, and may change."""
    request = (row.batch, row.batch_index, row.batch_size) if row.ambiguous else ()
    failure = (row.reason, row.detail, row.attempts, row.first_sent, row.last_failed)
    return row.ambiguous, request, failure, row.due, row.requested, row.obstacle, row.digest, row.checksum
