"""Parks dead letters: they are not sent again until a person wants it."""

from ingestd.app.letters.letters import find
from ingestd.app.letters.purge import beside_log
from ingestd.app.state_place import directory_of
from ingestd.core.clock import SystemClock
from ingestd.store.dead_letters import Filter
from ingestd.store.letter_changes import LetterChanges
from ingestd.telemetry.audit_entry import AuditEntry


def park(state_dir: str | None, where: Filter, *, who: str = "") -> tuple[int, int]:
    """(how many there are, how many of them would have been sent by themselves), beside a running service or
    without one. ``who``: for the audit log."""
    now, directory = SystemClock.wall(), directory_of(state_dir)
    with find(state_dir, where, limit=0, now=now) as (_, count):
        pass
    if not count:
        return 0, 0
    with LetterChanges.open(directory) as changes:
        parked = changes.park(where, now=now)
    with beside_log(directory) as audit:
        audit(AuditEntry.LETTERS_PARKED, count=parked, who=who or None)
    return count, parked
