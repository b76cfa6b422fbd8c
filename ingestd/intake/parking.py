"""Parked sinks: what waits for them alone takes no room of the spool from the others. Once a second.

A person parks a sink (``ingestd spool park``): nothing is sent there until it is resumed. A sink whose
backlog reaches its bound parks itself, is tried all the same, and is back once it has caught up. Either way
its events stay in the spool, in their order, up to ``spool.max_parked`` beyond what the spool holds for the
others.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from ingestd.core.bounds import DEFAULT_BOUNDS
from ingestd.core.clock import Clock
from ingestd.core.units import human_seconds, human_size
from ingestd.delivery.sink_runner import SinkRunner
from ingestd.intake.admission import Backpressure
from ingestd.store.connection import StoreFailed
from ingestd.store.database import Database
from ingestd.store.parked_sinks import BacklogNotes, note_held, read_backlog
from ingestd.store.spool import Spool
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.state_watch import StateWatch

_ROOM_AGAIN = 0.9
"""Share of a bound: below it the sink has caught up."""

BY_PERSON, BY_BOUND = "person", "max_backlog"


class BacklogBound(NamedTuple):
    """Of one sink. ``parks``: beyond it the sink is set aside; else producers have to wait."""

    max_bytes: int | None = None
    max_age_s: float | None = None
    parks: bool = False


class Parking:
    """``look`` before anything is sent, then ``run``. ``bounds``: by sink, of those that have one.
    ``look_s``: how often what a person has asked for is read."""

    def __init__(
        self,
        runners: Sequence[SinkRunner],
        spool: Spool,
        database: Database,
        pressure: Backpressure,
        states: StateWatch,
        bounds: Mapping[str, BacklogBound],
        clock: Clock,
    ) -> None:
        self.max_parked_bytes = 0
        self.look_s = DEFAULT_BOUNDS.look_at_backlog_s
        self._runners = runners
        self._spool = spool
        self._database = database
        self._pressure = pressure
        self._states = states
        self._bounds = bounds
        self._clock = clock
        self._noted: dict[str, float | None] = {}  # by sink, what was noted of it last
        self._over: dict[str, str] = {}  # sinks over their bound, and the words for it
        pressure.bounds = {
            sink: bound.max_bytes
            for sink, bound in bounds.items()
            if bound.max_bytes is not None and not bound.parks
        }

    async def run(self) -> None:
        while True:
            await self._clock.sleep(self.look_s)
            await self.look()

    async def look(self) -> None:
        """Take over what a person has asked for, and what the bounds say."""
        asked = {sink: self._spool.cursors[sink].position for sink in self._bounds}
        notes = BacklogNotes({runner.name: 0.0 for runner in self._runners if runner.parked == BY_PERSON}, {})
        with suppress(StoreFailed):  # busy: the next time will do
            notes = await self._spool.reader.run(partial(read_backlog, positions=asked))
        for sink, bound in self._bounds.items():
            self._judge(sink, bound, notes.oldest.get(sink))
        self._pressure.overdue = next(
            (f"{sink}: {why}" for sink, why in self._over.items() if not self._bounds[sink].parks), ""
        )
        for runner in self._runners:
            self._note_held(runner, notes.parked.get(runner.name))
            if runner.name in notes.parked:
                self._set(
                    runner,
                    BY_PERSON,
                    f"by a person: nothing is sent until `ingestd spool resume {runner.name}`",
                )
            elif runner.name in self._over and self._bounds[runner.name].parks:
                self._set(runner, BY_BOUND, self._over[runner.name])
            else:
                self._set(runner, "", "")
        self._make_room()

    def _judge(self, sink: str, bound: BacklogBound, oldest_at: float | None) -> None:
        share = _ROOM_AGAIN if sink in self._over else 1.0
        held, words = self._spool.cursors[sink].bytes, ""
        if bound.max_bytes is not None and bound.parks and held > share * bound.max_bytes:
            words = f"{held} bytes wait for it, max_backlog is {human_size(bound.max_bytes)}"
        age_s = 0.0 if oldest_at is None else self._clock.wall() - oldest_at
        if not words and bound.max_age_s is not None and age_s > share * bound.max_age_s:
            longest = human_seconds(bound.max_age_s)
            words = f"its oldest event waits for {human_seconds(age_s)}, max_backlog_age is {longest}"
        if words:
            self._over[sink] = words
        else:
            self._over.pop(sink, None)

    def _note_held(self, runner: SinkRunner, parked_at: float | None) -> None:
        """For the command that parks: now it is true. Only when no request is out any more."""
        is_held = parked_at is not None and runner.parked == BY_PERSON and not runner.lane.active
        held_for = parked_at if is_held else None
        if self._noted.get(runner.name) != held_for:
            self._noted[runner.name] = held_for
            at = None if held_for is None else max(held_for, self._clock.wall())
            self._database.note(partial(note_held, sink=runner.name, at=at))

    def _set(self, runner: SinkRunner, by: str, why: str) -> None:
        if (by == BY_PERSON) != (runner.parked == BY_PERSON):
            runner.lane.hold(by == BY_PERSON)
        runner.parked = by
        entry = AuditEntry.SINK_PARKED
        if by:
            what = "parked, its events wait in the spool"
            self._states.degraded(runner.name, by, why, what=what, waiting=runner.waiting, entry=entry)
        else:
            self._states.recovered(runner.name, "resumed", "not parked any more", entry=entry)

    def _make_room(self) -> None:
        """What only parked sinks wait for does not count. The others have nearly all chunks in common: what
        the furthest of them lacks is what they lack together."""
        parked = {runner.name for runner in self._runners if runner.parked}
        alone = 0
        if parked:
            others = [one.bytes for sink, one in self._spool.cursors.items() if sink not in parked]
            alone = self._spool.bytes - max(others, default=0)
        self._pressure.parked_bytes = min(max(0, alone), self.max_parked_bytes)
