"""What people see of single events: samples as they pass (the tap), and where one is (the trail)."""

from collections.abc import Sequence
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING

from ingestd.config.sections import TrailConfig
from ingestd.core.chunk import Batch, packed_keys
from ingestd.core.reasons import Reason
from ingestd.core.receipt import Digests
from ingestd.core.sequences import pick
from ingestd.delivery.recorder import Outcomes
from ingestd.store.journal import Journal
from ingestd.store.trail import INSERT, MAX_INFO, trim
from ingestd.store.writer import Work

if TYPE_CHECKING:
    from ingestd.telemetry.tap import Tap
    from ingestd.telemetry.tracing import Spans


class EventTrace:
    """Called for chunks and batches, never for each event. Without ``open`` there is no trail. ``spans``:
    None where nothing is traced."""

    def __init__(self, tap: "Tap", spans: "Spans | None" = None) -> None:
        self.tap, self.spans = tap, spans
        self._config = TrailConfig(max_age=0)

    def open(self, journal: Journal, config: TrailConfig) -> None:
        """``config.max_age`` of 0: no trail."""
        self._journal = journal
        self._config = config

    def accepting(self, digests: Digests, owners: Sequence[tuple[str, int]], now: float) -> Work | None:
        """What is written with events that are accepted. ``owners``: (producer, how many with a key)."""
        if not self._config.max_age or not (packed := packed_keys(digests)):
            return None
        row = now, "accepted", "", "", owners_of(owners), packed
        return methodcaller("execute", INSERT, row)

    def submitted(
        self,
        chunks: Sequence[Sequence[bytes]],
        copies: Sequence[bytes],
        refused: Sequence[tuple[bytes, Reason, str, str]],
    ) -> None:
        """For a tap: called only while one is open."""
        for events in chunks:
            self.tap.show("accepted", events)
        self.tap.show("duplicate", copies)
        for event, reason, detail, _ in refused:
            self.tap.show("rejected", [event], why=f"{reason}: {detail}")

    def resolved(self, batch: Batch, sink: str, outcomes: Outcomes, now: float) -> None:
        """What became of a batch, at its end."""
        delivered, events, digests = outcomes.delivered, batch.events, batch.digests
        failed = [(one.index, f"{one.reason}: {one.detail}") for one in outcomes.failed]
        if self._config.max_age:
            if delivered:
                whole = len(delivered) == len(events)
                keys = digests if whole else pick(digests, delivered)
                what = "taken" if outcomes.remote_ids else "delivered"
                if packed := packed_keys(keys):
                    self._journal.trail((now, what, sink, batch.id, str(batch.attempts), packed))
            for index, why in failed:
                if key := digests[index]:
                    self._journal.trail((now, "dead_lettered", sink, batch.id, why[:MAX_INFO], key))
            if outcomes.dropped and (packed := packed_keys(pick(digests, outcomes.dropped))):
                self._journal.trail((now, "dropped", sink, "", "0", packed))
        if self.tap.open:
            self.tap.show("dropped", [events[index] for index in outcomes.dropped], sink=sink)
            self.tap.show("delivered", [events[index] for index in delivered], sink=sink, batch=batch.id)
            for index, why in failed:
                self.tap.show("dead_lettered", [events[index]], sink=sink, batch=batch.id, why=why)

    def trim(self, now: float) -> None:
        """Forget what is too old or too much."""
        config = self._config
        self._journal.note(partial(trim, not_before=now - config.max_age, max_bytes=config.max_bytes))


def owners_of(owners: Sequence[tuple[str, int]], limit: int = MAX_INFO) -> str:
    """``name*count`` a line, or one name; more than ``limit`` characters: the names alone, as many as fit."""
    runs: list[tuple[str, int]] = []
    for name, count in owners:
        if runs and runs[-1][0] == name:
            runs[-1] = name, runs[-1][1] + count
        elif count:
            runs.append((name, count))
    if len(runs) < 2:
        return runs[0][0] if runs else ""
    text = "\n".join(f"{name}*{count}" for name, count in runs)
    if len(text) <= limit:
        return text
    return ", ".join(sorted({name or "anonymous" for name, _ in runs}))[:limit]
