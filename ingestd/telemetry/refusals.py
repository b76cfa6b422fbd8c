"""Who was refused, from where and why: the first time at once, then once a minute with counts.

Bounded, whatever hostile clients do: a limited number of kinds is told apart in a minute, the rest are
counted together.
"""

from collections import deque

import msgspec

from ingestd.core.clock import Clock
from ingestd.core.text import cut
from ingestd.core.units import human_seconds
from ingestd.telemetry.audit_entry import Audit, AuditEntry
from ingestd.telemetry.repeats import template
from ingestd.telemetry.state_watch import LogState

WINDOW_S = 60.0
THROTTLED = frozenset({429, 503})
"""Statuses that tell a producer to come again."""
MAX_NAMES = 250
"""Producers that are told apart, for good."""
MAX_KINDS = 50
"""That are told apart in one window, and that are remembered for people who ask later."""


class RefusalCounts(msgspec.Struct):
    """Requests of one producer."""

    refused: int = 0
    throttled: int = 0


class RefusalKind(msgspec.Struct, rename={"unreported": "untold"}):
    """``producer``: by its name, if that is known. ``at``: wall time of the last one. ``times``: all in
    all. ``unreported``: since the last line of the log; ``unannounced`` in ``/v1/status``."""

    producer: str
    address: str
    status: int
    why: str
    at: float
    times: int = 1
    unreported: int = 0


class Refusals:
    """``note`` each; ``look`` is called about once a second. ``recent``: the last ones, the latest last.
    ``counts``: by name of the producer, empty where none was shown."""

    def __init__(self, report: LogState, audit: Audit, clock: Clock) -> None:
        self.recent: deque[RefusalKind] = deque(maxlen=MAX_KINDS)
        self.counts: dict[str, RefusalCounts] = {}
        self._report = report
        self._audit = audit
        self._clock = clock
        self._since = clock.monotonic()
        self._kinds: dict[tuple[str, str, int, str], RefusalKind] = {}
        self._others = 0

    def note(self, producer: str, address: str, status: int, why: str) -> None:
        """A request was answered with this status. ``why`` holds no secret."""
        counts = self.counts.get(producer)
        if counts is None and len(self.counts) < MAX_NAMES:
            counts = self.counts[producer] = RefusalCounts()
        if counts is not None and status in THROTTLED:
            counts.throttled += 1
        elif counts is not None:
            counts.refused += 1
        key = producer, address, status, template(why)
        now = self._clock.wall()
        if known := self._kinds.get(key):
            known.times += 1
            known.unreported += 1
            known.at, known.why = now, why
        elif len(self._kinds) >= MAX_KINDS:
            self._others += 1
        else:
            self._kinds[key] = one = RefusalKind(producer, address, status, cut(why), now)
            self.recent.append(one)
            self._report_kind(one, 1, "")

    def look(self) -> None:
        """At the end of a window: how many more there were."""
        lasted_s = self._clock.monotonic() - self._since
        if lasted_s < WINDOW_S:
            return
        self._since = self._clock.monotonic()
        over = f" in {human_seconds(lasted_s)}"
        for key, one in list(self._kinds.items()):
            if one.unreported:
                self._report_kind(one, one.unreported, over)
                one.unreported = 0
            else:
                del self._kinds[key]
        if self._others:
            self._report_kind(RefusalKind("", "", 0, "of other kinds", 0.0), self._others, over)
            self._others = 0

    def _report_kind(self, one: RefusalKind, count: int, over: str) -> None:
        who = f"producer {one.producer} ({one.address})" if one.producer else one.address or "others"
        status = f"{one.status} " if one.status else ""
        times = f", {count:,} times{over}" if over else ""
        fields: dict[str, str | int] = {"producer": one.producer, "address": one.address}
        fields |= {"status": one.status, "count": count}
        given = {name: value for name, value in fields.items() if value}
        self._audit(AuditEntry.PRODUCER_REFUSED, **given, reason=one.why)
        self._report(f"refused: {who}: {status}{one.why}{times}", well=False, **given)
