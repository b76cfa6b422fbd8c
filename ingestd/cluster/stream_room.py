"""Whether the stream of events has room, as an edge knows it: all edges and sinks of a spool share that."""

from contextlib import suppress

import anyio

from ingestd.cluster.backlog import read_backlogs
from ingestd.cluster.link import JetStreamLink
from ingestd.cluster.names import StreamNames
from ingestd.core.clock import Clock, until_turn, wait_until_set
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import JetStreamError

_ROOM_AGAIN = 0.9
"""Share of the limit: once a producer had to wait, the stream counts as full until it holds less."""
_LOOK_S, _LOOK_FULL_S, _BACKLOGS_S = 5.0, 1.0, 10.0
"""How often it is asked: with room, without, and for which sink what it holds waits. The last asks for every
share."""


class StreamRoom:
    """``watch`` it: an edge that was sent nothing knows, too. ``chunk_bytes``: the most that a chunk has."""

    def __init__(self, names: StreamNames, clock: Clock, *, chunk_bytes: int) -> None:
        self.filled_by = ""
        """While it is full: for which sink most of it waits, in words, once that is known."""
        self._names = names
        self._clock = clock
        self._chunk_bytes = chunk_bytes
        self._held = self._most = 0
        self._waits = ""
        self._waits_at = float("-inf")
        self._refused = False
        self._is_known = False
        self._news = anyio.Event()

    def refused(self) -> None:
        """The server has no room for a chunk."""
        if not self._refused:
            self._refused, self._is_known = True, False
            self._news.set()

    def note(self, held: int, most: int) -> None:
        """Bytes in the stream, and how many it may have; 0: any number."""
        self._held, self._most, self._is_known = held, most, True
        if not most or held < _ROOM_AGAIN * most:
            self._refused = False
            self.filled_by = self._waits = ""
            self._waits_at = float("-inf")

    @property
    def full(self) -> bool:
        """Whether producers should go elsewhere. A chunk seldom fits to the last byte, so this is not only
        at the limit; and one that was too large for what was left does not make a stream full."""
        least = min(self._chunk_bytes, (1 - _ROOM_AGAIN) * self._most)
        return self._refused or bool(self._most and self._most - self._held < least)

    @property
    def words(self) -> str:
        """Of a full one."""
        if not self._is_known:
            return "holds all that it may"
        return f"holds {self._held} of {self._most} bytes{self._waits}"

    async def watch(self, link: JetStreamLink) -> None:
        """Until it is cancelled."""
        while True:
            self._news = anyio.Event()
            if connection := link.connection:
                with suppress(BrokerAway, JetStreamError):
                    info = await connection.ask(f"STREAM.INFO.{self._names.events}")
                    self.note(int(info["state"]["bytes"]), max(0, int(info["config"].get("max_bytes", 0))))
                    now = self._clock.monotonic()
                    if self.full and now >= self._waits_at + _BACKLOGS_S:
                        self._waits_at = now
                        backlogs = await read_backlogs(connection, self._names)
                        self.filled_by = backlogs.fullest
                        self._waits = f"; {words}" if (words := backlogs.words) else ""
            look_s = _LOOK_FULL_S if self.full else _LOOK_S
            await wait_until_set(self._news, until_turn(look_s, self._clock.monotonic()), self._clock)
