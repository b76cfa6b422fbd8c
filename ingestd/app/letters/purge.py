"""Deletes dead letters for a person, and opens the audit file for what people do beside a service."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ingestd.app.event_loop import run_loop
from ingestd.app.letters.letters import find
from ingestd.app.state_place import directory_of
from ingestd.config.sections import AuditConfig
from ingestd.core.clock import SystemClock
from ingestd.core.errors import NotFound
from ingestd.core.units import counted
from ingestd.store import letter_leases
from ingestd.store.ballast import NAME as BALLAST
from ingestd.store.ballast import Ballast
from ingestd.store.chosen_letters import PurgeResult
from ingestd.store.connection import StoreBlocked, StoreFailed
from ingestd.store.database import Database
from ingestd.store.dead_letters import Filter
from ingestd.store.letter_changes import LetterChanges
from ingestd.store.lock import DirectoryInUse, DirectoryLock
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog
from ingestd.wiring.factories import open_audit


def purge(
    state_dir: str | None,
    where: Filter,
    *,
    confirm: Callable[[int], object] | None = None,
    who: str = "",
) -> PurgeResult:
    """What was deleted. Beside a process that uses the directory, what it is sending stays. On a full disk
    that process gives its ballast away; without one that is done here, and as much as fits is taken again.

    ``confirm`` is called with the number of letters, and may raise. ``who``: for the audit log. Raises
    UserError, also where letters are named and none of them is there; of a store that failed it says how many
    were deleted before.
    """
    now = SystemClock.wall()
    if not (count := _count(state_dir, where, now)):
        return PurgeResult()
    if confirm:
        confirm(count)
    directory, done = directory_of(state_dir), PurgeResult()
    failed: StoreFailed | None = None
    try:
        lock: DirectoryLock | None = DirectoryLock(directory)
    except DirectoryInUse:
        lock = None
    ballast = _ballast_of(directory)

    def more_room() -> bool:
        has_some = lock is not None and ballast.held_bytes > 0
        if has_some:
            ballast.drop()
        return has_some

    try:
        if lock:
            _release_leases(directory, more_room)
        with LetterChanges.open(directory, more_room=more_room) as changes:
            changes.purge(where, now=now, done=done)
    except KeyboardInterrupt:
        done.interrupted = True
    except StoreFailed as error:
        if not done.deleted:
            raise
        failed = StoreFailed(f"{counted(done.deleted, 'letter')} deleted, and then: {error}")
    finally:
        if lock:
            ballast.fill()
            lock.release()
    with beside_log(directory) as audit:
        audit(AuditEntry.LETTERS_PURGED, count=done.deleted, who=who or None)
    if failed:
        raise failed
    return done


def _count(state_dir: str | None, where: Filter, now: float) -> int:
    with find(state_dir, where, limit=0, now=now) as (_, count):
        if where.ids and not count:
            raise NotFound("there are no such dead letters")
        return count


def _ballast_of(directory: Path) -> Ballast:
    """As large as it is."""
    path = directory / BALLAST
    return Ballast(path, Ballast(path, 0).held_bytes)


def _release_leases(directory: Path, more_room: Callable[[], bool]) -> None:
    """No process has leased them: the lock was free."""

    async def release() -> None:
        database = Database(directory)
        try:
            await database.open()
            await database.run(letter_leases.release_leases)
        finally:
            await database.close()

    try:
        run_loop(release)
    except StoreBlocked as error:
        if not (error.full and more_room()):
            raise
        run_loop(release)


@contextmanager
def beside_log(directory: Path, config: AuditConfig | None = None) -> Iterator[AuditLog]:
    """The audit file, to add lines to; a long-running process rotates it."""
    audit = open_audit(config or AuditConfig(), directory, rotates=False)
    try:
        yield audit
    finally:
        audit.close()
