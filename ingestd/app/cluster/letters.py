"""``ingestd dlq`` in front of the stream of dead letters of a spool on JetStream.

To look at them they are read into a state file of their own, which is gone afterwards: so the same filters
and tables serve. A letter's number is its sequence in the stream.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ingestd.app.cluster.spool import on_nats
from ingestd.app.letters.correction import Edit
from ingestd.cluster import chunk_message, installation
from ingestd.cluster.chunk_message import BATCH, EVENTS, ID, ONLY
from ingestd.cluster.direct_read import read_messages
from ingestd.cluster.event_splitter import EventSplitter
from ingestd.cluster.letter_stream import StreamLetter, unpack
from ingestd.cluster.names import StreamNames
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.core.units import counted
from ingestd.processing.dedup import Window
from ingestd.schemas.key_doubts import key_of
from ingestd.sources.nats.connection import JetStreamError, NatsConnection
from ingestd.store.database import Database
from ingestd.store.dead_letters import UNROUTED, Filter, StoredLetter, insert_letters
from ingestd.store.letter_reader import LetterReader
from ingestd.wiring.factories import make_validator

_OLD_S = 24 * 3600.0
_MOST_NAMED = 20


@contextmanager
def snapshot(settings: Settings, where: Filter | None = None) -> Iterator[Path]:
    """A state directory with the letters, those of other sinks and reasons than ``where`` left out. Raises
    UserError."""
    with TemporaryDirectory(prefix="ingestd-letters-") as directory:
        on_nats(settings, lambda connection: _copy(connection, settings, Path(directory), where or Filter()))
        yield Path(directory)


async def _copy(connection: NatsConnection, settings: Settings, directory: Path, where: Filter) -> None:
    names = StreamNames(settings.spool.name)
    sink = "*" if not where.sink else "" if where.sink == UNROUTED else where.sink
    subject = names.letter(sink, where.reason or "*", "*")
    database = Database(directory)
    await database.open()
    try:
        async for messages in read_messages(connection, names.dead, subject, SystemClock()):
            letters = [(sequence, unpack(data)) for sequence, data in messages]
            await database.run(lambda c, letters=letters: _insert(c, letters))  # type: ignore[misc]
    finally:
        await database.close()


def _insert(connection: Any, letters: Sequence[tuple[int, StreamLetter]]) -> None:
    for sequence, one in letters:
        letter = DeadLetter(
            one.payload,
            Reason(one.reason),
            one.detail,
            0,
            -1,
            0,
            one.digest or None,
            one.batch,
            one.batch_index,
            one.batch_size,
            one.attempts,
            one.ambiguous,
            one.first_sent,
            one.sink,
            producer=one.producer,
        )
        insert_letters(connection, [letter], one.at)
        connection.execute(
            "UPDATE letters SET id = ?, offset = ?, line = ?, due = NULL WHERE id = last_insert_rowid()",
            (sequence, -1 - one.sequence, one.position + 1),
        )


def _chosen(directory: Path, where: Filter) -> list[StoredLetter]:
    with LetterReader.open(directory) as reader:
        return list(reader.letters(where, SystemClock.wall()))


def purge(settings: Settings, where: Filter, *, confirm: Callable[[int], object] | None = None) -> int:
    """How many were deleted. ``confirm`` is called with the number, and may raise."""
    with snapshot(settings, where) as directory:
        numbers = [letter.id for letter in _chosen(directory, where)]
    if not numbers:
        return 0
    if confirm:
        confirm(len(numbers))
    names = StreamNames(settings.spool.name)
    return on_nats(settings, lambda connection: _delete(connection, names, numbers))


async def _delete(connection: NatsConnection, names: StreamNames, numbers: Sequence[int]) -> int:
    deleted = 0
    for number in numbers:
        with suppress(JetStreamError):  # somebody else deleted it
            await connection.ask(f"STREAM.MSG.DELETE.{names.dead}", {"seq": number})
            deleted += 1
    return deleted


@dataclass(slots=True)
class SentAgain:
    """``sent``: letters that are in the spool again; ``together``: of them those that went along, because
    their request may have been taken and is repeated as it was; ``risky``: those that may arrive twice."""

    dry_run: bool = False
    selected: int = 0
    sent: int = 0
    together: int = 0
    risky: int = 0
    unchanged: int = 0
    invalid: dict[int, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return 3 if self.invalid else 0

    def words(self) -> str:
        lines = [f"{number}: not valid: {why}" for number, why in [*self.invalid.items()][:_MOST_NAMED]]
        verb = "would be put" if self.dry_run else "put"
        lines.append(
            f"{counted(self.sent, 'letter')} {verb} into the spool again, {len(self.invalid)} not valid"
        )
        if self.unchanged:
            lines.append(f"{self.unchanged} are not changed by the expression, and stay as they are")
        if self.together:
            lines.append(f"{self.together} letters of the same requests go along, under the same keys")
        if self.risky:
            lines.append(
                f"{self.risky} are of requests that may have been taken, and are older than 24 hours or not"
                " whole any more: they may arrive twice"
            )
        return "\n".join(lines)


def retry(
    settings: Settings,
    where: Filter,
    *,
    payload: bytes | None = None,
    edit: Edit | None = None,
    dry_run: bool = False,
) -> SentAgain:
    """Letters go into the spool again, for their sink only, and are letters no more. Raises UserError."""
    result = SentAgain(dry_run)
    with snapshot(settings) as directory:
        chosen = _chosen(directory, where)
        if not chosen:
            raise UserError("no such dead letters are waiting")
        result.selected = len(chosen)
        everything = {letter.id: letter for letter in _chosen(directory, Filter())}
    on_nats(
        settings,
        lambda connection: _Retry(connection, settings, result).run(chosen, everything, payload, edit),
    )
    return result


class _Retry:
    def __init__(self, connection: NatsConnection, settings: Settings, result: SentAgain) -> None:
        self._connection = connection
        self._names = StreamNames(settings.spool.name)
        self._settings = settings
        self._result = result
        self._validator = make_validator(settings)

    async def run(
        self,
        chosen: Sequence[StoredLetter],
        everything: dict[int, StoredLetter],
        payload: bytes | None,
        edit: Edit | None,
    ) -> None:
        settings = self._settings
        found = await installation.load(self._connection, settings)
        installation.check(found, settings)
        order_by = settings.delivery.order_by
        order = (
            key_of("delivery.order_by", order_by, settings.schema_.name, warn=_nobody) if order_by else None
        )
        self._splitter = EventSplitter(found.partitions, order.of if order else None)
        self._window = Window(bytes.fromhex(found.secret))
        requests = _requests(everything.values()) if payload is None and edit is None else {}
        done: set[int] = set()
        for letter in chosen:
            if letter.id in done:
                continue
            mates = requests.get(letter.batch, []) if letter.ambiguous else []
            if mates:
                self._result.together += sum(one not in chosen for one in mates)
            elif letter.ambiguous:
                self._result.risky += 1
            self._result.risky += sum(_is_old(one) for one in mates)
            events = [self._payload(one, payload, edit) for one in mates or [letter]]
            done.update(one.id for one in mates or [letter])
            await self._send(mates or [letter], events, batch=letter.batch if mates else "")

    def _payload(self, letter: StoredLetter, payload: bytes | None, edit: Edit | None) -> bytes | None:
        """None: it stays a letter."""
        if edit is None:
            return payload if payload is not None else letter.payload
        try:
            edited = edit(letter.payload)
        except ValueError as error:
            self._result.invalid[letter.id] = str(error)
            return None
        if edited == letter.payload:
            self._result.unchanged += 1
            return None
        return edited

    async def _send(
        self, letters: Sequence[StoredLetter], events: Sequence[bytes | None], *, batch: str
    ) -> None:
        valid = [(letter, event) for letter, event in zip(letters, events, strict=True) if event is not None]
        if not valid:
            return
        payloads = [event for _, event in valid]
        checked = self._validator.check(payloads, again=True)
        if checked.refused:
            for at, refusal in checked.refused.items():
                self._result.invalid[valid[at][0].id] = refusal.words
            return
        self._result.sent += len(valid)
        if self._result.dry_run:
            return
        digests = self._window.digests(checked.keys)
        (partition, *_) = self._splitter.split(payloads, digests)
        first = valid[0][0]
        headers = {ID: f"letter-{first.id}-{first.checksum}", EVENTS: str(len(valid))}
        if first.sink:
            headers[ONLY] = first.sink
        if batch:
            headers[BATCH] = batch
        data = chunk_message.encode(payloads, digests)
        try:
            await self._connection.append(self._names.partition(partition), data, headers)
        except JetStreamError as error:
            raise UserError(f"letter {first.id} is not in the spool: {error}") from None
        await _delete(self._connection, self._names, [letter.id for letter, _ in valid])


def _requests(letters: Any) -> dict[str, list[StoredLetter]]:
    """Requests that may have been taken and of which every letter is there, in its order."""
    found: defaultdict[str, list[StoredLetter]] = defaultdict(list)
    for letter in letters:
        if letter.ambiguous and letter.batch:
            found[letter.batch].append(letter)
    for mates in found.values():
        mates.sort(key=lambda letter: letter.batch_index)
    return {
        batch: mates
        for batch, mates in found.items()
        if [letter.batch_index for letter in mates] == list(range(mates[0].batch_size))
    }


def _is_old(letter: StoredLetter) -> bool:
    return SystemClock.wall() - letter.first_sent > _OLD_S


def _nobody(text: str) -> None:
    """Edges and workers have said it."""
