"""``ingestd dlq retry | park | purge`` on a spool on JetStream: ``letters.py``, and a note of who did it."""

from collections.abc import Callable

from ingestd.app.cluster import letters
from ingestd.app.cluster.audit import noting
from ingestd.app.cluster.server_at_hand import at_hand
from ingestd.app.letters.correction import Edit
from ingestd.app.letters.retry_result import RetryResult
from ingestd.config import Settings
from ingestd.store.chosen_letters import PurgeResult
from ingestd.store.dead_letters import Filter
from ingestd.telemetry.audit_entry import AuditEntry


def purge(
    settings: Settings, where: Filter, *, confirm: Callable[[int], object] | None = None
) -> PurgeResult:
    """See ``letters.purge``."""
    with at_hand(settings), noting(settings) as audit:
        done = letters.purge(settings, where, confirm=confirm)
        if done.deleted:
            audit(AuditEntry.LETTERS_PURGED, count=done.deleted)
    return done


def park(settings: Settings, where: Filter) -> tuple[int, int]:
    """See ``letters.park``."""
    with at_hand(settings), noting(settings) as audit:
        selected, parked = letters.park(settings, where)
        if parked:
            audit(AuditEntry.LETTERS_PARKED, count=parked)
    return selected, parked


def retry(
    settings: Settings,
    where: Filter,
    *,
    payload: bytes | None = None,
    edit: Edit | None = None,
    dry_run: bool = False,
) -> RetryResult:
    """See ``letters.retry``."""
    if dry_run:
        with at_hand(settings):
            return letters.retry(settings, where, payload=payload, edit=edit, dry_run=True)
    with at_hand(settings), noting(settings) as audit:
        result = letters.retry(settings, where, payload=payload, edit=edit)
        if result.marked:
            edited = payload is not None or edit is not None
            audit(AuditEntry.LETTER_EDITED if edited else AuditEntry.LETTERS_REQUESTED, count=result.marked)
    return result
