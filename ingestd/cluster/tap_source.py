"""Events that pass through this process, for a person who looks at those of all processes of a spool.

Who looks says so about once a second, over NATS, and gets samples in an inbox. Who says nothing for a while
is gone: a supervisor that died leaves nobody behind who samples. Nothing of it is kept, and without somebody
who looks nothing is done.
"""

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgspec

from ingestd.cluster.messages import decoded
from ingestd.cluster.names import StreamNames
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.processing.event_filter import event_filter
from ingestd.sources.nats.connection import NatsConnection
from ingestd.telemetry.tap import Tap, TapReader, TapSample

WISH_S = 1.0
"""How often who looks says so."""
GONE_S = 4.0
"""Who has not said so for so long is gone."""
_SEND_S = 0.1
_PULSE_S = 1.0
"""So often who looks hears at least that this process is there."""
MAX_MESSAGE_BYTES = 256 * 1024
_MOST_WISHES = 100


class TapWish(msgspec.Struct):
    """Somebody looks. ``id``: of this look; ``sink``, ``what``, ``when``: as ``ingestd tap`` has them;
    ``inbox``: where samples go; ``ended``: no longer."""

    id: str
    inbox: str
    sink: str = ""
    what: str = ""
    when: str = ""
    ended: bool = False


class TapNews(msgspec.Struct):
    """From a ``process``, by its name as a member: samples, as JSON, and how many were left out."""

    id: str
    pid: int
    process: str
    samples: list[msgspec.Raw] = []
    missed: int = 0


class _Look(msgspec.Struct):
    inbox: str
    reader: TapReader
    leave: ExitStack
    until: float
    sent_at: float = float("-inf")


class TapSource:
    """``run`` with each connection of a process. ``pid``, ``process``: its id, and its name as a member."""

    def __init__(self, names: StreamNames, tap: Tap, pid: int, process: str, clock: Clock) -> None:
        self._names = names
        self._tap = tap
        self._pid, self._process = pid, process
        self._clock = clock
        self._wishes: deque[TapWish] = deque(maxlen=_MOST_WISHES)
        self._looks: dict[str, _Look] = {}
        self._news = asyncio.Event()

    async def run(self, connection: NatsConnection) -> None:
        """Until cancelled. Raises BrokerAway."""
        try:
            await connection.listen(self._receive, self._names.taps)
            while True:
                if not self._looks:
                    await self._news.wait()
                self._news.clear()
                while self._wishes:
                    self._obey(self._wishes.popleft())
                await self._send(connection)
                await self._clock.sleep(_SEND_S)
        finally:
            for name in [*self._looks]:
                self._end(name)

    def _receive(self, message: Any) -> None:
        if (wish := decoded(message, TapWish)) is not None:
            self._wishes.append(wish)
            self._news.set()

    def _obey(self, wish: TapWish) -> None:
        """More than may look at once, or an invalid pattern, are not answered."""
        if wish.ended:
            self._end(wish.id)
            return
        until = self._clock.monotonic() + GONE_S
        if known := self._looks.get(wish.id):
            known.until, known.inbox = until, wish.inbox
            return
        leave = ExitStack()
        try:
            matches = event_filter(wish.when) if wish.when else None
            reader = leave.enter_context(self._tap.listen(sink=wish.sink, what=wish.what, matches=matches))
        except (UserError, ValueError):
            return
        self._looks[wish.id] = _Look(wish.inbox, reader, leave, until)

    def _end(self, name: str) -> None:
        if look := self._looks.pop(name, None):
            look.leave.close()

    async def _send(self, connection: NatsConnection) -> None:
        now = self._clock.monotonic()
        for name, look in [*self._looks.items()]:
            if now > look.until:
                self._end(name)
                continue
            reader = look.reader
            samples, missed, reader.missed = reader.take_all(), reader.missed, 0
            if samples or missed or now - look.sent_at >= _PULSE_S:
                look.sent_at = now
                for part, left_out in _messages(samples, missed):
                    news = TapNews(name, self._pid, self._process, part, left_out)
                    await connection.publish(look.inbox, msgspec.json.encode(news))


def _messages(samples: list[TapSample], missed: int) -> Iterator[tuple[list[msgspec.Raw], int]]:
    """At least one; each of about ``MAX_MESSAGE_BYTES`` at most."""
    part: list[msgspec.Raw] = []
    size = 0
    for sample in samples:
        try:
            data = json.dumps(sample, ensure_ascii=False).encode()
        except (ValueError, RecursionError):  # not told: the words of the error may hold the event
            missed += 1
            continue
        if part and size + len(data) > MAX_MESSAGE_BYTES:
            yield part, 0
            part, size = [], 0
        part.append(msgspec.Raw(data))
        size += len(data)
    yield part, missed
