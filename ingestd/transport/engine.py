"""One request over HTTP/1.1, in our words. Used by ``client.py``.

An answer is read up to a limit and a deadline: a response is whole or marked as cut, and leaves nothing
open. See ``benchmarks/engines.py`` and ``benchmarks/requests.py``.
"""

import asyncio
import math
import random
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from ingestd.core.answer import Octets
from ingestd.core.clock import Clock, Timer
from ingestd.transport.connection import KEEP_ALIVE_S, LATE, ClientConnection
from ingestd.transport.dialer import Dialer, Lookup, proxy_headers
from ingestd.transport.network_errors import NoAnswer, Unsent
from ingestd.transport.target import RequestTarget, Way
from ingestd.transport.url_guard import UrlGuard
from ingestd.transport.watched_file import WatchedFiles

if TYPE_CHECKING:
    from ingestd.transport.proxies import Proxies

HOLD_S = 0.25
"""How long the end of a body is held back that is longer than any that was answered before. An API that ends
the connection at what is too long for it does so meanwhile, and then cannot have taken it."""

_NEVER_TOO_LONG = 16 * 1024
_ECHO = 4  # times as long as the request
_CLOSED = "the client is closed"
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Timeout(msgspec.Struct, frozen=True):
    """Seconds, or None: ``connect``, ``read`` between two reads, and ``total``, which ends all of it."""

    connect: float | None = None
    read: float | None = None
    total: float | None = None


class Exchanged(msgspec.Struct, frozen=True):
    """What came back. ``body`` as it came: see ``decoding.py``."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    truncated: bool


class Engine:
    """Sends one request at a time per connection, over as many connections as are allowed.

    ``max_connection_age_s``: see ``ConnectionPool``.
    ``max_body_bytes``: how much of an answer is kept; the rest is discarded with its connection.
    ``trust_env``: take proxies from ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.
    ``guard``: where no request goes. Through a proxy it sees the URL only: the proxy looks up its name.
    """

    def __init__(
        self,
        tls: WatchedFiles[ssl.SSLContext],
        *,
        max_connections: int,
        max_connection_age_s: float,
        max_body_bytes: int,
        trust_env: bool = False,
        guard: UrlGuard | None = None,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._guard = guard
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._answered_bytes = _NEVER_TOO_LONG  # the longest body that was answered
        self._proxies: Proxies | None = None
        if trust_env:
            from ingestd.transport import proxies  # few want them

            self._proxies = proxies.Proxies.of_environment() or None
        places = self._proxies.places if self._proxies else ()
        lookup = Lookup(guard, proxies=places, max_age_s=max_connection_age_s, clock=clock)
        dialer = Dialer(tls, lookup, max_age_s=max_connection_age_s, clock=clock, rng=rng)
        self._connections = ConnectionPool(dialer, tls, max_connections=max_connections, clock=clock)

    async def aclose(self) -> None:
        await self._connections.aclose()

    async def __aenter__(self) -> "Engine":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def exchange(
        self,
        method: str,
        target: RequestTarget,
        headers: Mapping[str, str],
        body: Octets,
        *,
        timeout: Timeout,
    ) -> Exchanged:
        """Send one request and read its answer. Names of ``headers`` are in lower case, values ASCII.

        The status line and complete headers decide: a body that is cut short, stalls or is too long is
        ``truncated``. Raises NoAnswer for everything else.
        """
        proxy = None
        if self._proxies is not None and (proxy := self._proxies.of(target)) and target.scheme == "http":
            headers = {**headers, **proxy_headers(proxy)}
        head = _head(method, target, headers, len(body), absolute=proxy is not None)
        if self._guard is not None and (refusal := self._guard.refusal(target.host)):
            raise Unsent(refusal)  # an address is not looked up
        until = math.inf if timeout.total is None else self._clock.monotonic() + timeout.total
        try:
            connection = await self._connections.take(target, proxy, timeout.connect, until)
        except TimeoutError:
            raise NoAnswer(LATE) from None
        try:
            held = len(body) > self._answered_bytes
            answered = connection.send(
                head,
                body[:-1] if held else body,
                held=held,
                limit=self.limit(body),
                idle_s=_idle_s(timeout),
                until=until,
                without_body=method == "HEAD",
            )
            if held:
                await self._send_last(connection, answered, body)
            await answered
        finally:
            self._connections.give_back(connection)
        if connection.error is not None:
            raise connection.error
        if len(body) > self._answered_bytes and connection.whole:
            self._answered_bytes = len(body)
        if not 200 <= connection.status <= 599:
            raise NoAnswer(f"the answer's status is {connection.status}")
        return Exchanged(connection.status, connection.headers, connection.body, connection.truncated)

    async def _send_last(
        self, connection: ClientConnection, answered: "asyncio.Future[None]", body: Octets
    ) -> None:
        """Unless the answer comes first: that to a request which is too long."""
        await connection.written()
        with suppress(TimeoutError):
            async with self._clock.timeout(HOLD_S):
                await asyncio.wait([answered])
        if not answered.done():
            connection.send_last(body[-1:])

    def limit(self, body: Octets) -> int:
        """How much of the answer to ``body`` is kept: APIs that give back each event, and more, do exist."""
        return max(self._max_body_bytes, _ECHO * len(body))


class ConnectionPool:
    """``take`` before a request, ``give_back`` after it, ``aclose`` in the end.

    Steady traffic would never look a name up again, and stay with an address that the name has left. So a
    connection has an age, after which it ends with the request that it is out with.
    """

    def __init__(
        self,
        dialer: Dialer,
        tls: WatchedFiles[ssl.SSLContext],
        *,
        max_connections: int,
        clock: Clock,
    ) -> None:
        self._dialer = dialer
        self._tls = tls
        self._most = max_connections
        self._slots = asyncio.Semaphore(max_connections)
        self._closed = asyncio.Event()
        self._clock = clock
        self._idle: dict[Way, list[ClientConnection]] = {}
        self._open: set[ClientConnection] = set()
        self._sweep_timer: Timer | None = None

    async def take(
        self, target: RequestTarget, proxy: str | None, connect_s: float | None, until: float
    ) -> ClientConnection:
        """For one request, once there is a free slot. Raises NoAnswer; TimeoutError where none is there by
        ``until`` (``monotonic``). Only where it has to be waited for a timer is set."""
        if self._tls.paths:
            self._tls.look_now_and_then()
        if self._slots.locked():
            async with self._clock.timeout(self._left_s(until)):
                await self._slots.acquire()
        else:
            await self._slots.acquire()
        try:
            if self._closed.is_set():
                raise Unsent(_CLOSED)
            way = Way(target.scheme, target.host, target.port, proxy)
            idle = self._idle.get(way)
            while idle:
                connection = idle.pop()
                # The event loop reads only after those who were waiting have gone on. They would send to a
                # server that has closed already, or take for their answer what came before their request.
                if self._serves(connection, self._clock.monotonic()) and not connection.look(0):
                    return connection
                self._end(connection)
            if len(self._open) >= self._most:
                self._end_an_idle_one()
            async with self._clock.timeout(self._left_s(until)):
                connection = await self._dialer.connect(target, way, connect_s)
            if self._closed.is_set():
                connection.abort()
                raise Unsent(_CLOSED)
            self._open.add(connection)
            return connection
        except BaseException:
            self._slots.release()
            raise

    def give_back(self, connection: ClientConnection) -> None:
        self._slots.release()
        now = self._clock.monotonic()
        connection.idle_since = now
        if not self._serves(connection, now):
            self._end(connection)
            return
        self._idle.setdefault(connection.way, []).append(connection)
        if self._sweep_timer is None:
            self._sweep_timer = self._clock.call_later(KEEP_ALIVE_S, self._sweep)

    async def aclose(self) -> None:
        """Requests that are out end with their connections; those that wait for one are not sent."""
        self._closed.set()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._idle.clear()
        ending = [connection.closed for connection in self._open]
        for connection in tuple(self._open):
            self._end(connection)
        if ending:
            await asyncio.wait(ending)

    def _left_s(self, until: float) -> float | None:
        return None if until == math.inf else until - self._clock.monotonic()

    def _serves(self, connection: ClientConnection, now: float) -> bool:
        return (
            connection.reusable
            and now < connection.retire_at
            and now < connection.idle_since + connection.kept_s
            and connection.generation == self._tls.generation
        )

    def _end(self, connection: ClientConnection) -> None:
        self._open.discard(connection)
        connection.abort()

    def _end_an_idle_one(self) -> None:
        """Of another way, where all that may be are open: hosts can be many."""
        for idle in self._idle.values():
            if idle:
                self._end(idle.pop(0))
                return

    def _sweep(self) -> None:
        """End what is idle for too long; a way without connections is forgotten."""
        now = self._clock.monotonic()
        for way, idle in tuple(self._idle.items()):
            for connection in idle:
                if not self._serves(connection, now):
                    self._end(connection)
            self._idle[way] = kept = [one for one in idle if one in self._open]
            if not kept:
                del self._idle[way]
        self._sweep_timer = self._clock.call_later(KEEP_ALIVE_S, self._sweep) if self._idle else None


def _head(
    method: str, target: RequestTarget, headers: Mapping[str, str], length: int, *, absolute: bool
) -> bytes:
    """Raises ValueError for what would end a line. ``absolute``: for a proxy."""
    place = target.netloc
    path = f"http://{place}{target.path}" if absolute and target.scheme == "http" else target.path
    lines = [f"{method} {path} HTTP/1.1", f"host: {place}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if not (text := "".join(lines)).isprintable() and not text.replace("\t", "").isprintable():
        raise ValueError("a header or the URL has forbidden characters")
    if length or method not in _BODILESS:
        lines.append(f"content-length: {length}")
    lines += ("", "")
    return "\r\n".join(lines).encode("ascii")


def _idle_s(timeout: Timeout) -> float | None:
    """``exchange`` sees to the total; a read that may take as long as all of it needs no clock of its own."""
    if timeout.read is not None and timeout.total is not None and timeout.read >= timeout.total:
        return None
    return timeout.read
