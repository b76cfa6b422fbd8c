"""Joins the retry worker and the dead-letter store: leases through the writer's transactions."""

import asyncio
import sqlite3
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from ingestd.core.clock import Clock
from ingestd.core.letter import MAX_DETAIL, Form
from ingestd.store.connection import ReadConnection
from ingestd.store.dead_letters import StoredLetter, count, count_made, select
from ingestd.store.letter_leases import DROPPED, Lease, SinksOf, lease_due, leave_to_a_person

T = TypeVar("T")
Transform = Callable[[Sequence[bytes]], tuple[list[bytes], list[int], dict[int, str]]]
"""Events -> (as they are sent; indices of those that are dropped; why others failed, by index)."""


class LetterRows(Protocol):
    """Where the rows are: a state file, or what a worker has of a stream."""

    def run(self, work: Callable[[sqlite3.Connection], T]) -> Awaitable[T]:
        """Its result, when it is as durable as that place makes it."""
        ...


def _is_untransformed(letter: StoredLetter) -> bool:
    """What may have been taken goes out again as it was, whatever it was."""
    return letter.form == Form.UNTRANSFORMED and not letter.ambiguous


class LetterQueue:
    """The LetterStore of one sink's retry worker. ``requested_only``: only letters that a person asked for.

    ``sinks_of``: where events go that were rejected before that was known. ``transform``: makes of these, and
    of those that it failed on, what is sent; None: they are sent as they came. A lease ends with its process,
    see ``release_leases``. The lane keeps letters for as long as an outage lasts: leased twice meanwhile,
    they would go out a second time, under another key. ``warn`` and ``on_aside`` hear of those that wait for
    a person now. ``complete``: brings the letters of a request that are not among the rows; None: all are.
    """

    def __init__(
        self,
        database: LetterRows,
        *,
        sink: str,
        sinks_of: SinksOf,
        max_events: int,
        max_bytes: int,
        requested_only: bool,
        clock: Clock,
        warn: Callable[[str], None] = lambda message: None,
        on_aside: Callable[[int], None] = lambda count: None,
        transform: Transform | None = None,
        complete: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._sink = sink
        self._sinks_of = sinks_of
        self._database = database
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._requested_only = requested_only
        self._clock = clock
        self._warn = warn
        self._on_aside = on_aside
        self._transform = transform
        self._complete = complete

    async def lease(self) -> Sequence[StoredLetter]:
        aside, searched = 0, set[str]()
        while True:
            lease = await self._database.run(lambda c: self._assign_or_lease(c, searched))
            if lease is None:  # there may be more to assign
                continue
            if self._complete and lease.cut:
                await self._complete(lease.cut)
                searched.add(lease.cut)
                continue
            aside += lease.aside
            if self._transform and any(map(_is_untransformed, lease.letters)):
                lease = await self._transformed(lease.letters, self._transform)
                aside += lease.aside
            if lease.letters or not lease.aside:
                break
        if aside:
            self._on_aside(aside)
            self._warn(f"{self._sink}: {aside} dead letters wait for a person now: see `ingestd dlq list`")
        return lease.letters

    def _assign_or_lease(self, connection: sqlite3.Connection, searched: set[str]) -> Lease | None:
        now = self._clock.wall()
        if assign(connection, self._sinks_of, now=now):
            return None
        return lease_due(
            connection,
            now=now,
            sink=self._sink,
            max_events=self._max_events,
            max_bytes=self._max_bytes,
            requested_only=self._requested_only,
            sinks_of=self._all_sinks if self._transform else self._sinks_of,
            searched=searched if self._complete else None,
        )

    @staticmethod
    def _all_sinks(events: Sequence[bytes]) -> list[list[str]]:
        """What was transformed does not tell where else the event went: it may have gone anywhere."""
        return [["", ""] for _ in events]

    async def _transformed(self, letters: Sequence[StoredLetter], transform: Transform) -> Lease:
        """What is sent of them, on disk before that."""
        mine = [letter for letter in letters if _is_untransformed(letter)]
        made, dropped, failed = transform([letter.payload for letter in mine])
        found = {letter.id: payload for letter, payload in zip(mine, made, strict=True)}
        obstacles = {mine[index].id: f"a transform fails on it: {why}" for index, why in failed.items()}
        obstacles |= {mine[index].id: DROPPED for index in dropped}
        done = {number: payload for number, payload in found.items() if number not in obstacles}
        await self._database.run(lambda c: _letters_transformed(c, done, obstacles))
        left = [
            letter._replace(payload=done.get(letter.id, letter.payload))
            for letter in letters
            if letter.id not in obstacles
        ]
        return Lease(left, len(obstacles))

    async def assign(self) -> None:
        """All due letters of events that were rejected before routing become letters of their sinks."""
        while await self._database.run(lambda c: assign(c, self._sinks_of, now=self._clock.wall())):
            pass


def _letters_transformed(
    connection: sqlite3.Connection, payloads: Mapping[int, bytes], obstacles: Mapping[int, str]
) -> None:
    """By number: leased letters as they are sent from now on; those that cannot be, and why."""
    rows = [(one, zlib.crc32(one), int(Form.TRANSFORMED), number) for number, one in payloads.items()]
    set_ = "payload = ?1, original = coalesce(original, checksum), checksum = ?2, form = ?3"
    connection.executemany(f"UPDATE single_letters SET {set_} WHERE id = ?4", rows)  # noqa: S608
    for number, obstacle in obstacles.items():
        leave_to_a_person(connection, [number], obstacle[:MAX_DETAIL])


async def count_letters(reads: ReadConnection) -> dict[str, int]:
    """Letters by state. Read beside the writer."""
    return await asyncio.to_thread(reads.read, count)


_NOWHERE = "it matches the pattern of no sink"


def assign(connection: sqlite3.Connection, sinks_of: SinksOf, *, now: float) -> int:
    """Due letters that were rejected before routing: from here on there is one for each sink.

    ``sinks_of``: the names of the sinks that each of these events goes to. What goes nowhere waits on.
    Gives how many letters were looked at, at most 1000.
    """
    letters = select(
        connection,
        "sink = '' AND ambiguous = 0 AND state = 'waiting' AND due <= ? ORDER BY due, id LIMIT 1000",
        (now,),
        table="single_letters",
    )
    for letter, sinks in zip(letters, sinks_of([letter.payload for letter in letters]), strict=True):
        if not sinks:
            detail = f"{_NOWHERE}; {letter.detail.removeprefix(f'{_NOWHERE}; ')}"[:MAX_DETAIL]
            connection.execute(
                "UPDATE single_letters SET due = NULL, requested = 0, detail = ? WHERE id = ?",
                (detail, letter.id),
            )
        for sink in sinks[1:]:
            if not connection.execute(f"{_COPY} offset{_OF_SINK}", (sink, letter.id)).rowcount:
                connection.execute(f"{_COPY} -1{_OF_SINK}", (sink, letter.id))
        count_made(connection, len(sinks[1:]))
        if sinks:
            _give(connection, letter.id, sinks[0])
    return len(letters)


def _give(connection: sqlite3.Connection, number: int, sink: str) -> None:
    """The sink may have a letter of that place, if what stood there was valid once: then there are two."""
    for change in (f"{_TO} sink = ?", f"{_TO} offset = -1, sink = ?"):
        done = f"UPDATE OR IGNORE single_letters SET {change} WHERE id = ?"  # noqa: S608
        if connection.execute(done, (sink, number)).rowcount:
            return


_FORM = int(Form.UNTRANSFORMED)
_TO = f"form = {_FORM},"
_COPIED = (
    "state, reason, detail, fingerprint, payload, checksum, source, line, digest, batch, batch_index,"
    " batch_size, ambiguous, attempts, first_sent, first_failed, last_failed, due, edited, requested,"
    " reading, original, producer"
)
_COPY = f"INSERT OR IGNORE INTO single_letters ({_COPIED}, form, sink, offset) SELECT {_COPIED}, {_FORM}, ?,"
_OF_SINK = " FROM single_letters WHERE id = ?"
