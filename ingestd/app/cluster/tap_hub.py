"""``ingestd tap`` at a supervisor: its edges and workers are asked for samples, and each viewer gets them
all.

Over NATS, which all of them are connected to: a process that was started again hears within a second that
somebody looks.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from ingestd.app.cluster.judgement import open_connection
from ingestd.cluster.names import StreamNames
from ingestd.cluster.tap_source import WISH_S, TapNews, TapWish
from ingestd.config import Settings
from ingestd.core.clock import Clock, wait_until_set
from ingestd.core.errors import UserError
from ingestd.processing.event_filter import event_filter
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import NatsConnection
from ingestd.telemetry.tap import MAX_READERS, PER_CHUNK, TapReader

SILENT_S = 3.0
"""After this time without a word from a process the viewer learns that it is missing."""
_AGAIN_S = 1.0
_MOST_ENDED = 100
"""Looks of which the processes have to hear still that they ended; of others they notice it by themselves."""
_NOT_SHOWN = "what it does with events is not shown"
_NATS = "what passes"
Key = str | int
Processes = Callable[[], Mapping[str, Key]]
"""All edges and workers by the name that is shown, with what their news are known by; 0 or empty: it does not
run now."""


async def _nothing(connection: NatsConnection) -> None:
    """There is nothing else to hear."""


def by_pid(news: TapNews) -> Key:
    return news.pid


class _Look(msgspec.Struct, eq=False):
    """``seen_at``: of whom when, on the monotonic clock; ``noted``: what was said last of a process;
    ``shown``: whether it was said that all are shown."""

    wish: TapWish
    reader: TapReader
    began: float
    seen_at: dict[Key, float] = {}
    noted: dict[str, str] = {}
    shown: bool = False


class TapHub:
    """``run`` for as long as somebody may ``listen``. ``key``: by what news are known to be of a process;
    ``opened`` is called with each connection."""

    def __init__(
        self,
        settings: Settings,
        processes: Processes,
        clock: Clock,
        *,
        key: Callable[[TapNews], Key] = by_pid,
        opened: Callable[[NatsConnection], Awaitable[None]] = _nothing,
    ) -> None:
        self._key, self._opened = key, opened
        self._idle = asyncio.Event()
        self._settings = settings
        self._names = StreamNames(settings.spool.name)
        self._processes = processes
        self._clock = clock
        self._looks: dict[str, _Look] = {}
        self._ended: deque[TapWish] = deque(maxlen=_MOST_ENDED)
        self._news = asyncio.Event()
        self._began_s: dict[Key, float] = {}  # when a process was seen first

    @contextmanager
    def listen(self, *, sink: str, what: str, when: str) -> Iterator[TapReader]:
        """Raises ValueError when too many look already, UserError for an invalid pattern."""
        if when:
            event_filter(when)
        if len(self._looks) >= MAX_READERS:
            raise ValueError(f"{MAX_READERS} viewers are connected already: end one of them first")
        name = secrets.token_hex(8)
        reader = TapReader(self._clock, sink=sink, what=what, matches=None)
        wish = TapWish(name, "", sink, what, when)
        self._looks[name] = _Look(wish, reader, self._clock.monotonic())
        self._idle.clear()
        self._news.set()
        try:
            yield reader
        finally:
            del self._looks[name]
            wish.ended = True
            self._ended.append(wish)
            self._news.set()

    async def left(self, within_s: float = 2.0) -> None:
        """Nobody looks any more, and the processes have heard that, or the time is over."""
        await wait_until_set(self._idle, within_s, self._clock)

    async def run(self) -> None:
        """Until cancelled: a connection while somebody looks."""
        while True:
            if not self._looks:
                self._ended.clear()
                self._news.clear()
                self._idle.set()
                await self._news.wait()
            try:
                async with open_connection(self._settings) as connection:
                    await self._serve(connection)
            except UserError as error:
                self._note_all(str(error))
                await self._clock.sleep(_AGAIN_S)

    async def _serve(self, connection: NatsConnection) -> None:
        """While somebody looks. Raises BrokerAway."""
        inbox = await connection.listen(self._receive)
        await self._opened(connection)
        for look in self._looks.values():
            self._note(look, _NATS, "")
        while connection.is_open:
            self._news.clear()
            ended = [*self._ended]
            self._ended.clear()
            for wish in [*ended, *(look.wish for look in self._looks.values())]:
                wish.inbox = inbox
                await connection.publish(self._names.taps, msgspec.json.encode(wish))
            if not self._looks:
                return
            self._look_for_silent()
            await wait_until_set(self._news, WISH_S, self._clock)
        raise BrokerAway("the connection to NATS is lost")

    def _receive(self, message: Any) -> None:
        try:
            news = msgspec.json.decode(message.data, type=TapNews)
            samples = [msgspec.json.decode(one) for one in news.samples]
        except (ValueError, RecursionError):
            return  # of nobody of ours
        if look := self._looks.get(news.id):
            if (key := self._key(news)) not in look.seen_at:
                self._news.set()
            look.seen_at[key] = self._clock.monotonic()
            look.reader.missed += news.missed
            for first in range(0, len(samples), PER_CHUNK):
                part = samples[first : first + PER_CHUNK]
                look.reader.offer(iter(part), len(part))

    def _look_for_silent(self) -> None:
        now, processes = self._clock.monotonic(), self._processes()
        self._began_s = {key: self._began_s.get(key, now) for key in processes.values() if key}
        for look in self._looks.values():
            look.seen_at = {key: at for key, at in look.seen_at.items() if key in self._began_s}
            if not processes and now - look.began > SILENT_S:
                self._note(look, "", "no edge and no worker says that it is there")
            for name, key in processes.items():
                if not key:
                    self._note(look, name, f"{name} does not run now: {_NOT_SHOWN}")
                elif now - look.seen_at.get(key, max(look.began, self._began_s[key])) > SILENT_S:
                    self._note(look, name, f"{name} does not answer: {_NOT_SHOWN}")
                elif key in look.seen_at and (name in look.noted or not look.shown):
                    self._note(look, name, "")
                elif key in look.seen_at:  # it has come since
                    look.noted[name] = ""
                    look.reader.notes.append(f"what passes {name} is shown")
            if not look.shown and processes and look.seen_at.keys() >= {*processes.values()}:
                look.shown = True
                look.noted |= dict.fromkeys(processes.keys() - look.noted.keys(), "")
                look.reader.notes.append(f"what passes {', '.join(processes)} is shown")

    def _note_all(self, words: str) -> None:
        for look in self._looks.values():
            self._note(look, _NATS, f"{words}: nothing is shown until it is back")

    @staticmethod
    def _note(look: _Look, name: str, words: str) -> None:
        """Once, until it is otherwise."""
        before = look.noted.get(name, "")
        if before == words:
            return
        look.noted[name] = words
        look.reader.notes.append(words or f"{name} is shown again")
