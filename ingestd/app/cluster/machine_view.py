"""What the processes of a machine say, as one service: for ``top`` and the console."""

import os
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import msgspec

from ingestd import __version__
from ingestd.admin.read_model import Charts, Overview, ProducerView, Rates, SinkView, SpoolView
from ingestd.cluster.parked_sinks import Parked
from ingestd.core.clock import Clock
from ingestd.core.redaction import redact_tree
from ingestd.telemetry.cluster_metrics import OUTCOMES
from ingestd.telemetry.history import History, quantile
from ingestd.telemetry.metrics import ATTEMPT_BOUNDS
from ingestd.telemetry.refusals import MAX_KINDS
from ingestd.telemetry.repeats import template

_NOW_S, _TREND_S, _FEW_MINUTES_S, _HOUR_S = 10.0, 30.0, 300.0, 3600.0
_FRESH_S = 5.0
"""Longer than a look at all processes takes: what somebody did here is newer than what they say."""
_RANK = {"closed": 0, "open": 1, "paused": 2}


class ProcessStatus(msgspec.Struct, frozen=True):
    """``starts``: how often it was started; ``status``: its ``/v1/status``, empty: it did not answer."""

    name: str
    kind: str
    starts: int
    status: Mapping[str, Any]


class SpoolFigures(msgspec.Struct, frozen=True):
    """Of the streams; ``parked``: sinks that persons have set aside, since when."""

    bytes: int = 0
    max_bytes: int = 0
    letters: int = 0
    parked: Mapping[str, float] = {}


class CountsState(msgspec.Struct):
    """``now``: by process and series, for the how many-th time the process was started, and what it says;
    ``before``: by series what those had counted that have died."""

    now: dict[tuple[str, str], tuple[int, float]] = {}
    before: dict[str, float] = {}


class CarriedCounts:
    """Counters of processes that begin at 0 when they are started again: what they had counted stays.
    ``state``: what to go on from."""

    def __init__(self, state: CountsState | None = None) -> None:
        self._state = state or CountsState()

    def note(self, process: str, starts: int, name: str, value: float) -> None:
        now, before = self._state.now, self._state.before
        known = now.get((process, name))
        if known and known[0] != starts:
            before[name] = before.get(name, 0.0) + known[1]
        now[process, name] = starts, value

    def totals(self) -> dict[str, float]:
        found = dict(self._state.before)
        for (_, name), (_, value) in self._state.now.items():
            found[name] = found.get(name, 0.0) + value
        return found


class MergedRefusals:
    """The last kinds of refused requests of all edges, of those that died, too."""

    def __init__(self) -> None:
        self._now: dict[str, tuple[int, Sequence[Mapping[str, Any]]]] = {}
        self._before: deque[Mapping[str, Any]] = deque(maxlen=MAX_KINDS)

    def note(self, process: str, starts: int, refused: Sequence[Mapping[str, Any]]) -> None:
        known = self._now.get(process)
        if known and known[0] != starts:
            self._before.extend(known[1])
        self._now[process] = starts, refused

    def latest_first(self) -> list[dict[str, Any]]:
        return merged([*self._before, *(one for _, refused in self._now.values() for one in refused)])


def merged(refused: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The latest first; of the same producer, address, status and reason as one."""
    found: dict[tuple[object, ...], dict[str, Any]] = {}
    for one in sorted(refused, key=lambda one: float(one["at"])):
        key = one["producer"], one["address"], one["status"], template(one["why"])
        older = found.pop(key, {"times": 0, "untold": 0})
        counts = {name: older[name] + one[name] for name in ("times", "untold")}
        found[key] = {**one, **counts}
    return [*reversed(found.values())][:MAX_KINDS]


class MachineView:
    """``note`` what was told, about once a second. ``directory``: of the state; ``started``: the service
    (wall time; None: now); ``counts``: what to go on from."""

    def __init__(
        self,
        clock: Clock,
        directory: str,
        *,
        started: float | None = None,
        counts: CountsState | None = None,
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._started = clock.wall() if started is None else started
        self._history = History()
        self._counts = CarriedCounts(counts)
        self.refusals = MergedRefusals()
        self._statuses: Sequence[ProcessStatus] = ()
        self._reasons: Sequence[str] = ("it is starting",)
        self._spool = SpoolFigures()
        self._totals: dict[str, float] = {}
        self._sinks_of: dict[str, list[str]] = {}
        self._parked: dict[str, float] = {}
        self._just_parked: dict[str, tuple[float, Parked]] = {}

    def note_parked(self, sink: str, now: Parked) -> None:
        """Somebody has just parked a sink, or resumed it: what processes said before is older."""
        _, known = self._just_parked.get(sink, (0.0, Parked()))
        self._just_parked[sink] = self._clock.monotonic(), max(known, now, key=lambda one: one.number)
        self._show_parked(self._parked)

    def _show_parked(self, found: Mapping[str, float]) -> None:
        """``found``, but for what somebody has changed just now."""
        shown, now = dict(found), self._clock.monotonic()
        self._just_parked = {sink: one for sink, one in self._just_parked.items() if now - one[0] <= _FRESH_S}
        for sink, (_, one) in self._just_parked.items():
            shown.pop(sink, None)
            if one.at:
                shown[sink] = one.at
        self._parked = shown

    def _look_at_parked(self, statuses: Sequence[ProcessStatus], spool: SpoolFigures) -> None:
        """As workers say, and where none does as it stands in the spool."""
        reported = [
            (one["name"], one["parked"])
            for each in statuses
            if each.status.get("worker", {}).get("connected")
            for one in each.status["sinks"]
        ]
        found = {sink: at for sink, at in spool.parked.items() if sink not in dict(reported)}
        found |= {sink: at for sink, at in reported if at}
        self._show_parked(found)

    def note(self, statuses: Sequence[ProcessStatus], reasons: Sequence[str], spool: SpoolFigures) -> None:
        """``reasons``: why producers should not send here."""
        self._statuses, self._reasons, self._spool = statuses, reasons, spool
        self._look_at_parked(statuses, spool)
        for one in statuses:
            if "sinks" in one.status:
                self._sinks_of[one.name] = [sink["name"] for sink in one.status["sinks"]]
            for name, value in _counters(one.status):
                self._counts.note(one.name, one.starts, name, value)
            if "refused" in one.status:
                self.refusals.note(one.name, one.starts, one.status["refused"])
        self._totals = self._counts.totals()
        now = self._clock.monotonic()
        if self._history.due(now):
            values = self._totals | {"spool": spool.bytes}
            values["delivered"] = sum(count for name, count in values.items() if name.startswith("sink "))
            self._history.add(now, self._clock.wall(), values)

    def overview(self) -> Overview:
        shares = [share for one in self._statuses for share in one.status.get("shares", ())]
        ledger = dict.fromkeys(("accepted", *OUTCOMES, "in_flight"), 0)
        for share in shares:
            for name in ledger:
                ledger[name] += share["ledger"].get(name, 0)
        configs = [one.status.get("config") or {} for one in self._statuses]
        return Overview(
            version=__version__,
            pid=os.getppid(),
            state="running" if any(one.status for one in self._statuses) else "starting",
            started=self._started,
            now=self._clock.wall(),
            ready=not self._reasons,
            reasons=redact_tree([*self._reasons]),
            directory=self._directory,
            accepted=self._rates("accepted"),
            delivered=self._rates("delivered"),
            ledger=ledger,
            spool=self._spool_view(shares, ledger["in_flight"]),
            sinks=[self._sink(name, shares) for name in self.sinks],
            producers=[self._producer(name) for name in self._producers],
            letters={"waiting": self._spool.letters},
            needs_restart=sorted({name for one in configs for name in one.get("needs_restart") or ()}),
            reload_error=next((one["last_error"] for one in configs if one.get("last_error")), None),
        )

    def charts(self) -> Charts:
        history = self._history
        return Charts(
            times=history.times(),
            accepted=history.rates("accepted"),
            delivered={name: history.rates(f"sink {name}") for name in self.sinks},
            spool_bytes=history.values("spool"),
        )

    @property
    def sinks(self) -> list[str]:
        """That workers send to, as each said last: not those that were taken out of the configuration, which
        stay in the sums."""
        return sorted({name for names in self._sinks_of.values() for name in names})

    def _named(self, kind: str) -> list[str]:
        return sorted(name.removeprefix(kind) for name in self._totals if name.startswith(kind))

    def _rates(self, name: str) -> Rates:
        now, minutes, hour = (
            round(self._history.rate(name, span), 2) for span in (_NOW_S, _FEW_MINUTES_S, _HOUR_S)
        )
        return Rates(now=now, five_minutes=minutes, hour=hour)

    def _producer(self, name: str) -> ProducerView:
        accepted, refused, throttled = (
            int(self._totals.get(f"{what} {name}", 0)) for what in ("producer", "refused", "throttled")
        )
        rates = self._rates(f"producer {name}")
        return ProducerView(name=name, accepted=accepted, refused=refused, throttled=throttled, rates=rates)

    @property
    def _producers(self) -> list[str]:
        """Those that have sent something, or were refused."""
        return sorted({*self._named("producer "), *self._named("refused ")})

    def _spool_view(self, shares: Iterable[Mapping[str, Any]], waiting: int) -> SpoolView:
        growth, spool = self._history.slope("spool", _TREND_S), self._spool
        left = spool.max_bytes - spool.bytes
        shares, behind = [*shares], Counter[str]()
        for share in shares:
            behind[share["sink"]] += share["lag_chunks"]
        fullest, chunks = max(behind.items(), key=lambda one: (one[1], one[0]), default=("", 0))
        return SpoolView(
            events=waiting,
            bytes=spool.bytes,
            parked_bytes=0,
            max_bytes=spool.max_bytes,
            oldest=max((share["oldest_seconds"] for share in shares), default=0.0),
            full_in=round(max(0.0, left / growth)) if growth > 0 and spool.max_bytes else None,
            filled_by=fullest if chunks else None,
            blocked=None,
        )

    def _sink(self, name: str, shares: Iterable[Mapping[str, Any]]) -> SinkView:
        states = [
            one
            for process in self._statuses
            for one in process.status.get("sinks", ())
            if one["name"] == name
        ]
        worst: Mapping[str, Any] = max(states, key=lambda one: _RANK.get(one["state"], 1), default={})
        mine = [share for share in shares if share["sink"] == name]
        last = [one["last_success"] for one in states if one["last_success"] is not None]
        rises = [self._history.rate(f"seconds {name} {bound}", _FEW_MINUTES_S) for bound in ATTEMPT_BOUNDS]
        middle, slow = (quantile(share, ATTEMPT_BOUNDS, rises) for share in (0.5, 0.99))
        return SinkView(
            name=name,
            type=worst.get("type", ""),
            url=worst.get("url", ""),
            state="parked" if name in self._parked else worst.get("state", "closed"),
            since=self._parked.get(name) or worst.get("since") or self._started,
            why=worst.get("why", ""),
            parked="person" if name in self._parked else None,
            last_success=max(last, default=None),
            next_probe=worst.get("next_probe"),
            active_requests=sum(one["active_requests"] for one in states),
            concurrency_limit=sum(one["concurrency_limit"] for one in states),
            in_flight=sum(share["ledger"]["in_flight"] for share in mine),
            behind_chunks=sum(share["lag_chunks"] for share in mine),
            oldest=max((share["oldest_seconds"] for share in mine), default=None),
            delivered=int(self._totals.get(f"sink {name}", 0)),
            dead_lettered=int(self._totals.get(f"dead {name}", 0)),
            dropped=0,
            rates=self._rates(f"sink {name}"),
            p50=None if middle is None else round(middle, 4),
            p99=None if slow is None else round(slow, 4),
        )


def _counters(status: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    """What a process counts since it began, by the name of a series."""
    if edge := status.get("edge"):
        yield "accepted", edge["stored"]
    for name, count in (status.get("producers") or {}).items():
        yield f"producer {name}", count
    for name, counts in (status.get("refused_requests") or {}).items():
        for what in ("refused", "throttled"):
            yield f"{what} {name or 'anonymous'}", counts[what]
    for sink in status.get("sinks", ()):
        yield f"sink {sink['name']}", sink["delivered"]
        yield f"dead {sink['name']}", sink["dead_lettered"]
        for bound, count in zip(ATTEMPT_BOUNDS, accumulate(sink["answered"]), strict=False):
            yield f"seconds {sink['name']} {bound}", count
