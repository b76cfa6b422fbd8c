"""The dead letters of a share that may be sent again, as rows: so what a process with a state file does with
its own is done with them, by the same statements.

Their home is the stream. What changes here is noted in the share's log, with what it comes from, and then
stored there; so a worker that dies leaves to the next owner what it knew. Only what is due by itself, or
wanted by a person, is here, and not more than fits.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from ingestd.cluster import letter_rows, letter_stream
from ingestd.cluster.direct_read import read_last, read_messages
from ingestd.cluster.letter_stream import LetterChange, StreamLetter, read_request
from ingestd.cluster.letter_table import IDS, KeptLetter, LetterTable, version_of
from ingestd.cluster.names import Share, StreamNames
from ingestd.cluster.share_log import SentAgain
from ingestd.core.chunk import Batch
from ingestd.core.clock import Clock
from ingestd.sources.nats.connection import NatsConnection
from ingestd.store import letter_leases
from ingestd.store.dead_letters import select

T = TypeVar("T")


class LetterNotes(msgspec.Struct):
    """For the log of the share. ``over``: requests whose end is in the changes, or was there before."""

    again: list[SentAgain] = msgspec.field(default_factory=list)
    over: list[str] = msgspec.field(default_factory=list)
    changes: dict[str, LetterChange] = msgspec.field(default_factory=dict)


class LetterMirror:
    """``is_mine``: whether a letter of the sink is of this share. ``changed`` is called when something is to
    be noted. ``open``: requests that may have arrived or not."""

    def __init__(
        self,
        connection: NatsConnection,
        names: StreamNames,
        share: Share,
        *,
        is_mine: Callable[[StreamLetter], bool],
        only_sent: bool = False,
        most_bytes: int,
        clock: Clock,
    ) -> None:
        self._connection = connection
        self._names = names
        self._share = share
        self._is_mine = is_mine
        self._only_sent = only_sent  # of a partition that is drained: the letters are others' then
        self.table = LetterTable(most_bytes)
        self._clock = clock
        self.changed: Callable[[], None] = lambda: None
        self.turn = asyncio.Lock()
        """Held while letters are stored or leased: a request of which some are stored is not seen as cut."""
        self.news = asyncio.Event()
        self.open: dict[str, set[int]] = {}
        self._next = 1
        self._notes = LetterNotes()
        self._delivered: set[str] = set()  # and not deleted in the stream yet

    def __len__(self) -> int:
        return len(self.table.kept)

    # --- what the stream has ---

    async def look(self) -> None:
        """Read what came since; while there is no room for more it waits there. Raises BrokerAway."""
        subject, last = self._names.letters_of(self._share.sink), ""
        groups = read_messages(self._connection, self._names.dead, subject, self._clock, first=self._next)
        async for messages in groups:
            for sequence, data in messages:
                letter = letter_stream.unpack(data)
                whole = letter.batch and letter.batch == last
                if self.table.is_full and not whole:  # a request comes whole or not at all
                    return
                last = letter.batch
                self._take(sequence, letter)
                self._next = sequence + 1

    async def complete(self, batch: str) -> None:
        """Read what is not here of a request: it is parked, or there was no room. Raises BrokerAway."""
        sink, clock = self._share.sink, self._clock
        for sequence, letter in await read_request(self._connection, self._names, sink, batch, clock):
            if self._is_mine(letter):
                self._take(sequence, letter, is_sent=True)

    def _take(self, sequence: int, letter: StreamLetter, *, is_sent: bool = False) -> None:
        """``is_sent``: it is kept whether it is due or not."""
        number = self.table.number_of(letter.where)
        if letter.where in self._delivered:
            return  # what a person did with it came too late
        if number is not None:
            if self.table.kept[number].sequence >= sequence or self.table.is_leased(number):
                return  # it is our own version, or what we do will show that there is another
            if self._is_sent(number, letter):
                self.table.adopt(number, sequence, letter)
                return
            self.table.drop(number)
        if is_sent or self._is_mine(letter):
            self.table.insert(sequence, letter, is_sent=is_sent)

    def _is_sent(self, number: int, letter: StreamLetter) -> bool:
        """Whether it is in a request that may have arrived, as only the log knows, and has the same text."""
        is_open = any(number in letters for letters in self.open.values())
        return is_open and self.table.has_text_of(number, letter)

    async def take_over(self, again: Mapping[str, SentAgain]) -> None:
        """Read all, and what an owner before this one had sent and did not hear of: this first, and however
        much else there is. Raises BrokerAway."""
        subjects = [self._names.letter(where) for one in again.values() for where, _ in one.letters if where]
        last = await read_last(self._connection, self._names.dead, subjects, self._clock)
        for sequence, data in last.values():
            self._take(sequence, letter_stream.unpack(data), is_sent=True)
        await self.look()
        for request in again.values():
            numbers = [self._number_of(where, checksum) for where, checksum in request.letters]
            rows = self.table.rows
            batch = Batch([], [], [], str, batch_id=request.id, letters=tuple(numbers))
            batch.first_sent_wall = request.at
            letter_leases.freeze_letters(rows, batch)
            rows.execute("DELETE FROM touched")
            self.open[request.id] = {number for number in numbers if number >= 0}
        self._end_requests(())

    def _number_of(self, where: str, checksum: int) -> int:
        """-1: it is gone, or another text."""
        number = self.table.number_of(where)
        if number is None or self.table.kept[number].checksum != checksum:
            return -1
        return number

    async def are_gone(self, letters: Sequence[int]) -> list[int]:
        """Leased rows that a person has changed or deleted meanwhile; they are not here any more. One that
        goes with a request that may have arrived stays, unless its text is another."""
        numbers = {self.table.kept[number].where: number for number in letters if number in self.table.kept}
        subjects = [self._names.letter(where) for where in numbers]
        last = await read_last(self._connection, self._names.dead, subjects, self._clock)
        gone = []
        for where, number in numbers.items():
            sequence, data = last.get(self._names.letter(where), (0, b""))
            letter = letter_stream.unpack(data) if data else None
            if number in self.table.kept:
                if sequence == self.table.kept[number].sequence:
                    continue
                if letter and self._is_sent(number, letter):
                    self.table.adopt(number, sequence, letter)
                    continue
                self.table.drop(number)
            gone.append(number)
            if letter:
                self._take(sequence, letter)
        self._end_requests(gone)
        return gone

    # --- what is done with them ---

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """See ``LetterRows``: what it changes is noted, and durable with the next commit of the journal."""
        return self.change(work)

    def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        rows = self.table.rows
        rows.execute("BEGIN")
        try:
            result = work(rows)
            rows.execute("COMMIT")
        except BaseException:
            rows.execute("ROLLBACK")
            raise
        self._collect(rows)
        return result

    def freeze(self, batch: Batch) -> None:
        """These letters are about to be sent as one request."""
        self.change(lambda rows: letter_leases.freeze_letters(rows, batch))
        kept = [self.table.kept.get(number) for number in batch.letters]
        letters = [(one.where, one.checksum) if one else ("", 0) for one in kept]
        self._notes.again.append(SentAgain(batch.id, batch.first_sent_wall, letters))
        self.open[batch.id] = {*batch.letters}
        self.changed()

    def resolved(self, letters: Iterable[int]) -> None:
        """What becomes of these does not hang on their request any more."""
        self._end_requests(letters)

    def _collect(self, rows: sqlite3.Connection) -> None:
        """Rows that are not as the stream has them: their next versions."""
        touched = [row[0] for row in rows.execute("SELECT id FROM touched")]
        rows.execute("DELETE FROM touched")
        ended = []
        for row in select(rows, IDS, (json.dumps(touched),)) if touched else ():
            kept = self.table.kept.get(row.id)
            if kept is None or (row.state == "leased" and (row.ambiguous or not kept.ambiguous)):
                continue  # a lease is this worker's, and which request it is in stands in the log
            ended.append(row.id)
            if row.state == "delivered":
                self._note(kept, b"")
                self._delivered.add(kept.where)
                self.table.drop(row.id)
                continue
            if (version := version_of(row)) != kept.version:
                self._note(kept, letter_rows.pack(row, kept.place))
                kept.version, kept.ambiguous = version, bool(row.ambiguous)
            if row.state == "waiting" and (row.due is None or self._only_sent):
                self.table.drop(row.id)
        self._end_requests(ended)

    def _note(self, kept: KeptLetter, letter: bytes) -> None:
        self._notes.changes[kept.where] = LetterChange(kept.where, kept.sequence, letter)
        self.changed()

    def _end_requests(self, letters: Iterable[int]) -> None:
        numbers = {*letters}
        for request, left in [*self.open.items()]:
            left -= numbers
            if not left:
                del self.open[request]
                self._notes.over.append(request)
                self.changed()

    # --- the way into the stream ---

    def take_notes(self) -> LetterNotes:
        """What is to be logged, and then stored."""
        notes, self._notes = self._notes, LetterNotes()
        return notes

    async def store(self, changes: Iterable[LetterChange]) -> None:
        """They are logged. What a person has changed meanwhile stays as that person wants it. Raises
        BrokerAway, JetStreamError."""
        for one in changes:
            sequence = await letter_stream.change(self._connection, self._names, one)
            if not one.letter:
                self._delivered.discard(one.where)
            if not sequence and one.letter:
                sequence = await self._put_on_top(one)
            number = self.table.number_of(one.where)
            if not sequence and one.letter:
                # of a leased one what becomes of it says more
                if number is not None and not self.table.is_leased(number):
                    await self.are_gone([number])
                continue
            if number is not None:
                self.table.kept[number].sequence = max(sequence, self.table.kept[number].sequence)
            if later := self._notes.changes.get(one.where):
                later.before = sequence

    async def _put_on_top(self, one: LetterChange) -> int:
        """See ``letter_stream.put_on_top``."""
        sequence, both = await letter_stream.put_on_top(self._connection, self._names, one, self._clock)
        number = self.table.number_of(one.where)
        if sequence and both and number is not None and not self.table.is_leased(number):
            if self._is_sent(number, both):
                self.table.adopt(number, sequence, both)
            else:
                self.table.drop(number)
                self._take(sequence, both)
        return sequence
