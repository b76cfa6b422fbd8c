"""``ingestd dlq`` in front of the stream of dead letters of a spool on JetStream.

The letters are read into a state file of their own, which is gone afterwards: so the same filters, tables and
changes serve. What was changed there goes back as new versions, where nobody else was quicker. A letter's
number is the sequence of its version in the stream.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import msgspec

from ingestd.app.cluster.letters_back import write_back
from ingestd.app.cluster.spool import on_nats
from ingestd.app.event_loop import run_loop
from ingestd.app.letters import park as letter_park
from ingestd.app.letters import purge as letter_purge
from ingestd.app.letters.correction import Edit
from ingestd.app.letters.retry import Marking
from ingestd.app.letters.retry_result import RetryResult
from ingestd.cluster import letter_rows
from ingestd.cluster.direct_read import read_messages
from ingestd.cluster.letter_stream import StreamLetter, unpack
from ingestd.cluster.names import StreamNames
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.sources.nats.connection import NatsConnection
from ingestd.store.chosen_letters import PurgeResult
from ingestd.store.connection import FILE_NAME, connect
from ingestd.store.dead_letters import UNROUTED, Filter

T = TypeVar("T")
_WHOLE_S, _AGAIN_S = 6.0, 0.3
"""Longer than it takes until the share of a worker that died has another owner."""
_CUT = (
    "SELECT 1 FROM letters WHERE ambiguous AND obstacle = '' GROUP BY sink, batch"
    " HAVING count(*) < max(batch_size) LIMIT 1"
)


@contextmanager
def snapshot(settings: Settings, where: Filter | None = None) -> Iterator[Path]:
    """A state directory with the letters, those of other sinks than ``where`` wants left out. Raises
    UserError."""
    with TemporaryDirectory(prefix="ingestd-letters-") as directory:
        sink = where.sink if where else ""
        on_nats(settings, lambda connection: _copy_whole(connection, settings, Path(directory), sink))
        yield Path(directory)


async def _copy_whole(connection: NatsConnection, settings: Settings, directory: Path, sink: str) -> None:
    """A worker stores the letters of a request one after the other, and the next owner the rest if it dies.
    A request that is not whole yet must not be taken for one that is not whole any more."""
    clock = SystemClock()
    until = clock.monotonic() + _WHOLE_S
    with closing(connect(directory / FILE_NAME)) as rows:
        rows.execute("CREATE TABLE places (id INTEGER PRIMARY KEY, letter TEXT, named TEXT)")
        while True:
            await _copy(connection, settings, rows, sink)
            if rows.execute(_CUT).fetchone() is None or clock.monotonic() > until:
                return
            await clock.sleep(_AGAIN_S)
            for table in ("single_letters", "places"):
                rows.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours


async def _copy(connection: NatsConnection, settings: Settings, rows: sqlite3.Connection, sink: str) -> None:
    names = StreamNames(settings.spool.name)
    subject = names.letters_of(sink or "*")
    latest: dict[str, int] = {}
    async for messages in read_messages(connection, names.dead, subject, SystemClock()):
        letters = []
        for sequence, data in messages:
            with suppress(msgspec.DecodeError):  # not ours: it is left where it is
                letters.append((sequence, unpack(data)))
        rows.execute("BEGIN")
        _insert(rows, letters, latest)
        rows.execute("COMMIT")


def _insert(
    rows: sqlite3.Connection, letters: Sequence[tuple[int, StreamLetter]], latest: dict[str, int]
) -> None:
    """A stream from before letters had versions may keep several of one."""
    letter_rows.insert(rows, letters)
    places = [(number, one.id, one.now.named if one.now else one.reason) for number, one in letters]
    rows.executemany("INSERT INTO places VALUES (?, ?, ?)", places)
    for number, one in letters:
        if older := latest.get(one.where):
            rows.execute("DELETE FROM single_letters WHERE id = ?", (older,))
        latest[one.where] = number


def _changed(settings: Settings, where: Filter, work: Callable[[str], T]) -> T:
    """``work`` changes letters in a state directory; then it is so in the stream."""
    with snapshot(settings, where) as directory:
        with closing(connect(directory / FILE_NAME)) as rows:
            rows.execute("CREATE TABLE before AS SELECT * FROM letters")
        result = work(str(directory))
        on_nats(settings, lambda connection: write_back(connection, settings, directory / FILE_NAME))
        return result


def purge(
    settings: Settings, where: Filter, *, confirm: Callable[[int], object] | None = None
) -> PurgeResult:
    """``confirm`` is called with the number, and may raise."""
    return _changed(settings, where, lambda directory: letter_purge.purge(directory, where, confirm=confirm))


def park(settings: Settings, where: Filter) -> tuple[int, int]:
    """See ``letters.park``."""
    return _changed(settings, where, lambda directory: letter_park.park(directory, where))


def retry(
    settings: Settings,
    where: Filter,
    *,
    payload: bytes | None = None,
    edit: Edit | None = None,
    dry_run: bool = False,
) -> RetryResult:
    """Letters are marked, and the workers that own their shares send them; those of events that were rejected
    go into the spool as new ones. Raises UserError."""
    result = RetryResult(dry_run=dry_run, spool="" if dry_run else settings.spool.name)

    def mark(directory: str) -> None:
        marking = Marking(settings, Path(directory), where, payload, result, edit=edit)
        run_loop(lambda: marking.run(alone=False))

    everything = where if where.sink == UNROUTED else Filter(sink=where.sink)
    _changed(settings, everything, mark)
    if not result.selected:
        raise UserError("no such dead letters are waiting")
    return result
