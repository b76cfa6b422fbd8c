"""A connection to JetStream that is opened again whenever it ends, for who appends and can wait."""

import math
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from ingestd.cluster.installation import Installation, decode, is_resized, read_installation
from ingestd.core.backoff import Backoff
from ingestd.core.clock import Clock, wait_until_set
from ingestd.core.errors import UserError
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import JetStreamError, NatsConnection, NatsMessage
from ingestd.sources.nats.settings import NatsLogin

if TYPE_CHECKING:
    from ingestd.cluster.names import StreamNames

_RETRY = Backoff(base_s=0.05, cap_s=1.0)
_AGAIN_S = 0.1
_LOOK_S = 1.0
CLUSTER_BUSY = frozenset({10008, 10009, 10076, 10077})
"""Error codes of a server or a cluster that cannot now, and of a full stream."""
FULL = frozenset({10077})


class JetStreamLink:
    """``run`` keeps it open, from ``open`` on. ``expected``: what the spool was when its owner began; where
    it is another one later, that is the end."""

    def __init__(
        self,
        settings: NatsLogin,
        clock: Clock,
        rng: random.Random,
        warn: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._warn = warn
        self._ended = anyio.Event()
        self._opened = anyio.Event()
        self.connection: NatsConnection | None = None
        self.problem = ""
        self.expected: tuple[StreamNames, Installation] | None = None
        self._looked_at = -math.inf

    async def open(self) -> NatsConnection:
        """The first connection. Raises BrokerAway, UserError."""
        self._ended = anyio.Event()
        connection = NatsConnection(self._settings, self._clock, self._ended.set, echo=False)
        await connection.open()
        try:
            await self._compare(connection)
        except BaseException:
            await connection.close()
            raise
        self.connection = connection
        self._opened.set()
        return connection

    async def _compare(self, connection: NatsConnection) -> None:
        """Keys are hashed and events split with what was read once. Raises UserError; BrokerAway where it
        cannot be told yet."""
        if self.expected is None:
            return
        names, expected = self.expected
        try:
            found = await read_installation(connection, names)
        except JetStreamError as error:
            raise BrokerAway(str(error)) from None
        if found is None:  # a server that has just started finds its streams later
            raise BrokerAway(f"there is no spool {names.spool} at {connection.shown}")
        if found != expected and not is_resized(expected, found):
            raise UserError(
                f"the spool {names.spool} at {connection.shown} is another one now: it was made again, with"
                " another secret for its keys or otherwise, or other servers answer there; this edge must not"
                " go on with the old one, and ends; start it again if that one is meant"
            )

        await self.follow(connection)
        self._learn(found)

    async def follow(self, connection: NatsConnection) -> None:
        """Hear when the spool has other partitions. Raises BrokerAway."""
        assert self.expected
        await connection.listen(self._receive, self.expected[0].entry("installation"))
        await self._look_again(connection)  # it may have come just before

    async def _look_again(self, connection: NatsConnection) -> None:
        """The server may take nothing for an older partition any more, and nobody was heard to say so."""
        now = self._clock.monotonic()
        if self.expected is None or not connection.is_open or now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        with suppress(BrokerAway, JetStreamError, UserError):
            if found := await read_installation(connection, self.expected[0]):
                self._learn(found)

    def _receive(self, message: Any) -> None:
        if found := decode(message.data):
            self._learn(found)

    def _learn(self, found: Installation) -> None:
        assert self.expected
        names, expected = self.expected
        if found != expected and is_resized(expected, found):
            self.expected = names, found
            self._warn(f"the spool {names.spool} has {found.partitions} partitions now")

    async def run(self) -> None:
        """Until it is cancelled. Raises UserError for what will not get better."""
        try:
            while True:
                await self._ended.wait()
                await self.close()
                await self._reopen()
        finally:
            with anyio.CancelScope(shield=True):
                await self.close()

    async def close(self) -> None:
        """``run`` does that at its end."""
        connection, self.connection = self.connection, None
        self._opened = anyio.Event()
        if connection:
            await connection.close()

    async def _reopen(self) -> None:
        failures = 0
        while True:
            try:
                await self.open()
            except BrokerAway as error:
                failures += 1
                self.problem = str(error)
                if failures == 1:
                    self._warn(f"{error}; it is tried again")
                await self._clock.sleep(_RETRY.delay(failures, rng=self._rng))
            else:
                if self.problem:
                    self._warn(f"NATS at {self._settings.servers[0]} is back")
                self.problem = ""
                return

    async def append_all(
        self, messages: Sequence[NatsMessage], *, within_s: float
    ) -> list[dict[str, Any] | JetStreamError | BrokerAway]:
        """Store messages whose headers have ids, by which the server knows them if its answers get lost: what
        is not answered is sent again. What became of each: a JetStreamError of a full stream, too, and
        BrokerAway when time is over: then it may be stored or not."""
        until = self._clock.monotonic() + within_s
        none = BrokerAway("there is no connection to NATS")
        found: list[dict[str, Any] | JetStreamError | BrokerAway] = [none] * len(messages)
        left = [*range(len(messages))]
        while left and (left_s := until - self._clock.monotonic()) > 0:
            connection = self.connection
            if connection is None:
                await wait_until_set(self._opened, min(left_s, _LOOK_S), self._clock)
                continue
            answers = await connection.append_all([messages[at] for at in left], within_s=left_s)
            for at, answer in zip(left, answers, strict=True):
                found[at] = answer
            left = [at for at in left if _may_succeed(found[at])]
            if any(isinstance(found[at], BrokerAway) for at in left):
                await self._look_again(connection)
            if left:
                await self._clock.sleep(_AGAIN_S)
        return found


def _may_succeed(answer: dict[str, Any] | JetStreamError | BrokerAway) -> bool:
    """If it is sent again."""
    if isinstance(answer, JetStreamError):
        return answer.code in CLUSTER_BUSY - FULL
    return isinstance(answer, BrokerAway)
