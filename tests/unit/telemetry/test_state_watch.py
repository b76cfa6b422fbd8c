"""What stands still is told with its reason, each time that it changes, and again while it lasts; no
flood."""

from typing import Any

import msgspec

from ingestd.core.clock import SystemClock
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.refusals import MAX_KINDS, MAX_NAMES, WINDOW_S, RefusalCounts, Refusals
from ingestd.telemetry.state_watch import StateWatch


class Told(SystemClock):
    """A log, an audit file and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.lines: list[str] = []
        self.fields: list[dict[str, Any]] = []
        self.entries: list[dict[str, Any]] = []
        self.states = StateWatch(print, self, report=self.report, audit=self.audit, remind_s=300.0)
        self.refusals = Refusals(self.report, self.audit, self)

    def monotonic(self) -> float:  # type: ignore[override]
        return self.now

    def report(self, words: str, /, *, well: bool, **fields: Any) -> None:
        self.lines.append(f"{'+' if well else '-'} {words}")
        self.fields.append(fields)

    def audit(self, entry: AuditEntry, /, **fields: Any) -> None:
        self.entries.append({"entry": str(entry), **fields})

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines

    def after(self, seconds: float) -> list[str]:
        self.now += seconds
        self.states.look()
        self.refusals.look()
        return self.take()


def test_each_state_and_each_reason_is_told_once_with_its_status_and_words() -> None:
    told = Told()
    for state, why in (
        ("open", '500 {"code":"busy","message":"try later","traceId":"7"}'),
        ("open", '500 {"code":"busy","message":"try later","traceId":"8"}'),
        ("open", '503 {"code":"busy","message":"try later"}'),
        ("paused", "403 forbidden"),
        ("paused", "401 who are you?"),
    ):
        told.states.degraded("crm", state, why, what="sending fails")
        told.now += 10
    assert told.take() == [
        "- crm: sending fails: 500 code: busy, message: try later, traceId: 7",
        "- crm: sending fails: 503 code: busy, message: try later",
        "- crm: sending fails: 403 forbidden",
        "- crm: sending fails: 401 who are you?",
    ]
    assert [(one["entry"], one["state"], one["status"], one["reason"]) for one in told.entries] == [
        ("LANE_CHANGED", "open", 500, "code: busy, message: try later, traceId: 7"),
        ("LANE_CHANGED", "open", 503, "code: busy, message: try later"),
        ("LANE_CHANGED", "paused", 403, "forbidden"),
        ("LANE_CHANGED", "paused", 401, "who are you?"),
    ]
    told.states.recovered("crm", "closed", "it answers again")
    told.states.recovered("crm", "closed", "it answers again")
    assert told.take() == ["+ crm: it answers again (after 50s)"]


def test_what_is_stuck_is_told_again_every_few_minutes_with_how_much_waits() -> None:
    told, waiting = Told(), [3460]
    words = {"what": "sending fails", "waiting": lambda: f"{waiting[0]:,} events wait"}
    told.states.degraded("crm", "open", "503", **words)  # type: ignore[arg-type]
    told.take()
    assert told.after(299) == []
    assert told.after(1) == ["- crm: sending fails, for 5m, 3,460 events wait: 503"]
    told.states.degraded("crm", "open", "503", **words)  # type: ignore[arg-type]
    assert told.after(299) == []
    waiting[0] = 9000
    assert told.after(121) == ["- crm: sending fails, for 12m, 9,000 events wait: 503"]
    told.states.recovered("crm", "closed", "it answers")
    told.take()
    assert told.after(1000) == []


def test_readiness_is_told_when_it_goes_and_when_it_comes_back() -> None:
    told, trouble = Told(), list[str]()
    told.states.add_check("spool", lambda: trouble[0] if trouble else None)
    told.states.degraded("spool", "open", "503", what="a sink of that name fails")
    told.take()
    for held in (101, 102, 103):
        trouble[:] = [f"holds {held} of 100 bytes"]
        told.states.look()
    trouble.clear()
    assert told.after(60) == [
        "- spool: producers are told to wait: holds 101 of 100 bytes",
        "+ spool: producers are welcome again (after 1m)",
    ]
    changed = [one for one in told.entries if one["entry"] == "READINESS_CHANGED"]
    assert [(one["condition"], one["state"]) for one in changed] == [
        ("spool", "not ready"),
        ("spool", "ready"),
    ]


def test_a_refused_producer_is_told_at_once_and_then_counted_once_a_minute() -> None:
    told = Told()
    for number in range(582):
        told.refusals.note("orders", "10.0.0.7", 429, f"the spool holds {number} of 9 bytes")
    told.refusals.note("", "10.0.0.9", 401, "the token is not known")
    assert told.take() == [
        "- refused: producer orders (10.0.0.7): 429 the spool holds 0 of 9 bytes",
        "- refused: 10.0.0.9: 401 the token is not known",
    ]
    assert told.after(WINDOW_S) == [
        "- refused: producer orders (10.0.0.7): 429 the spool holds 581 of 9 bytes, 581 times in 1m"
    ]
    assert [one.times for one in told.refusals.recent] == [582, 1]
    of_status = msgspec.to_builtins(list(told.refusals.recent))
    assert [(one["producer"], one["times"], one["untold"]) for one in of_status] == [
        ("orders", 582, 0),
        ("", 1, 0),
    ]
    assert told.refusals.counts == {"orders": RefusalCounts(0, 582), "": RefusalCounts(1, 0)}
    assert told.after(WINDOW_S) == []
    told.refusals.note("orders", "10.0.0.7", 429, "the spool holds 1 of 9 bytes")
    assert len(told.take()) == 1, "after a quiet minute it is news again"


def test_refusals_from_everywhere_are_bounded() -> None:
    told = Told()
    for number in range(10_000):
        told.refusals.note(f"{number}", f"10.0.{number >> 8}.{number & 255}", 401, "no" * 5000)
    lines = told.take() + told.after(WINDOW_S)
    assert len(lines) == MAX_KINDS + 1
    assert lines[-1] == f"- refused: others: of other kinds, {10_000 - MAX_KINDS:,} times in 1m"
    assert (len(told.refusals.recent), len(told.refusals.counts)) == (MAX_KINDS, MAX_NAMES)
    assert max(map(len, lines)) < 300
