"""Changes to dead letters from beside the process that has the state directory. For the ``dlq`` commands.

Short transactions on a connection of their own, with room for others between them. That process's count of
commits and its mark are not touched, and what it has leased is on its way and stays as it is.
"""

import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ingestd.core.errors import UserError
from ingestd.store import envelopes
from ingestd.store.chosen_letters import ChosenLetter, MarkedLetters, PurgeResult
from ingestd.store.connection import FILE_NAME, VERSION, StoreFailed, explain, is_full, text_of
from ingestd.store.dead_letters import IDEMPOTENCY_WINDOW_S, Filter
from ingestd.store.letter_leases import BROKEN, OLD
from ingestd.store.piecemeal import Piecemeal

STEP_LETTERS = 1_000
"""In one transaction, about 30 ms: so long may a producer of the service have to wait for its answer."""

_STEP_BYTES = 4 * 1024**2
_STEP_REQUESTS = 100
_BUSY_TIMEOUT_S, _LOOK_AGAIN_S = 10.0, 0.003


def make_due(connection: sqlite3.Connection, numbers: Sequence[int], now: float) -> MarkedLetters:
    """A person wants these sent now, for any reason of failure.

    A request that may have been taken is repeated whole or not at all: its other letters go along. Where that
    cannot be, the wish counts as one that knows it. What is leased is on its way already.
    """
    ids = json.dumps([*numbers])
    _take_out(connection, ids)
    batches = requests_of(connection, ids)
    unrepeatable = obstacles_of(connection, batches, now)
    risky = _mark_risky(connection, unrepeatable, now)
    broken = json.dumps([batch for batch, obstacle in unrepeatable.items() if obstacle == BROKEN])
    mark = (
        "UPDATE single_letters SET due = ?1, requested = ?1 WHERE state = 'waiting' AND requested <> ?1 AND"
    )
    by_id = "id IN (SELECT value FROM json_each(?2))"
    by_request = "ambiguous AND batch IN (SELECT value FROM json_each(?2))"
    rekeyed = connection.execute(f"{mark} {by_request}", (now, broken)).rowcount
    marked = connection.execute(f"{mark} {by_id}", (now, ids)).rowcount + rekeyed
    marked += connection.execute(f"{mark} {by_request}", (now, json.dumps(batches))).rowcount
    chosen, among_broken = connection.execute(
        "SELECT count(*), coalesce(sum(ambiguous AND batch IN (SELECT value FROM json_each(?3))), 0)"  # noqa: S608
        f" FROM single_letters WHERE state = 'waiting' AND requested = ?1 AND {by_id}",
        (now, ids, broken),
    ).fetchone()
    return MarkedLetters(marked, chosen, risky, rekeyed - among_broken)


def _take_out(connection: sqlite3.Connection, ids: str) -> None:
    """What happens to these letters happens to single ones."""
    if sealed := _envelopes_of(connection, ids):
        envelopes.take_out(connection, ids, sealed)


def _envelopes_of(connection: sqlite3.Connection, ids: str) -> list[int]:
    rows = connection.execute(
        "SELECT DISTINCT envelope FROM sealed_letters WHERE id IN (SELECT value FROM json_each(?))", (ids,)
    )
    return [row[0] for row in rows]


def requests_of(connection: sqlite3.Connection, ids: str) -> list[str]:
    """The requests that may have been taken among these letters'."""
    rows = connection.execute(
        "SELECT DISTINCT batch FROM single_letters WHERE ambiguous AND state = 'waiting'"
        " AND id IN (SELECT value FROM json_each(?))",
        (ids,),
    )
    return [row[0] for row in rows]


def obstacles_of(connection: sqlite3.Connection, batches: Sequence[str], now: float) -> dict[str, str]:
    """Those of these requests that cannot be repeated as they were, and why."""
    rows = connection.execute(
        "SELECT batch, count(*) = max(batch_size) FROM single_letters"
        " WHERE ambiguous AND state <> 'delivered' AND batch IN (SELECT value FROM json_each(?))"
        " GROUP BY batch HAVING count(*) <> max(batch_size) OR max(first_sent) < ?",
        (json.dumps([*batches]), now - IDEMPOTENCY_WINDOW_S),
    )
    return {batch: OLD if whole else BROKEN for batch, whole in rows}


def _mark_risky(connection: sqlite3.Connection, obstacles: Mapping[str, str], now: float) -> int:
    """The wish of this time knows it of these requests. Gives how many letters it does not hold for yet."""
    count = 0
    for batch, obstacle in obstacles.items():
        count += connection.execute(
            "UPDATE single_letters SET obstacle = ? WHERE ambiguous AND batch = ? AND state = 'waiting'"
            " AND requested <> ?",
            (obstacle, batch, now),
        ).rowcount
    return count


def edit_payload(connection: sqlite3.Connection, number: int, payload: bytes) -> int:
    """Replace a letter's payload: it leaves its request, whose bytes must not change under their key. Gives
    how many others of that request wait for a person now."""
    _take_out(connection, json.dumps([number]))
    row = connection.execute("SELECT batch, ambiguous FROM single_letters WHERE id = ?", (number,)).fetchone()
    connection.execute(
        "UPDATE single_letters SET payload = ?, checksum = ?, original = coalesce(original, checksum),"
        " edited = 1, batch = '', ambiguous = 0, digest = NULL, key_released = 0, obstacle = '' WHERE id = ?",
        (payload, zlib.crc32(payload), number),
    )
    return leave_mates(connection, [row[0]]) if row and row[1] else 0


def leave_mates(connection: sqlite3.Connection, batches: Sequence[str]) -> int:
    """What is left of requests that may have been taken waits for a person; gives how many letters."""
    return connection.execute(
        "UPDATE single_letters SET due = NULL, requested = 0, obstacle = ?"
        " WHERE ambiguous AND state = 'waiting' AND batch IN (SELECT value FROM json_each(?))",
        (BROKEN, json.dumps(batches)),
    ).rowcount


def purge(connection: sqlite3.Connection, numbers: Sequence[int]) -> tuple[int, list[str]]:
    """Delete letters, but none that is leased. Gives how many, and the requests that are not whole now: see
    ``leave_mates``."""
    ids = json.dumps([*numbers])
    batches = requests_of(connection, ids)
    deleted = connection.execute(
        "DELETE FROM single_letters WHERE state <> 'leased' AND id IN (SELECT value FROM json_each(?))",
        (ids,),
    ).rowcount
    if sealed := _envelopes_of(connection, ids):
        deleted += envelopes.delete(connection, ids, sealed)
    return deleted, batches


_PARK = (
    "UPDATE single_letters SET due = NULL, requested = 0 WHERE due IS NOT NULL AND state = 'waiting'"
    " AND (id IN (SELECT value FROM json_each(?)) OR ambiguous AND batch IN (SELECT value FROM json_each(?)))"
)


class LetterChanges:
    """One connection. Its methods raise StoreFailed through ``open``'s block, at whose end all that they
    changed is on disk: the disk is not waited for after each piece."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        step_letters: int = STEP_LETTERS,
        step_bytes: int = _STEP_BYTES,
        busy_timeout_s: float = _BUSY_TIMEOUT_S,
        give_way: Callable[[float], None] = time.sleep,
        more_room: Callable[[], bool] = lambda: False,
    ) -> None:
        """``give_way`` lets others write for as long as a transaction kept them from it, in s.
        ``more_room``: see ``Piecemeal``."""
        self.connection = connection
        self._busy_timeout_s, self._give_way = busy_timeout_s, give_way
        self._step_letters, self._step_bytes = step_letters, step_bytes
        self._more_room = more_room

    @staticmethod
    @contextmanager
    def open(
        directory: Path, *, busy_timeout_s: float = _BUSY_TIMEOUT_S, **limits: Any
    ) -> "Iterator[LetterChanges]":
        """``limits``: as of ``LetterChanges``. Raises StoreFailed, also for what goes wrong in the block."""
        path = directory / FILE_NAME
        try:
            uri = f"{path.absolute().as_uri()}?mode=rw"
            with closing(
                sqlite3.connect(uri, uri=True, isolation_level=None, timeout=busy_timeout_s)
            ) as connection:
                connection.text_factory = text_of
                connection.execute("PRAGMA synchronous=NORMAL")
                if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                    raise StoreFailed(  # no migration under its feet
                        f"{path} is in use by an ingestd of another version: use that one's command"
                    )
                connection.execute("PRAGMA busy_timeout=0")  # from here on _begin waits
                changes = LetterChanges(connection, busy_timeout_s=busy_timeout_s, **limits)
                try:
                    yield changes
                finally:
                    changes.sync()
        except sqlite3.Error as error:
            raise explain(error, path) from None

    def sync(self) -> None:
        """A commit that waits for the disk: it takes all before it along."""
        self.connection.execute("PRAGMA synchronous=FULL")
        with self._transaction():
            self.connection.execute("UPDATE meta SET value = value WHERE name = 'commits'")

    def pages(self, where: Filter, now: float, *, payloads: bool = True) -> Iterator[list[ChosenLetter]]:
        """The letters that are there at the beginning, oldest first. No lock is held between two pieces."""
        condition, values = where.sql(now)
        last: int = self.connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'single_letters'"
        ).fetchone()[0]
        after = 0
        payload = "CAST(payload AS BLOB)" if payloads else "x''"
        query = f"SELECT id, state, sink, ambiguous, form, {payload}, checksum FROM letters"  # noqa: S608
        query += f" WHERE id > ? AND id <= ? AND ({condition}) ORDER BY id LIMIT ?"
        while True:
            page, size = [], 0
            for row in self.connection.execute(query, [after, last, *values, self._step_letters]):
                page.append(ChosenLetter._make(row))
                size += len(page[-1].payload)
                if size > self._step_bytes:
                    break
            if not page:
                return
            after = page[-1].id
            yield page

    def request(self, numbers: Sequence[int], *, now: float) -> MarkedLetters:
        """Have these letters sent, by whatever process, and who goes along with them."""
        with self._transaction():
            return make_due(self.connection, numbers, now)

    def sinks(self) -> frozenset[str] | None:
        """The sinks of the process that has, or had, the state directory last; None: it did not say."""
        row = self.connection.execute("SELECT value FROM meta WHERE name = 'sinks'").fetchone()
        return frozenset(json.loads(row[0])) if row else None

    def edit(self, number: int, payload: bytes, *, now: float) -> int:
        """Store a corrected payload, and have it sent; gives how many letters of its request wait for a
        person now. Raises UserError if it does not wait."""
        with self._transaction():
            query = "SELECT state, batch FROM letters WHERE id = ?"
            row = self.connection.execute(query, (number,)).fetchone()
            if row is None or row[0] != "waiting":
                what = "is being sent at this moment" if row and row[0] == "leased" else "no longer waits"
                raise UserError(
                    f"dead letter {number} {what}, and was not changed: see `ingestd dlq show {number}`"
                )
            left = edit_payload(self.connection, number, payload)
            make_due(self.connection, [number], now)
        if left:
            self._note_cut([row[1]])
        return left

    def _note_cut(self, batches: Sequence[str]) -> None:
        self.connection.execute("CREATE TEMP TABLE IF NOT EXISTS cut (batch TEXT PRIMARY KEY)")
        self.connection.executemany("INSERT OR IGNORE INTO cut VALUES (?)", zip(batches))

    def left(self) -> int:
        """Letters of requests that were cut by edits or a purge: they wait for a person now."""
        self._note_cut([])
        found: tuple[int] = self.connection.execute(
            "SELECT count(*) FROM cut JOIN single_letters AS one ON one.batch = cut.batch AND ambiguous"
            " AND state = 'waiting'"
        ).fetchone()
        return found[0]

    def purge(self, where: Filter, *, now: float, done: PurgeResult) -> None:
        """Delete letters that are not leased. ``done`` tells how far it came, also when it is interrupted.

        What is left of requests is left to a person at the end: to write that with each piece takes more room
        than the piece makes. Who leases it meanwhile finds the same.
        """
        parts = Piecemeal(self.connection, self._transaction, self._more_room)
        try:
            for page in self.pages(where, now, payloads=False):
                for deleted in parts.run([letter.id for letter in page], self._delete):
                    done.deleted += deleted
        finally:
            self._leave_cut()
            done.left = self.left()
            parts.make_room()

    def _delete(self, numbers: Sequence[int]) -> int:
        deleted, cut = purge(self.connection, numbers)
        self._note_cut(cut)
        return deleted

    def _leave_cut(self) -> None:
        """On a full disk who leases them does it: they become longer, and would take what room there is."""
        self._note_cut([])
        batches = [row[0] for row in self.connection.execute("SELECT batch FROM cut")]
        try:
            for at in range(0, len(batches), _STEP_REQUESTS):
                with self._transaction():
                    leave_mates(self.connection, batches[at : at + _STEP_REQUESTS])
        except sqlite3.Error as error:
            if not is_full(error):
                raise

    def park(self, where: Filter, *, now: float) -> int:
        """Letters wait for a person, requests that may have been taken whole; gives how many did not."""
        parked = 0
        for page in self.pages(where, now, payloads=False):
            ids = json.dumps([letter.id for letter in page])
            with self._transaction():
                batches = json.dumps(requests_of(self.connection, ids))
                parked += self.connection.execute(_PARK, (ids, batches)).rowcount
        return parked

    def _begin(self) -> None:
        """Ask for the lock every few milliseconds. Raises sqlite3.Error.

        SQLite's own waiting grows to 100 ms at a time: beside a service that commits all the time a command
        would spend most of its time in it.
        """
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                self.connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_AGAIN_S)
            else:
                return

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._begin()
        started = time.monotonic()
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        self._give_way(time.monotonic() - started)
