"""``ingestd tap`` at a supervisor: its edges and workers are asked for samples, and who looks gets them all.

Over NATS, which all of them are connected to: a process that was started again hears within a second that
somebody looks.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
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
"""A process that was not heard for so long is told to who looks."""
_AGAIN_S = 1.0
_NOT_SHOWN = "what it does with events is not shown"
_NATS = "what passes"
Processes = Callable[[], Mapping[str, int]]
"""Process ids of all edges and workers by name; 0: it does not run now."""


class _Look(msgspec.Struct, eq=False):
    """``heard``: by process id when, on the monotonic clock; ``told``: what was said last of a process;
    ``shown``: whether it was said that all are shown."""

    wish: TapWish
    reader: TapReader
    began: float
    heard: dict[int, float] = {}
    told: dict[str, str] = {}
    shown: bool = False


class TapHub:
    """``run`` for as long as somebody may ``listen``."""

    def __init__(self, settings: Settings, processes: Processes, clock: Clock) -> None:
        self._settings = settings
        self._names = StreamNames(settings.spool.name)
        self._processes = processes
        self._clock = clock
        self._looks: dict[str, _Look] = {}
        self._ended: list[TapWish] = []
        self._news = asyncio.Event()
        self._began_s: dict[int, float] = {}  # when a process was seen first

    @contextmanager
    def listen(self, *, sink: str, what: str, when: str) -> Iterator[TapReader]:
        """Raises ValueError when too many look already, UserError for an invalid pattern."""
        if when:
            event_filter(when)
        if len(self._looks) >= MAX_READERS:
            raise ValueError(f"{MAX_READERS} are looking already: end one of these first")
        name = secrets.token_hex(8)
        reader = TapReader(self._clock, sink=sink, what=what, matches=None)
        wish = TapWish(name, "", sink, what, when)
        self._looks[name] = _Look(wish, reader, self._clock.monotonic())
        self._news.set()
        try:
            yield reader
        finally:
            del self._looks[name]
            wish.ended = True
            self._ended.append(wish)
            self._news.set()

    async def run(self) -> None:
        """Until cancelled: a connection while somebody looks."""
        while True:
            if not self._looks:
                self._ended.clear()
                self._news.clear()
                await self._news.wait()
            try:
                async with open_connection(self._settings) as connection:
                    await self._serve(connection)
            except UserError as error:
                self._note_all(str(error))
                await self._clock.sleep(_AGAIN_S)

    async def _serve(self, connection: NatsConnection) -> None:
        """While somebody looks. Raises BrokerAway."""
        inbox = await connection.listen(self._hear)
        for look in self._looks.values():
            self._note(look, _NATS, "")
        while connection.is_open:
            self._news.clear()
            ended, self._ended = self._ended, []
            for wish in [*ended, *(look.wish for look in self._looks.values())]:
                wish.inbox = inbox
                await connection.publish(self._names.taps, msgspec.json.encode(wish))
            if not self._looks:
                return
            self._look_for_silent()
            await wait_until_set(self._news, WISH_S, self._clock)
        raise BrokerAway("the connection to NATS is lost")

    def _hear(self, message: Any) -> None:
        try:
            news = msgspec.json.decode(message.data, type=TapNews)
            samples = [msgspec.json.decode(one) for one in news.samples]
        except (ValueError, RecursionError):
            return  # of nobody of ours
        if look := self._looks.get(news.id):
            if news.pid not in look.heard:
                self._news.set()
            look.heard[news.pid] = self._clock.monotonic()
            look.reader.missed += news.missed
            for first in range(0, len(samples), PER_CHUNK):
                part = samples[first : first + PER_CHUNK]
                look.reader.offer(iter(part), len(part))

    def _look_for_silent(self) -> None:
        now, processes = self._clock.monotonic(), self._processes()
        self._began_s = {pid: self._began_s.get(pid, now) for pid in processes.values() if pid}
        for look in self._looks.values():
            look.heard = {pid: at for pid, at in look.heard.items() if pid in self._began_s}
            for name, pid in processes.items():
                if not pid:
                    self._note(look, name, f"{name} does not run now: {_NOT_SHOWN}")
                elif now - look.heard.get(pid, max(look.began, self._began_s[pid])) > SILENT_S:
                    self._note(look, name, f"{name} does not answer: {_NOT_SHOWN}")
                elif pid in look.heard:
                    self._note(look, name, "")
            if not look.shown and look.heard.keys() >= {*processes.values()}:
                look.shown = True
                look.reader.notes.append(f"what passes {', '.join(processes)} is shown")

    def _note_all(self, words: str) -> None:
        for look in self._looks.values():
            self._note(look, _NATS, f"{words}: nothing is shown until it is back")

    @staticmethod
    def _note(look: _Look, name: str, words: str) -> None:
        """Once, until it is otherwise."""
        before = look.told.get(name, "")
        if before == words:
            return
        look.told[name] = words
        look.reader.notes.append(words or f"{name} is shown again")
