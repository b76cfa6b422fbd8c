"""What the ``dlq`` commands do once their words are parsed; ``retry`` is in ``retry.py``."""

import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO

from ingestd.app.event_loop import run_loop
from ingestd.app.letters.shape import Fields, as_dict, group_as_dict
from ingestd.config import load
from ingestd.config.sections import AuditConfig
from ingestd.core import units
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.store import letter_leases
from ingestd.store.connection import FILE_NAME
from ingestd.store.database import Database
from ingestd.store.dead_letters import Filter, StoredLetter
from ingestd.store.letter_changes import LetterChanges, PurgeResult
from ingestd.store.letter_reader import LetterReader
from ingestd.store.lock import DirectoryInUse, DirectoryLock
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog
from ingestd.wiring.open_audit import open_audit


def make_filter(
    *,
    ids: Sequence[int] = (),
    sink: str | None = None,
    reason: str | None = None,
    fingerprint: str | None = None,
    state: str = "waiting",
    older: str | None = None,
    newer: str | None = None,
) -> Filter:
    """Raises UserError for an invalid duration."""
    try:
        older_s = units.seconds(older) if older else None
        newer_s = units.seconds(newer) if newer else None
    except ValueError as error:
        raise UserError(str(error)) from None
    return Filter(
        tuple(ids), reason or "", fingerprint or "", "all" if ids else state, older_s, newer_s, sink or ""
    )


def directory_of(state_dir: str | None) -> Path:
    """The state directory: as given, or the only one there is. Raises UserError."""
    if not state_dir:
        settings = load(None, {})
        state_dir = settings.state.dir
    if state_dir:
        directory = Path(state_dir)
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "ingestd"
        found = [path.parent for path in base.glob(f"*/{FILE_NAME}")]
        if len(found) > 1:
            names = ", ".join(str(path) for path in found)
            raise UserError(f"there are several state directories: choose one with --state-dir ({names})")
        directory = found[0] if found else base
    if not (directory / FILE_NAME).exists():
        raise UserError(
            f"there is no {FILE_NAME} in {directory}: name the state directory of the replay, or of the"
            " service, with --state-dir"
        )
    return directory


@asynccontextmanager
async def _reader(state_dir: str | None) -> AsyncIterator[LetterReader]:
    directory = directory_of(state_dir)
    try:
        async with LetterReader.open(directory) as reader:
            yield reader
    except sqlite3.Error as error:
        raise UserError(f"cannot read {directory / FILE_NAME}: {error}") from None


def find(state_dir: str | None, where: Filter, *, limit: int) -> tuple[list[Fields], int]:
    """The first ``limit`` letters (see ``as_dict``), and how many there are."""

    async def read() -> tuple[list[Fields], int]:
        async with _reader(state_dir) as reader:
            now = SystemClock.wall()
            found = [as_dict(letter) async for letter in reader.letters(where, now, limit=limit)]
            return found, sum(group[1] for group in await reader.groups(where, now))

    return run_loop(read)


def groups(state_dir: str | None, where: Filter) -> list[Fields]:
    """Like failures: ``fingerprint``, ``count``, ``first_failed``, ``last_failed``, ``example`` (an id)."""

    async def read() -> list[Fields]:
        async with _reader(state_dir) as reader:
            return [group_as_dict(group) for group in await reader.groups(where, SystemClock.wall())]

    return run_loop(read)


def payload(state_dir: str | None, number: int) -> bytes:
    """Raises UserError."""
    return _get(state_dir, number)[0].payload


def get(state_dir: str | None, number: int) -> Fields:
    """See ``as_dict``. Raises UserError."""
    return as_dict(*_get(state_dir, number))


def _get(state_dir: str | None, number: int) -> tuple[StoredLetter, str]:

    async def read() -> tuple[StoredLetter | None, str]:
        async with _reader(state_dir) as reader:
            where = Filter(ids=(number,), state="all")
            found = [letter async for letter in reader.letters(where, SystemClock.wall())]
            sources = await reader.sources()
            return (found[0], sources.get(found[0].source, "")) if found else (None, "")

    letter, source = run_loop(read)
    if letter is None:
        raise UserError(f"there is no dead letter {number}")
    return letter, source


def export(state_dir: str | None, where: Filter, stream: BinaryIO, *, as_json: bool) -> tuple[int, int]:
    """(letters written, how many had line breaks in them, which NDJSON cannot hold). Raises OSError of
    ``stream``."""

    async def write() -> tuple[int, int]:
        number = bent = 0
        async with _reader(state_dir) as reader:
            found = reader.letters(where, SystemClock.wall())
            async with aclosing(found):  # also when nobody reads on: it must end before its connection
                async for letter in found:
                    line = json.dumps(as_dict(letter)).encode() if as_json else letter.payload
                    bent += b"\n" in line or b"\r" in line
                    stream.write(line.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
                    number += 1
            stream.flush()
        return number, bent

    return run_loop(write)


def purge(
    state_dir: str | None, where: Filter, *, confirm: Callable[[int], object] | None = None
) -> PurgeResult:
    """What was deleted. Beside a process that uses the directory, what it is sending stays.

    ``confirm`` is called with the number of letters, and may raise.
    """
    count = find(state_dir, where, limit=1)[1]
    if not count:
        return PurgeResult()
    if confirm:
        confirm(count)
    directory, now, done = directory_of(state_dir), SystemClock.wall(), PurgeResult()
    try:
        lock: DirectoryLock | None = DirectoryLock(directory)
    except DirectoryInUse:
        lock = None
    try:
        if lock:
            run_loop(lambda: _release_leases(directory))
        with LetterChanges.open(directory) as changes:
            changes.purge(where, now=now, done=done)
    except KeyboardInterrupt:
        done.interrupted = True
    finally:
        if lock:
            lock.release()
    with beside_log(directory) as audit:
        audit(AuditEntry.LETTERS_PURGED, count=done.deleted)
    return done


async def _release_leases(directory: Path) -> None:
    """Nobody has them: the lock was free."""
    database = Database(directory)
    try:
        await database.open()
        await database.run(letter_leases.release_leases)
    finally:
        await database.close()


@contextmanager
def beside_log(directory: Path, config: AuditConfig | None = None) -> Iterator[AuditLog]:
    """The audit file, to add to: whoever writes it for long is the one that rotates it."""
    audit = open_audit(config or AuditConfig(), directory, rotates=False)
    try:
        yield audit
    finally:
        audit.close()
