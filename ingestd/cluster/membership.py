"""Who is there, and who should own what: all workers of a spool say so to each other twice a second.

Nothing of it is kept, and nothing depends on it but how soon a share has a new owner: that there is one only
is held by the share's log.
"""

import asyncio
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil
from typing import Any

import msgspec

from ingestd.cluster.messages import decoded
from ingestd.cluster.names import ALL, Share, StreamNames
from ingestd.core.clock import Clock, until_turn
from ingestd.sources.nats.connection import NatsConnection

BEAT_S = 0.5
SILENT_S = 1.6
"""Who was not heard for so long is taken for dead: three beats, and a busy machine is late."""


class OwnedShare(msgspec.Struct):
    """``since``: wall time; ``lag``: chunks that did not come yet; ``in_flight``: events."""

    sink: str
    partition: int
    since: float
    lag: int = 0
    in_flight: int = 0


class ParkedHere(msgspec.Struct, array_like=True):
    """A sink that this worker sends nothing to, by the entry with this number; ``out``: requests that still
    are."""

    number: int
    out: int


class Member(msgspec.Struct):
    """What an edge or a worker says of itself. ``kind``: edge, worker or both; ``leaving``: not for long any
    more; ``stored``, ``rejected``: events, of an edge, since it began; ``parked``: by sink."""

    name: str
    kind: str
    host: str = ""
    pid: int = 0
    version: str = ""
    since: float = 0.0
    sinks: list[str] = []
    shares: list[OwnedShare] = []
    leaving: bool = False
    stored: int = 0
    rejected: int = 0
    parked: dict[str, ParkedHere] = {}

    def owns(self, share: Share) -> bool:
        return any((one.sink, one.partition) == share for one in self.shares)


class Membership:
    """``describe``: what to say of this process. ``changed`` is set when others come, or are about to go."""

    def __init__(self, names: StreamNames, clock: Clock, describe: Callable[[], Member]) -> None:
        self.changed = asyncio.Event()
        self._names = names
        self._clock = clock
        self._describe = describe
        self._received: dict[str, tuple[float, Member]] = {}

    async def run(self, connection: NatsConnection) -> None:
        """Until cancelled. Raises BrokerAway."""
        await connection.listen(self._receive, self._names.members)
        while True:
            await self.announce(connection)
            await self._clock.sleep(until_turn(BEAT_S, self._clock.monotonic()))

    async def announce(self, connection: NatsConnection) -> None:
        await connection.publish(self._names.members, msgspec.json.encode(self._describe()))

    def _receive(self, one: Any) -> None:
        member = decoded(one, Member)
        if member is None:
            return
        if len(self._received) < 10_000 or member.name in self._received:
            _, before = self._received.get(member.name, (0.0, None))
            self._received[member.name] = self._clock.monotonic(), member
            if before is None or (before.leaving, before.sinks) != (member.leaving, member.sinks):
                self.changed.set()

    @property
    def silent_in_s(self) -> float:
        """So long until the first of those who were heard is taken for dead, if it says nothing more."""
        first = min((at for at, _ in self._received.values()), default=math.inf)
        return first + SILENT_S - self._clock.monotonic()

    @property
    def others(self) -> list[Member]:
        """Who was heard of late, without this process."""
        now, own = self._clock.monotonic(), self._describe().name
        self._received = {name: one for name, one in self._received.items() if now - one[0] < SILENT_S}
        return [member for name, (_, member) in sorted(self._received.items()) if name != own]

    def forget(self) -> None:
        """What was heard before a connection was lost says nothing now."""
        self._received.clear()


def shares_of(sinks: Mapping[str, bool], partitions: Sequence[int]) -> list[Share]:
    """``sinks``: by name whether one worker owns all partitions; ``partitions``: their numbers."""
    return [
        Share(sink, number)
        for sink, whole in sorted(sinks.items())
        for number in ([ALL] if whole else partitions)
    ]


def assign(shares: Iterable[Share], workers: Mapping[str, Iterable[str]]) -> dict[Share, str]:
    """By share the worker that should own it. ``workers``: by name the sinks that each sends to.

    Every worker finds the same. Each has about as many as the others, and few change hands when one comes or
    goes: a share goes to the worker that fits it best by a hash, as long as that has room.
    """
    shares = sorted(shares)
    sinks = {name: frozenset(of) for name, of in workers.items()}
    found: dict[Share, str] = {}
    load = dict.fromkeys(sinks, 0)
    most = ceil(len(shares) / max(1, len(sinks)))
    for share in shares:
        able = [name for name, of in sinks.items() if share.sink in of]
        if not able:
            continue
        free = [name for name in able if load[name] < most] or able
        chosen = max(free, key=lambda name: (_fit(share, name), name))
        found[share] = chosen
        load[chosen] += 1
    return found


def _fit(share: Share, worker: str) -> bytes:
    return hashlib.blake2b(f"{share} {worker}".encode(), digest_size=8).digest()
