"""A person does not want to wait for the next try of a sink: all workers of the spool are asked.

Nothing of it is kept: who does not hear it goes on as before.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from ingestd.cluster.messages import decoded
from ingestd.cluster.names import StreamNames
from ingestd.core.clock import Clock, wait_until_set
from ingestd.sources.nats.connection import NatsConnection

_MOST_WAITING = 100
"""Questions that are not answered yet; older ones are dropped."""
_MOST_ANSWERS = 10_000
_TURN_S = 0.2


class ProbeWish(msgspec.Struct):
    sink: str


class ProbeAnswer(msgspec.Struct):
    """Of one worker. ``pid``: its process; ``shares``: that it owns of the sink; ``probing``: of so many the
    next request goes out now, since they waited; ``name``: of the worker, empty from an older version;
    ``out``: of those that are probing so many have a request out already."""

    pid: int
    shares: int
    probing: int
    name: str = ""
    out: int = 0


ProbeHandler = Callable[[str], ProbeAnswer | None]
"""By the name of a sink; None: this worker does not know it."""


class Probes:
    """Answers for a worker."""

    def __init__(self, names: StreamNames, answer: ProbeHandler) -> None:
        self._names = names
        self._answer = answer
        self._waiting: deque[tuple[str, str]] = deque(maxlen=_MOST_WAITING)
        self._news = asyncio.Event()

    async def run(self, connection: NatsConnection) -> None:
        """Until cancelled. Raises BrokerAway."""
        self._waiting.clear()
        await connection.listen(self._receive, self._names.probes)
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                sink, reply = self._waiting.popleft()
                if answer := self._answer(sink):
                    await connection.publish(reply, msgspec.json.encode(answer))

    def _receive(self, message: Any) -> None:
        wish = decoded(message, ProbeWish)
        if wish is not None and message.reply:
            self._waiting.append((wish.sink, message.reply))
            self._news.set()


async def probe(
    connection: NatsConnection,
    names: StreamNames,
    sink: str,
    *,
    clock: Clock,
    within_s: float,
    enough: Callable[[Collection[ProbeAnswer]], bool],
) -> list[ProbeAnswer]:
    """What workers answer, as soon as that is ``enough``, or when the time is over. Raises BrokerAway."""
    found: dict[str, ProbeAnswer] = {}
    news = asyncio.Event()

    def on_message(message: Any) -> None:
        answer = decoded(message, ProbeAnswer)
        if answer is not None and len(found) < _MOST_ANSWERS:
            found[answer.name or str(answer.pid)] = answer
            news.set()

    until = clock.monotonic() + within_s
    inbox = await connection.listen(on_message)
    await connection.publish(names.probes, msgspec.json.encode(ProbeWish(sink)), inbox)
    while not enough(found.values()) and clock.monotonic() < until:
        await wait_until_set(news, _TURN_S, clock)
        news.clear()
    await connection.unlisten(inbox)
    return [*found.values()]
