"""Writes back into the stream what ``dlq`` has changed in a copy of the dead letters."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from ingestd.cluster import chunk_message, installation, letter_rows, letter_stream, provisioning
from ingestd.cluster.chunk_message import EVENTS, ID
from ingestd.cluster.event_splitter import EventSplitter
from ingestd.cluster.letter_rows import LetterPlace
from ingestd.cluster.letter_stream import LetterChange
from ingestd.cluster.names import StreamNames
from ingestd.config import Settings
from ingestd.core.errors import UserError
from ingestd.processing.dedup import Window
from ingestd.schemas.key_paths import KeyPaths
from ingestd.sources.nats.connection import JetStreamError, NatsConnection
from ingestd.store.connection import connect
from ingestd.store.dead_letters import StoredLetter, select
from ingestd.wiring.factories import make_validator

_AT_ONCE = 500
_CHANGED = "SELECT * FROM letters EXCEPT SELECT * FROM before"
_GONE = (
    "SELECT id, sink, named, letter FROM before JOIN places USING (id)"
    " WHERE id NOT IN (SELECT id FROM letters)"
)


async def write_back(connection: NatsConnection, settings: Settings, copy: Path) -> None:
    """What differs from the table ``before``. Who was quicker keeps the letter: it is on its way, or changed
    otherwise. Raises UserError, JetStreamError, BrokerAway."""
    names = StreamNames(settings.spool.name)
    await provisioning.keep_all_versions(connection, names)
    with closing(connect(copy)) as rows:
        numbers = [row[0] for row in rows.execute(_CHANGED)]
        for letter, place in _letters(rows, numbers):
            if letter.requested and not letter.sink:
                await _Routed(connection, settings).send(letter, place)
                continue
            where = _where(letter.sink, place)
            packed = letter_rows.pack(letter, place)
            await letter_stream.change(connection, names, LetterChange(where, letter.id, packed))
        for number, sink, named, letter_id in rows.execute(_GONE):
            where = _where(sink, LetterPlace(letter_id, named))
            await letter_stream.delete(connection, names, where, upto=number)
    await connection.publish(names.letter_news, b"")


def _letters(rows: sqlite3.Connection, numbers: Sequence[int]) -> Iterator[tuple[StoredLetter, LetterPlace]]:
    left = iter(numbers)
    while some := json.dumps([*islice(left, _AT_ONCE)]):
        if some == "[]":
            return
        chosen = "id IN (SELECT value FROM json_each(?))"
        places = {
            number: LetterPlace(letter, named)
            for number, letter, named in rows.execute(f"SELECT * FROM places WHERE {chosen}", (some,))  # noqa: S608
        }
        for letter in select(rows, f"{chosen} ORDER BY id", (some,)):
            yield letter, places[letter.id]


def _where(sink: str, place: LetterPlace) -> str:
    return f"{sink or '-'}.{place.named}.{place.id}"


class _Routed:
    """Sends a letter of an event that was rejected as a new event, for every sink that it matches."""

    def __init__(self, connection: NatsConnection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings
        self._names = StreamNames(settings.spool.name)

    async def send(self, letter: StoredLetter, place: LetterPlace) -> None:
        """Who repeats one that was cut short does so within two minutes, or an event without a key may come
        twice. Raises UserError."""
        found = await installation.load(self._connection, self._settings)
        installation.check(found, self._settings)
        order_by = self._settings.delivery.order_by
        order_of = KeyPaths.parse(order_by).of if order_by else None
        splitter = EventSplitter(found.partitions, order_of, first=found.first)
        keys = make_validator(self._settings).check([letter.payload], again=True).keys
        digests = Window(bytes.fromhex(found.secret)).digests(keys)
        (partition,) = splitter.split([letter.payload], digests)
        headers = {ID: f"letter-{letter.id}-{letter.checksum}", EVENTS: "1"}
        data = chunk_message.encode([letter.payload], digests)
        try:
            await self._connection.append(self._names.partition(partition), data, headers)
        except JetStreamError as error:
            raise UserError(f"letter {letter.id} is not in the spool: {error}") from None
        await letter_stream.delete(self._connection, self._names, _where("", place), upto=letter.id)
