"""``ingestd spool resize``: other partitions while events come; see ``cluster/generations.py``."""

from typing import Any, NamedTuple

import anyio

from ingestd.app.cluster.server_at_hand import while_it_runs
from ingestd.app.cluster.spool import on_nats
from ingestd.cluster import installation, provisioning
from ingestd.cluster.membership import SILENT_S, Member
from ingestd.cluster.messages import decoded
from ingestd.cluster.names import StreamNames
from ingestd.config import Settings
from ingestd.core.clock import SystemClock, wait_until_set
from ingestd.core.errors import UserError
from ingestd.sources.nats.connection import NatsConnection

_LISTEN_S = 1.0
"""So long edges have to hear of it. The server refuses what others put into old partitions."""


class Resized(NamedTuple):
    """``before``: partitions that there were; ``drained``: a worker is there, which drains them."""

    before: int
    drained: bool


def resize(settings: Settings, partitions: int) -> Resized:
    """Raises UserError."""
    with while_it_runs(
        settings, "start `ingestd run`, whose workers drain the old partitions, and try it again"
    ):
        return on_nats(settings, lambda connection: _resize(connection, settings, partitions))


async def _resize(connection: NatsConnection, settings: Settings, partitions: int) -> Resized:
    """If it is cut short, workers do the rest."""
    names = StreamNames(settings.spool.name)
    found = await installation.load(connection, settings)
    installation.check(found, settings)
    if partitions == found.partitions:
        raise UserError(f"the spool {names.spool} has {partitions} partitions")
    if settings.spool.workers > partitions:
        raise UserError(f"{settings.spool.workers} workers cannot share {partitions} partitions")
    clock, drains = SystemClock(), anyio.Event()

    def on_message(message: Any) -> None:
        member = decoded(message, Member)
        if member and member.kind != "edge" and not member.leaving:
            drains.set()

    await connection.listen(on_message, names.members)
    new = await installation.begin_generation(connection, names, found, partitions)
    await clock.sleep(_LISTEN_S)
    await provisioning.fence(connection, names, new)
    drained = await wait_until_set(drains, SILENT_S - _LISTEN_S, clock)
    return Resized(found.partitions, drained)
