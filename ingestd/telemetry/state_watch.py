"""Says why something stands still, each time that the reason changes, and again while it lasts: to log and
audit.

The one place for that. Sinks and lakes tell their states as they change; whether producers are welcome is
looked at about once a second.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from ingestd.core.clock import Clock
from ingestd.core.text import answer_words, shape, status_and_words
from ingestd.core.units import human_seconds
from ingestd.telemetry.audit_entry import Audit, AuditEntry, no_audit
from ingestd.telemetry.log_line import Field

REMIND_S = 300.0
"""How long something is stuck before that is said again."""

Waiting = Callable[[], str]
"""How much waits for it, in words: ``3,460 events wait``; empty: nothing that could be counted."""


def _nothing() -> str:
    return ""


class LogState(Protocol):
    """Writes a line to the log. ``well``: it is good news."""

    def __call__(self, words: str, /, *, well: bool, **fields: Field) -> None: ...


class BadState(msgspec.Struct):
    """``what``: what it means, in words; ``why``: an API's answer, or the reason. Times are monotonic."""

    state: str
    what: str
    why: str
    since: float
    reported_at: float
    waiting: Waiting


class StateWatch:
    """``degraded`` and ``recovered`` may be called as often as one likes: only what is new is said. ``look``
    is called about once a second. ``warn`` is called with words, or ``report`` with fields, too."""

    def __init__(
        self,
        warn: Callable[[str], None],
        clock: Clock,
        *,
        report: LogState | None = None,
        audit: Audit = no_audit,
        remind_s: float = REMIND_S,
    ) -> None:
        self._warn = warn
        self._fields_too = report
        self._clock = clock
        self._audit = audit
        self._remind_s = remind_s
        self._checks: dict[str, tuple[Callable[[], str | None], Waiting]] = {}
        self._bad: dict[tuple[AuditEntry, str], BadState] = {}

    def add_check(self, name: str, check: Callable[[], str | None], waiting: Waiting = _nothing) -> None:
        """``check`` says why producers are not welcome, or None."""
        self._checks[name] = check, waiting

    def degraded(
        self,
        name: str,
        state: str,
        why: str,
        *,
        what: str,
        waiting: Waiting = _nothing,
        entry: AuditEntry = AuditEntry.LANE_CHANGED,
        **fields: Field,
    ) -> None:
        """``name`` is in this state. What differs in numbers only is not another reason."""
        now, key = self._clock.monotonic(), (entry, name)
        known, one = self._bad.get(key), BadState(state, what, why, now, now, waiting)
        self._bad[key] = one
        if known:
            one.since = known.since
            if (known.state, shape(known.why)) == (state, shape(why)):
                one.reported_at = known.reported_at
                return
        details: dict[str, Field] = {_kind(entry): name, "state": state, **_reason(why), **fields}
        self._audit(entry, **details)
        self._log(f"{name}: {what}: {answer_words(why)}", well=False, **details)

    def recovered(
        self,
        name: str,
        state: str,
        words: str,
        *,
        entry: AuditEntry = AuditEntry.LANE_CHANGED,
    ) -> None:
        """``name`` works again. That a lake does is told by the lines of what it has written."""
        key = entry, name
        if one := self._bad.pop(key, None):
            lasted_s = self._clock.monotonic() - one.since
            details: dict[str, Field] = {_kind(entry): name, "state": state, "seconds": round(lasted_s, 1)}
            if entry is not AuditEntry.DATA_LAKE_SYNC:
                self._audit(entry, **details)
            self._log(f"{name}: {words} (after {human_seconds(lasted_s)})", well=True, **details)

    def forget(self, name: str, *, entry: AuditEntry = AuditEntry.LANE_CHANGED) -> None:
        """Nobody here knows any more how ``name`` is: what comes next is news."""
        self._bad.pop((entry, name), None)

    def _log(self, words: str, /, *, well: bool, **fields: Field) -> None:
        if self._fields_too:
            self._fields_too(words, well=well, **fields)
        else:
            self._warn(words)

    def look(self) -> None:
        """Look at the checks, and remind of what is stuck."""
        for name, (check, waiting) in self._checks.items():
            if why := check():
                what = "producers are told to wait"
                self.degraded(name, "not ready", why, what=what, waiting=waiting, entry=_READINESS)
            else:
                self.recovered(name, "ready", "producers are welcome again", entry=_READINESS)
        now = self._clock.monotonic()
        for (entry, name), one in self._bad.items():
            if now - one.reported_at >= self._remind_s:
                one.reported_at = now
                lasted_s, count = now - one.since, one.waiting()
                words = f"{one.what}, for {human_seconds(lasted_s)}{count and f', {count}'}"
                details: dict[str, Field] = {_kind(entry): name, "state": one.state, **_reason(one.why)}
                details["seconds"] = round(lasted_s)
                self._log(f"{name}: {words}: {answer_words(one.why)}", well=False, **details)


_READINESS = AuditEntry.READINESS_CHANGED


def _kind(entry: AuditEntry) -> str:
    """The field that has the name."""
    return "condition" if entry is _READINESS else "sink"


def _reason(why: str) -> dict[str, Field]:
    status, words = status_and_words(why)
    return {"status": status, "reason": words} if status else {"reason": words}
