"""Events of one sink that its API had accepted, and of which it says later what became of them.

The status poller's recorder, beside that of the lane (``sink_recorder.py``).
"""

from collections.abc import Sequence
from functools import partial

from ingestd.core.clock import Clock
from ingestd.core.ledger import SinkLedger
from ingestd.core.letter import DeadLetter, Form
from ingestd.recording.event_recorder import EventRecorder
from ingestd.recording.outcome_journal import OutcomeJournal, ToLake
from ingestd.recording.unconfirmed_events import UnconfirmedRow
from ingestd.store.confirmations import Due, Pending
from ingestd.store.dead_letters import mark_keys_released
from ingestd.telemetry.audit_entry import Audit, AuditEntry


class ConfirmedEvents:
    """``ledger``: the sink's; ``keep``, ``transforms``: see ``SinkRecorder``."""

    def __init__(
        self,
        sink: str,
        ledger: SinkLedger,
        events: EventRecorder,
        journal: OutcomeJournal,
        audit: Audit,
        clock: Clock,
        *,
        keep: ToLake | None,
        transforms: bool,
    ) -> None:
        self._sink = sink
        self._ledger = ledger
        self._events = events
        self._journal = journal
        self._audit = audit
        self._clock = clock
        self._keep = keep
        self._form = Form.TRANSFORMED if transforms else Form.AS_IT_CAME

    @property
    def keeps(self) -> bool:
        """Whether a lake wants the events that are delivered."""
        return self._keep is not None

    def confirmed(self, sink: str, event: Due, whole: Pending | None) -> None:
        """An event that the API had accepted is delivered. ``whole``: where it is kept."""
        self._ledger.confirming -= 1
        self._ledger.in_flight -= 1
        self._ledger.delivered += 1
        self._events.unconfirmed.resolve((event.batch, event.source, event.offset))
        if self._keep and whole and whole.intact and (kept := self._keep([whole.payload], whole.batch, 0.0)):
            self._journal.note(kept)
        self._audit(AuditEntry.BATCH_DELIVERED, sink=self._sink, request_id=event.batch, events=1)

    def confirmation_failed(self, sink: str, letter: DeadLetter) -> None:
        """Accepted, and failed or not confirmed in time. Its key is free again if no other sink has it."""
        lost = self._events.unconfirmed.resolve((letter.batch, letter.source, letter.offset), letter)
        key_released = lost and letter.digest is not None
        letter = letter._replace(sink=self._sink, key_released=key_released, form=self._form)
        self._journal.dead_letters([letter], now=self._clock.wall())
        self._ledger.confirming -= 1
        self._ledger.in_flight -= 1
        self._ledger.dead_lettered += 1
        if key_released:
            self._events.free([letter.digest])
            self._journal.note(partial(mark_keys_released, letters=[letter]))  # those of other sinks, too
        self._audit(
            AuditEntry.DEAD_LETTERED,
            sink=self._sink,
            request_id=letter.batch,
            count=1,
            reason=letter.reason,
            error=letter.detail,
        )

    def still_unconfirmed(self, rows: Sequence[UnconfirmedRow]) -> None:
        """At the start: an earlier process left these."""
        self._ledger.routed += len(rows)
        self._ledger.in_flight += len(rows)
        self._ledger.confirming += len(rows)
        self._events.unconfirmed.left(rows)
