"""``ingestd tap --config``: what passes all edges and workers of a spool on NATS, wherever they run."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from ingestd.app.cluster.spool import on_nats
from ingestd.app.cluster.tap_hub import TapHub
from ingestd.app.event_loop import run_loop
from ingestd.cluster import installation
from ingestd.cluster.membership import SILENT_S, Member
from ingestd.cluster.messages import decoded
from ingestd.cluster.names import StreamNames
from ingestd.cluster.tap_source import TapNews
from ingestd.config import Settings
from ingestd.core.clock import Clock, SystemClock
from ingestd.core.errors import UserError
from ingestd.sources.nats.connection import NatsConnection
from ingestd.wiring.factories import sections_of

_MOST_MEMBERS = 1_000
Line = Mapping[str, Any]


class SeenMembers:
    """Edges and workers by name, empty for one that was not heard of late. Who says that it leaves is
    forgotten."""

    def __init__(self, names: StreamNames, clock: Clock) -> None:
        self._names = names
        self._clock = clock
        self._seen_at: dict[str, float] = {}

    async def begin(self, connection: NatsConnection) -> None:
        """Raises BrokerAway."""
        await connection.listen(self._receive, self._names.members)

    def _receive(self, message: Any) -> None:
        member = decoded(message, Member)
        if member is None:
            return
        if member.leaving:
            self._seen_at.pop(member.name, None)
        elif len(self._seen_at) < _MOST_MEMBERS or member.name in self._seen_at:
            self._seen_at[member.name] = self._clock.monotonic()

    def __call__(self) -> dict[str, str]:
        now = self._clock.monotonic()
        return {name: name if now - at < 2 * SILENT_S else "" for name, at in sorted(self._seen_at.items())}


def tap(
    settings: Settings, *, sink: str, what: str, when: str, limit: int, on_line: Callable[[Line], None]
) -> None:
    """``on_line`` is called with each sample, note or number of what was left out; ``limit``: samples, 0:
    until it is interrupted. Raises UserError."""
    if sink and sink not in sections_of(settings):
        raise UserError(f"there is no sink {sink} in the configuration")

    names = StreamNames(settings.spool.name)
    on_nats(
        settings, lambda connection: installation.load(connection, settings)
    )  # what is wrong ends it here

    async def look() -> None:
        members = SeenMembers(names, SystemClock())
        hub = TapHub(settings, members, SystemClock(), key=_by_name, opened=members.begin)
        listening = asyncio.create_task(hub.run())
        try:
            with hub.listen(sink=sink, what=what, when=when) as reader:
                async for lines in reader.lines(limit):
                    for line in lines:
                        on_line(line)
                    if listening.done():
                        listening.result()
            await hub.left()
        finally:
            listening.cancel()
            await asyncio.wait([listening])

    run_loop(look)


def _by_name(news: TapNews) -> str:
    return news.process
