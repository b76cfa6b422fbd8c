"""What a damaged state file does not say any more: whether events that wait in it were sent, and under which
keys.

What was certainly not sent goes on. What may have been sent, in a request that cannot be repeated under its
key, is set aside for a person, as damaged chunks are: it is never sent a second time under another key, and
never dropped. Decision 023."""

import sqlite3
from collections.abc import Iterator, Sequence

import msgspec

from ingestd.core.units import counted
from ingestd.store import frozen_batches, spool_rows
from ingestd.store.frozen_batches import FrozenBatch
from ingestd.store.source_rows import UNSURE, find_spool
from ingestd.store.spool_reach import read_reach
from ingestd.store.spool_rows import SpoolDamage, SpoolRow

_ASIDE = "it may have been sent, and the key of its request is lost: it is not sent again by itself"
_PLACEHOLDER = -3
"""The device of a source that stands for those which are lost: no later one gets a number of theirs."""


class Consequences(msgspec.Struct):
    """``lost_events``: of the spool; None: not known. ``aside``: events that wait for a person."""

    words: list[str] = msgspec.field(default_factory=list)
    lost_events: int | None = 0
    aside: int = 0


def settle(connection: sqlite3.Connection, lost: set[str], now: float) -> Consequences:
    """In a file that was made of what could be read. ``lost``: tables of which rows are, or may be, gone."""
    outcome = Consequences()
    _count_lost(connection, lost, outcome, now)
    batches = frozen_batches.read(connection)
    spool = _known_spool(connection, batches)
    unsure = "batches" in lost or spool is None or any(not batch.segments for batch in batches)
    aside = {*_torn(connection, batches, spool)}
    if unsure or "cursors" in lost:
        aside |= {*_may_have_been_sent(connection, lost)}
    _set_aside(connection, sorted(aside), now, outcome)
    if "cursors" in lost:
        _restore_cursors(connection)
    if "sources" in lost:
        _keep_numbers(connection, batches)
    find_spool(connection)
    others = connection.execute("SELECT 1 FROM sources WHERE device <> -1 LIMIT 1").fetchone()
    if others and (unsure or "sources" in lost):
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 1)", (UNSURE,))
        outcome.words.append(
            "what was read of files and brokers, and sent, is not known for sure: they are not read on until"
            " `ingestd spool check --forget` says that they may be"
        )
    return outcome


def _count_lost(connection: sqlite3.Connection, lost: set[str], outcome: Consequences, now: float) -> None:
    if "spool" not in lost:
        return
    expected, found = spool_rows.count(connection)
    if "spool_totals" in lost:
        outcome.lost_events = None
        outcome.words.append("events of the spool are gone; how many is not known")
        connection.execute(
            "INSERT INTO spool_damage (first, last, found_at, what) VALUES (1, ?, ?, ?)",
            (expected.next - 1, now, "chunks are no longer in the file"),
        )
    elif missing := expected.events - found.events:
        outcome.lost_events = missing
        chunks = counted(expected.chunks - found.chunks, "chunk")
        outcome.words.append(f"{counted(missing, 'event')} of the spool, in {chunks}, are gone")


def _known_spool(connection: sqlite3.Connection, batches: Sequence[FrozenBatch]) -> int | None:
    """The number of the spool among the sources; None: batches know it by one that nobody knows."""
    row = connection.execute(
        "SELECT id FROM sources WHERE device = -1 UNION ALL SELECT value FROM meta WHERE name = 'spool'"
    ).fetchone()
    if row is None and batches:
        return None
    return int(row[0]) if row else 0


def _torn(connection: sqlite3.Connection, batches: Sequence[FrozenBatch], spool: int | None) -> Iterator[int]:
    """Chunks with events of a request that was on its way, and cannot be made again since another chunk of it
    is gone."""
    for batch in batches:
        if batch.settled or batch.kept is not None:
            continue
        numbers = {start for source, start, *_ in batch.segments if source == spool}
        whole = {number for number in numbers if _is_whole(connection, number)}
        if whole != numbers:
            yield from whole


def _is_whole(connection: sqlite3.Connection, number: int) -> bool:
    row = connection.execute(spool_rows.SELECT, (number, number + 1, 1)).fetchone()
    return row is not None and spool_rows.unpack(SpoolRow._make(row)) is not None


def _may_have_been_sent(connection: sqlite3.Connection, lost: set[str]) -> Iterator[int]:
    """Chunks that a sink may have had a part of. All, in a file in which nobody noted how far that goes."""
    reach = read_reach(connection)
    if not reach:
        yield from (number for (number,) in connection.execute("SELECT id FROM spool"))
    known = {}
    if "cursors" not in lost and len(reach) > 1:
        known = dict(connection.execute("SELECT sink, position FROM cursors WHERE position > 0"))
    for sink, (low, high) in reach.items():
        low = known.get(sink, low) if len(reach) > 1 else 0
        rows = connection.execute("SELECT id FROM spool WHERE id >= ? AND id < ?", (low, high))
        yield from (number for (number,) in rows)


def _set_aside(
    connection: sqlite3.Connection, numbers: Sequence[int], now: float, outcome: Consequences
) -> None:
    sinks = [sink for (sink,) in connection.execute("SELECT sink FROM cursors")] or [*read_reach(connection)]
    for number in numbers:
        (events,) = connection.execute("SELECT events FROM spool WHERE id = ?", (number,)).fetchone()
        spool_rows.quarantine(connection, SpoolDamage(number, number, events, now, _ASIDE), sinks)
        outcome.aside += events
    if numbers:
        outcome.words.append(
            f"{counted(outcome.aside, 'event')} may have been sent, under keys that are lost: they are set"
            " aside, see `ingestd spool dump --damaged`"
        )


def _restore_cursors(connection: sqlite3.Connection) -> None:
    """All before what a sink was sent is resolved there, or set aside."""
    (following,) = connection.execute(
        "SELECT max((SELECT next FROM spool_totals), (SELECT coalesce(max(id), 0) + 1 FROM spool))"
    ).fetchone()
    rows = [(sink, min(high, following)) for sink, (_, high) in read_reach(connection).items()]
    connection.executemany("INSERT OR REPLACE INTO cursors VALUES (?, ?)", rows)


def _keep_numbers(connection: sqlite3.Connection, batches: Sequence[FrozenBatch]) -> None:
    """Rows know their source by its number."""
    find_spool(connection)
    used = [source for batch in batches for source, *_ in batch.segments]
    for table in ("sources", "single_letters", "envelopes", "confirmations"):
        column = "id" if table == "sources" else "source"
        query = f"SELECT coalesce(max({column}), 0) FROM {table}"  # noqa: S608 - our own schema
        (most,) = connection.execute(query).fetchone()
        used.append(most)
    connection.execute(
        "INSERT INTO sources (id, path, device, inode, head, head_bytes, updated)"
        " VALUES (?, 'lost', ?, 0, x'', 0, 0)",
        (max(used) + 1, _PLACEHOLDER),
    )
