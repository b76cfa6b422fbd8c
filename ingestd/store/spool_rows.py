"""The spool's rows: how a chunk is packed and checked, and what is found missing. All on
the writer's thread or in a command, with a connection at hand."""

import json
import sqlite3
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ingestd.core.accelerator import crc32
from ingestd.core.chunk import packed_chunk
from ingestd.store import frames, frozen_batches
from ingestd.store.absent_sinks import forget_chunks

if TYPE_CHECKING:
    from ingestd.core.receipt import Receipt, Routed
    from ingestd.store.database import Database

_PLACE_BITS = 20
DIGEST_BYTES = 16
NO_KEY = bytes(DIGEST_BYTES)

# CAST: one flipped bit makes a BLOB a TEXT, and reading that fails with the payload in the error's words.
SELECT = (
    "SELECT id, accepted_at, events, bytes, crc, CAST(digests AS BLOB), CAST(payload AS BLOB), owners"
    " FROM spool WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
)

_unpack_events = msgspec.msgpack.Decoder(list[bytes]).decode


COMPRESSED_FROM_BYTES = 4096
"""Less is no larger than the pages that it needs anyway."""


class SpoolRow(NamedTuple):
    """A row of the table ``spool``. ``payload``: a msgpack list of the events, or frames of zstd that
    hold it."""

    number: int
    accepted_at: float
    events: int
    size_bytes: int
    crc: int
    digests: bytes
    payload: bytes
    owners: str = ""


def words_of_left_behind(
    sink: str,
    count: int,
    directory: Path,
    *,
    what: tuple[str, str] = ("chunk of the spool", "chunks of the spool"),
) -> str:
    """Why nothing starts that has a sink no more for which something waits; ``what`` waits: one, several."""
    from shlex import quote

    forget = f"ingestd spool forget {sink} --state-dir {quote(str(directory))}"
    waiting = f"1 {what[0]} waits" if count == 1 else f"{count} {what[1]} wait"
    return (
        f"sink {sink} is no longer configured, but {waiting} for it: configure it again,"
        f" or give them up with `{forget}`"
    )


class OpenedChunk(NamedTuple):
    """A chunk on its way, as it is kept in memory."""

    events: int
    size_bytes: int
    accepted_at: float
    receipt: "Receipt"
    routed: "Routed"


class SpoolTotals(NamedTuple):
    """What is in the spool; ``next``: the number of the next chunk."""

    chunks: int
    events: int
    size_bytes: int
    next: int


class SpoolDamage(NamedTuple):
    """Chunks ``first`` to ``last`` are damaged or gone. ``events``: how many, if that is known."""

    first: int
    last: int
    events: int | None
    found_at: float
    what: str


def place_of(number: int, position: int) -> tuple[int, int]:
    """(chunk and position as one number, position from 1): what a dead letter is known by."""
    return number << _PLACE_BITS | position, position + 1


def pack(
    number: int, events: Sequence[bytes], digests: Sequence[bytes | None], owners: str = "", *, now: float
) -> SpoolRow:
    """The row but for what ``seal`` does."""
    packed, (payload, size) = packed_chunk(events, digests, missing=NO_KEY)
    return SpoolRow(number, now, len(events), size, 0, packed, payload, owners)


def seal(row: SpoolRow) -> SpoolRow:
    """As it is written: a large payload compressed, with its checksum. On the writer's thread, whose time it
    saves: what is written goes to the log and then to the file."""
    payload = row.payload
    if len(payload) >= COMPRESSED_FROM_BYTES:
        payload = frames.compress(payload)
    return row._replace(payload=payload, crc=_checksum(row.number, row.digests, payload))


def unpack(row: SpoolRow) -> tuple[list[bytes], list[bytes | None]] | None:
    """(events, digests); None if the row is not what was written."""
    try:
        if _checksum(row.number, row.digests, row.payload) != row.crc:
            return None
        payload = row.payload
        events = _unpack_events(frames.decompress(payload) if payload.startswith(frames.MAGIC) else payload)
    except (TypeError, msgspec.MsgspecError):
        return None
    if len(events) != row.events or len(row.digests) != DIGEST_BYTES * len(events):
        return None
    digests = [row.digests[i : i + DIGEST_BYTES] for i in range(0, len(row.digests), DIGEST_BYTES)]
    return events, [None if digest == NO_KEY else digest for digest in digests]


def insert(connection: sqlite3.Connection, row: SpoolRow) -> None:
    """The chunk, and its keys with it: a key that is known without its event would cost that event."""
    connection.execute("INSERT INTO spool VALUES (?, ?, ?, ?, ?, ?, ?, ?)", seal(row))
    keys = row.digests
    if NO_KEY in keys:
        each = (keys[i : i + DIGEST_BYTES] for i in range(0, len(keys), DIGEST_BYTES))
        keys = b"".join(key for key in each if key != NO_KEY)
    if keys:
        connection.execute(
            "INSERT INTO window (confirmed_at, digests) VALUES (?, ?)", (row.accepted_at, keys)
        )


def delete(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("DELETE FROM spool WHERE id = ?", (number,))


def quarantine(connection: sqlite3.Connection, damage: SpoolDamage, lacking: Sequence[str]) -> None:
    """Keep what is left of a damaged chunk for a person, and take it out of the way. ``lacking``: sinks that
    did not have it."""
    forget_chunks(connection, lacking, damage.first, damage.last)
    connection.execute(
        "INSERT INTO spool_damage (first, last, events, found_at, what, payload)"
        " VALUES (?, ?, ?, ?, ?, (SELECT CAST(payload AS BLOB) FROM spool WHERE id = ?))",
        (*damage, damage.first),
    )
    delete(connection, damage.first)


def read_damage(connection: sqlite3.Connection) -> list[SpoolDamage]:
    """All that was ever found and not cleared; at most 1000."""
    rows = connection.execute(
        "SELECT first, last, events, found_at, what FROM spool_damage ORDER BY id DESC LIMIT 1000"
    )
    return [SpoolDamage(*row) for row in rows][::-1]


def count(connection: sqlite3.Connection) -> tuple[SpoolTotals, SpoolTotals]:
    """(what must be there, what is there)."""
    expected = connection.execute("SELECT chunks, events, bytes, next FROM spool_totals").fetchone()
    found = connection.execute(
        "SELECT count(*), coalesce(sum(events), 0), coalesce(sum(bytes), 0), coalesce(max(id), 0) + 1"
        " FROM spool"
    ).fetchone()
    return SpoolTotals(*expected), SpoolTotals(*found)


def count_from(connection: sqlite3.Connection, first: int) -> tuple[int, int]:
    """(events, bytes) of the chunks from this number on."""
    found: tuple[int, int] = connection.execute(
        "SELECT coalesce(sum(events), 0), coalesce(sum(bytes), 0) FROM spool WHERE id >= ?", (first,)
    ).fetchone()
    return found


def take_stock(connection: sqlite3.Connection, *, database: "Database", now: float) -> SpoolTotals:
    """Note what is missing, and give what is there."""
    expected, found = count(connection)
    following = max(expected.next, found.next)
    missing: list[SpoolDamage] = []
    if expected.chunks != found.chunks:
        lost = expected.events - found.events
        what = f"{expected.chunks - found.chunks} chunks are no longer in the file"
        missing.append(SpoolDamage(1, following - 1, lost, now, what))
    if (high_water := database.writer.high_water) >= following:
        what = "the end of the write-ahead log is gone or damaged"
        missing.append(SpoolDamage(following, high_water, None, now, what))
        following = high_water + 1
    for damage in missing:
        connection.execute(
            "INSERT INTO spool_damage (first, last, events, found_at, what) VALUES (?, ?, ?, ?, ?)", damage
        )
    totals = SpoolTotals(found.chunks, found.events, found.size_bytes, following)
    connection.execute("UPDATE spool_totals SET chunks = ?, events = ?, bytes = ?, next = ?", totals)
    return totals


def read_cursors(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Sink -> (the chunk before which every one is resolved there, how many wait for it).

    The position of a sink that was not configured at the last start, or was forgotten, is stored negative:
    nothing waits for it, and should it come back it goes on there.
    """
    rows = connection.execute(
        "SELECT sink, abs(position), CASE WHEN position > 0 THEN"
        " (SELECT count(*) FROM spool WHERE id >= position) ELSE 0 END FROM cursors"
    )
    return {sink: (position, waiting) for sink, position, waiting in rows}


def take_over(connection: sqlite3.Connection, *, sinks: Sequence[str], first: int) -> None:
    """At a start with these ``sinks``; every other one has had all. Chunks before ``first`` are resolved.

    A crash may have come between the last sink's end of a chunk and the chunk's. Of a single sink the rows
    tell what waits, whatever it is called next time.
    """
    counted = list(sinks) if len(sinks) > 1 else []
    connection.execute("DELETE FROM spool WHERE id < ?", (first,))
    connection.execute(
        "UPDATE cursors SET position = CASE WHEN sink IN (SELECT value FROM json_each(?))"
        " THEN abs(position) ELSE -abs(position) END",
        (json.dumps(counted),),
    )
    # a crash may come before one has moved: then, too, a start without it must know what it has not had
    connection.execute(
        "INSERT OR IGNORE INTO cursors SELECT value, 1 FROM json_each(?)", (json.dumps(counted),)
    )


class ForgottenEvents(NamedTuple):
    """What a sink was to get and does not. ``gone``: chunks that no other sink waited for. ``unconfirmed``:
    events that its API had accepted, and nobody asks any more what became of them. ``in_batches``: events of
    files, standard input and brokers that were on their way."""

    chunks: int
    events: int
    gone: int
    unconfirmed: int
    in_batches: int


def count_forgotten(connection: sqlite3.Connection, sink: str) -> ForgottenEvents | None:
    """What ``forget_sink`` would give up; None if nothing here waits for that sink."""
    (unconfirmed,) = connection.execute(
        "SELECT count(*) FROM confirmations WHERE sink = ?", (sink,)
    ).fetchone()
    row = connection.execute(
        "SELECT position FROM cursors WHERE sink = ? AND position > 0", (sink,)
    ).fetchone()
    in_batches = frozen_batches.count_unspooled(connection, sink)
    if row is None:
        found = ForgottenEvents(0, 0, 0, unconfirmed, in_batches)
        return found if any(found) else None
    chunks, events = connection.execute(
        "SELECT count(*), coalesce(sum(events), 0) FROM spool WHERE id >= ?", row
    ).fetchone()
    (gone,) = connection.execute(
        "SELECT count(*) FROM spool WHERE id < ?", (_lowest_of_others(connection, sink),)
    ).fetchone()
    return ForgottenEvents(chunks, events, gone, unconfirmed, in_batches)


def forget_sink(connection: sqlite3.Connection, sink: str) -> ForgottenEvents | None:
    """Nothing that is in the spool, or was on its way, goes to this sink any more. Where it was the only one
    that the spool knows the chunks stay: they go to the sinks of the next start."""
    forgotten = count_forgotten(connection, sink)
    if forgotten is None:
        return None
    row = connection.execute(
        "SELECT position FROM cursors WHERE sink = ? AND position > 0", (sink,)
    ).fetchone()
    if row:
        forget_chunks(connection, [sink], row[0])
    connection.execute("DELETE FROM spool WHERE id < ?", (_lowest_of_others(connection, sink),))
    connection.execute(
        "UPDATE cursors SET position = -max((SELECT next FROM spool_totals),"
        " (SELECT coalesce(max(id), 0) + 1 FROM spool)) WHERE sink = ?",
        (sink,),
    )
    frozen_batches.forget_sink(connection, sink)
    connection.execute("DELETE FROM confirmations WHERE sink = ?", (sink,))
    connection.execute("DELETE FROM meta WHERE name = ?", (f"parked {sink}",))
    return forgotten


def _lowest_of_others(connection: sqlite3.Connection, sink: str) -> int:
    found: int = connection.execute(
        "SELECT coalesce(min(position), 0) FROM cursors WHERE position > 0 AND sink <> ?", (sink,)
    ).fetchone()[0]
    return found


def _checksum(number: int, digests: bytes, payload: bytes) -> int:
    return crc32(payload, crc32(digests, crc32(struct.pack("<q", number))))
