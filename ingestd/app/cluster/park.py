"""``ingestd spool park | resume`` where the spool is on JetStream; the console of a supervisor does the same.

What a person wants is in the spool's state, so it outlives every process, and the owner of a share obeys it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from ingestd.app.cluster.audit import noting
from ingestd.app.cluster.server_at_hand import server_at_hand, with_restart_advice
from ingestd.app.cluster.spool import on_nats
from ingestd.cluster import installation, sink_registry
from ingestd.cluster.names import StreamNames
from ingestd.cluster.parked_room import make_room
from ingestd.cluster.parked_sinks import (
    Obeying,
    Parked,
    ParkEntry,
    SendsStill,
    read_parked,
    set_parked,
    wait_until_held,
)
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.core.errors import NotFound
from ingestd.core.text import cut, suggestion
from ingestd.sources.nats.connection import NatsConnection
from ingestd.telemetry.audit_entry import Audit, AuditEntry
from ingestd.wiring.factories import sections_of


class ParkDone(NamedTuple):
    """``changed``: it was not so before; ``now``: as it is. ``obeyed_by``: as far as that was waited for.
    ``room``: what a person has to know of the room for what waits, or empty."""

    changed: bool
    now: Parked
    obeyed_by: Obeying
    room: str

    @property
    def late(self) -> Sequence[SendsStill]:
        return self.obeyed_by.late


def park(settings: Settings, sink: str, *, on: bool, wait_s: float) -> ParkDone:
    """For the command. ``wait_s``: how long workers may take to have no request to the sink out. Raises
    UserError; NotFound for a sink that is not there."""
    with (
        with_restart_advice(settings),
        server_at_hand(settings) as nothing_runs,
        noting(settings) as audit,
    ):
        noted = partial(note, audit, sink, on=on)
        return change(settings, sink, on=on, wait_s=0.0 if nothing_runs else wait_s, noted=noted)


def note(audit: Audit, sink: str, *, on: bool, who: str = "") -> None:
    state = "person" if on else "resumed"
    audit(AuditEntry.SINK_PARKED, sink=sink, state=state, reason="by a person", who=who or None)


def change(
    settings: Settings,
    sink: str,
    *,
    on: bool,
    wait_s: float,
    who: str = "",
    noted: Callable[[], None] | None = None,
    expected: Collection[int] = (),
    obeying: bool = False,
) -> ParkDone:
    """Set a sink aside, or no longer (``on`` False), then wait until workers obey, and unless that is enough
    (``obeying``) until they have no request out. ``noted`` is called when it is so, if it was not so before;
    ``expected``: process ids of the workers, where they are known. Raises UserError, NotFound."""

    async def work(connection: NatsConnection) -> ParkDone:
        names, clock = StreamNames(settings.spool.name), SystemClock()
        await installation.load(connection, settings)
        known = {*sections_of(settings), *await sink_registry.known_sinks(connection, names)}
        if sink not in known | (await read_parked(connection, names)).keys():
            raise NotFound(f"there is no sink {cut(sink)} here{suggestion(sink, sorted(known))}")
        entry = ParkEntry(clock.wall() if on else 0.0, who)
        changed, now = await set_parked(connection, names, sink, entry)
        if changed and noted:
            noted()
        room = await make_room(connection, settings)
        if not wait_s or not on:
            return ParkDone(changed, now, Obeying(), room)
        found = await wait_until_held(
            connection,
            names,
            sink,
            now.number,
            clock=clock,
            within_s=wait_s,
            expected=expected,
            obeying=obeying,
        )
        return ParkDone(changed, now, found, room)

    return on_nats(settings, work)


def words(sink: str, done: ParkDone, workers: Mapping[int, str], *, on: bool) -> list[str]:
    """What a person has to know. ``workers``: names by process id."""
    room = [done.room] if done.room else []
    if not on:
        return [f"{sink} is not parked any more", *room]
    out = sum(one.out or 0 for one in done.late)
    still = f", but for {out} requests that are out" if out else ""
    lines = [f"{sink} is parked: nothing is sent to it{still}"]
    for one in done.late:
        if one.out is None:
            name = workers.get(one.member.pid, one.member.name)
            lines.append(f"{name} has not said that it obeys: it may send still")
    reads = "does not answer: when it begins again it reads that first; one that stood still may send once"
    lines += [f"{workers[pid]} {reads}" for pid in done.obeyed_by.silent if pid in workers]
    return lines + room
