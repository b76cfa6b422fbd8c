"""``ingestd spool forget`` where the spool is on JetStream."""

from collections.abc import Callable
from typing import NamedTuple

from ingestd.app.cluster.audit import noting
from ingestd.app.cluster.server_at_hand import at_hand
from ingestd.app.cluster.spool import list_members, on_nats
from ingestd.cluster import installation, sink_registry
from ingestd.cluster.membership import shares_of
from ingestd.cluster.names import Share, StreamNames
from ingestd.cluster.parked_room import make_room
from ingestd.cluster.parked_sinks import ParkEntry, set_parked
from ingestd.cluster.stock import count_waiting
from ingestd.config import Settings
from ingestd.core.errors import UserError
from ingestd.sources.nats.connection import NOT_FOUND, JetStreamError, NatsConnection
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.wiring.factories import sections_of


def forget(
    settings: Settings, sink: str, *, confirm: Callable[[dict[str, int]], object] | None = None
) -> dict[str, int]:
    """Events need not wait for a sink any more; gives how many did: ``chunks``, ``events``, ``gone``.

    ``confirm`` is called with what would be dropped, and may raise. Raises UserError: there is no such sink,
    or a worker sends to it.
    """
    with at_hand(settings), noting(settings) as audit:
        if confirm:
            confirm(on_nats(settings, lambda connection: _look(connection, settings, sink)).waiting)
        dropped = on_nats(settings, lambda connection: _forget(connection, settings, sink))
        audit(AuditEntry.SINK_FORGOTTEN, sink=sink, **dropped)
    return dropped


class _Forgettable(NamedTuple):
    """``waiting``: what would be dropped, as ``forget`` gives it."""

    shares: list[Share]
    waiting: dict[str, int]


async def _look(connection: NatsConnection, settings: Settings, sink: str) -> _Forgettable:
    names = StreamNames(settings.spool.name)
    found = await installation.load(connection, settings)
    sinks = await sink_registry.known_sinks(connection, names)
    if sink not in sinks:
        raise UserError(f"no events of the spool {settings.spool.name} wait for a sink named {sink}")
    if there := [one.name for one in await list_members(connection, names) if sink in one.sinks]:
        sends, it = ("sends", "it") if len(there) == 1 else ("send", "them")
        raise UserError(
            f"{' and '.join(there)} {sends} to {sink}: stop {it}, or take the sink out of {it}, first"
        )
    waiting = await count_waiting(connection, names, sinks, found.numbers)
    return _Forgettable(shares_of({sink: sinks[sink]}, found.numbers), waiting[sink]._asdict())


async def _forget(connection: NatsConnection, settings: Settings, sink: str) -> dict[str, int]:
    names = StreamNames(settings.spool.name)
    shares, dropped = await _look(connection, settings, sink)
    for share in shares:
        for request, body in (
            (f"CONSUMER.DELETE.{names.events}.{share.consumer}", None),
            (f"STREAM.PURGE.{names.frozen}", {"filter": names.log(share)}),
        ):
            try:
                await connection.ask(request, body)
            except JetStreamError as error:
                if error.code not in NOT_FOUND:
                    raise
    await sink_registry.withdraw_sink(connection, names, sink)
    await set_parked(connection, names, sink, ParkEntry(0.0))
    await make_room(connection, settings)
    return dropped


def is_configured(settings: Settings, sink: str) -> bool:
    """Also the usual sink, of a file that names none."""
    return sink in sections_of(settings)
