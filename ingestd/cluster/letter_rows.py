"""A dead letter of the stream as a row of ``single_letters``, and back: so the same statements serve."""

import sqlite3
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from ingestd.cluster.letter_stream import LetterNow, StreamLetter, pack_again
from ingestd.core.letter import fingerprint
from ingestd.core.reasons import Reason
from ingestd.store.connection import connect_in_memory
from ingestd.store.dead_letters import StoredLetter, count_made, next_due

_COLUMNS = (
    "id, state, reason, detail, fingerprint, payload, checksum, source, offset, line, digest, batch,"
    " batch_index, batch_size, ambiguous, attempts, first_sent, first_failed, last_failed, due, edited,"
    " requested, sink, key_released, obstacle, producer, form"
)
_INSERT = f"INSERT INTO single_letters ({_COLUMNS}) VALUES ({', '.join('?' * 27)})"  # noqa: S608


class LetterPlace(NamedTuple):
    """What a row does not have: the letter's id, and the reason in its subject."""

    id: str
    named: str


def open_rows() -> sqlite3.Connection:
    """Rows in memory, none yet. ``touched`` has the numbers of those that were changed."""
    connection = connect_in_memory()
    connection.execute("CREATE TEMP TABLE touched (id INTEGER PRIMARY KEY)")
    connection.execute(
        "CREATE TEMP TRIGGER letter_touched AFTER UPDATE ON single_letters"
        " BEGIN INSERT OR IGNORE INTO touched VALUES (new.id); END"
    )
    return connection


def insert(connection: sqlite3.Connection, letters: Sequence[tuple[int, StreamLetter]]) -> None:
    """Under these numbers."""
    connection.executemany(_INSERT, [_row(number, one) for number, one in letters])
    count_made(connection, len(letters))


def _row(number: int, one: StreamLetter) -> tuple[object, ...]:
    reason, now = Reason(one.reason), one.now
    if now is None:
        due = next_due(reason, 0, one.first_sent, one.at)
        now = LetterNow(one.reason, one.at, due, 0.0, "", 0, int(bool(one.digest)), 0)
    return (
        number,
        "waiting",
        one.reason,
        one.detail,
        fingerprint(reason, one.detail),
        one.payload,
        zlib.crc32(one.payload),
        0,
        -1 - one.sequence,  # negative: places of a file are unique, and these need not be
        one.position + 1,
        one.digest or None,
        one.batch,
        one.batch_index,
        one.batch_size,
        int(one.ambiguous),
        one.attempts,
        one.first_sent,
        one.at,
        now.last_failed,
        now.due,
        now.edited,
        now.requested,
        one.sink,
        now.key_released,
        now.obstacle,
        one.producer,
        now.form,
    )


def pack(letter: StoredLetter, place: LetterPlace) -> bytes:
    """The next version of a letter, as it stands in its row."""
    return pack_again(
        StreamLetter(
            place.id,
            letter.sink,
            letter.reason,
            letter.detail,
            letter.first_failed,
            -1 - letter.offset,
            letter.line - 1,
            letter.digest or b"",
            letter.batch,
            letter.batch_index,
            letter.batch_size,
            letter.attempts,
            bool(letter.ambiguous),
            letter.first_sent,
            letter.payload,
            letter.producer,
            LetterNow(
                place.named,
                letter.last_failed,
                letter.due,
                letter.requested,
                letter.obstacle,
                letter.edited,
                letter.key_released,
                letter.form,
            ),
        )
    )
