"""The outbox's rows and its cursor in SQL: how events are packed and checked. With a connection at hand."""

import sqlite3
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from ingestd.core.chunk import packed_events

DAMAGED = "damaged"
"""In the column ``file``: rows that lost their checksum. They wait for a person and are read no more."""

_SLICE_ROWS, _SLICE_BYTES = 2000, 4 * 1024 * 1024
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[bytes]).decode


class OutboxRow(NamedTuple):
    """As it goes into the table. ``at``: wall time; ``size_bytes``: of the events."""

    request_id: str
    latency_s: float
    at: float
    events: int
    size_bytes: int
    crc: int
    payload: bytes


class OutboxDelivery(NamedTuple):
    """A row as it comes out. ``request_id``: what delivered its events; empty: they were accepted."""

    number: int
    request_id: str
    latency_s: float
    at: float
    crc: int
    size_bytes: int
    events: list[bytes]


class LakeLoad(NamedTuple):
    """Rows ``first`` to ``last``, which become files together, in the shape that ``layout`` says."""

    first: int
    last: int
    layout: bytes


class OutboxCursor(NamedTuple):
    """Rows up to ``done`` are in the lake, those of ``load`` on their way."""

    done: int
    load: LakeLoad | None


class OutboxDamage(NamedTuple):
    number: int
    events: int
    size_bytes: int


class OutboxPage(NamedTuple):
    rows: list[OutboxDelivery]
    damaged: list[OutboxDamage]


_unpack_cursor = msgspec.msgpack.Decoder(OutboxCursor).decode


def pack(events: Sequence[bytes], *, request_id: str, latency_s: float, at: float) -> OutboxRow:
    payload, size = packed_events(events)
    crc = _checksum(request_id.encode(), latency_s, at, payload)
    return OutboxRow(request_id, latency_s, at, len(events), size, crc, payload)


def _checksum(request_id: bytes, latency_s: float, at: float, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(request_id, zlib.crc32(struct.pack("<dd", latency_s, at))))


def insert(connection: sqlite3.Connection, sink: str, row: OutboxRow, *, above: int) -> None:
    """Numbers are never used twice, or a row would be taken for one that is done: SQLite alone starts
    again from 1 when the table was emptied."""
    connection.execute(
        "INSERT INTO outbox (id, sink, request_id, latency_s, at, events, bytes, crc, payload)"
        " VALUES (max(coalesce((SELECT max(id) FROM outbox), 0), ?) + 1, ?, ?, ?, ?, ?, ?, ?, ?)",
        (above, sink, *row),
    )


def read_cursor(connection: sqlite3.Connection, *, sink: str) -> OutboxCursor:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (f"lake {sink}",)).fetchone()
    return _unpack_cursor(row[0]) if row else OutboxCursor(0, None)


def write_cursor(connection: sqlite3.Connection, *, sink: str, cursor: OutboxCursor) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"lake {sink}", _pack(cursor)))


def count(connection: sqlite3.Connection, *, sink: str) -> tuple[int, int, int]:
    """(rows, events, bytes) that are not set aside."""
    found: tuple[int, int, int] = connection.execute(
        "SELECT count(*), coalesce(sum(events), 0), coalesce(sum(bytes), 0) FROM outbox"
        " WHERE sink = ? AND file IS NULL",
        (sink,),
    ).fetchone()
    return found


def oldest(
    connection: sqlite3.Connection, *, sink: str, above: int, max_bytes: int
) -> tuple[int, int] | None:
    """(first, last) of the oldest rows, as many as have ``max_bytes`` of events but at least one."""
    first = last = total = 0
    for number, size_bytes in connection.execute(
        "SELECT id, bytes FROM outbox WHERE sink = ? AND id > ? AND file IS NULL ORDER BY id", (sink, above)
    ):
        total += size_bytes
        if first and total > max_bytes:
            break
        first, last = first or number, number
    return (first, last) if first else None


def oldest_at(connection: sqlite3.Connection, *, sink: str, above: int) -> float | None:
    row = connection.execute(
        "SELECT at FROM outbox WHERE sink = ? AND id > ? AND file IS NULL ORDER BY id LIMIT 1", (sink, above)
    ).fetchone()
    return row[0] if row else None


def read(connection: sqlite3.Connection, *, sink: str, first: int, last: int) -> OutboxPage:
    # CAST: one flipped bit makes a BLOB a TEXT, and reading that fails with the payload in the error's words
    found = OutboxPage([], [])
    for fields in connection.execute(
        "SELECT id, CAST(request_id AS BLOB), latency_s, at, events, bytes, crc, CAST(payload AS BLOB)"
        " FROM outbox WHERE sink = ? AND id BETWEEN ? AND ? AND file IS NULL ORDER BY id",
        (sink, first, last),
    ):
        row = _check(fields)
        if row is None:
            found.damaged.append(OutboxDamage(fields[0], _number(fields[4]), _number(fields[5])))
        else:
            found.rows.append(row)
    return found


def _check(fields: tuple[Any, ...]) -> OutboxDelivery | None:
    """None if the row is not what was written."""
    number, request_id, latency_s, at, count, size_bytes, crc, payload = fields
    try:
        if _checksum(request_id, latency_s, at, payload) != crc:
            return None
        events = _unpack(payload)
        name = request_id.decode()
    except (TypeError, ValueError, struct.error):
        return None
    if (len(events), sum(map(len, events))) != (count, size_bytes):
        return None
    return OutboxDelivery(number, name, latency_s, at, crc, size_bytes, events)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def put_aside(connection: sqlite3.Connection, *, numbers: Sequence[int]) -> None:
    connection.executemany(f"UPDATE outbox SET file = '{DAMAGED}' WHERE id = ?", [(n,) for n in numbers])  # noqa: S608


def delete_slice(connection: sqlite3.Connection, *, sink: str, last: int) -> int:
    """Delete some of the rows up to ``last``. Gives how many: 0 when all are gone."""
    boundary = total = 0
    for number, size_bytes in connection.execute(
        "SELECT id, bytes FROM outbox WHERE sink = ? AND id <= ? AND file IS NULL ORDER BY id LIMIT ?",
        (sink, last, _SLICE_ROWS),
    ):
        boundary, total = number, total + size_bytes
        if total >= _SLICE_BYTES:
            break
    return connection.execute(
        "DELETE FROM outbox WHERE sink = ? AND id <= ? AND file IS NULL", (sink, boundary)
    ).rowcount
