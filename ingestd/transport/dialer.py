"""Makes connections to servers, straight or through a proxy. Called by ``engine.py``."""

import asyncio
import base64
import ipaddress
import random
import socket
import ssl
import weakref
from collections.abc import Collection
from functools import lru_cache, partial
from typing import Any
from urllib.parse import unquote, urlsplit

from aiohappyeyeballs import start_connection

from ingestd.core.clock import Clock
from ingestd.transport.connection import ClientConnection
from ingestd.transport.network_errors import Unsent, unconnected
from ingestd.transport.target import RequestTarget, Way, parse_target
from ingestd.transport.url_guard import UrlGuard
from ingestd.transport.watched_file import WatchedFiles

_NEXT_ADDRESS_S = 0.25  # RFC 8305 5
_PROXY_HEAD_BYTES = 64 * 1024


_KEPT_S = 10.0
_MAX_KEPT = 256

_Make = partial[ClientConnection]
SocketAddress = tuple[int, int, int, str, Any]
"""As ``socket.getaddrinfo`` gives it."""


class Lookup:
    """The addresses of a host, of which only those are handed on that the guard lets pass. A connection is
    made to just these, so that a name which answers otherwise the next time (DNS rebinding) gains nothing.

    ``proxies``: (host, port) that are not checked: they are of our own configuration. ``max_age_s``: how
    long an answer is good at most."""

    def __init__(
        self, guard: UrlGuard | None, *, proxies: Collection[tuple[str, int]], max_age_s: float, clock: Clock
    ) -> None:
        self._guard = guard
        self._proxies = proxies
        self._kept_s = min(_KEPT_S, max_age_s)
        self._clock = clock
        self._known: dict[tuple[str, int], tuple[float, list[SocketAddress]]] = {}
        self._one_at_a_time: weakref.WeakValueDictionary[tuple[str, int], asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )  # of each name: one whose servers are silent holds up no other

    async def addresses(self, host: str, port: int) -> list[SocketAddress]:
        """One at least; each call begins with another. Raises Unsent where no address may be connected to, or
        where there is none."""
        if (address := _as_address(host, port)) is not None:
            return [address]  # the guard has seen it
        lock = self._one_at_a_time.setdefault((host, port), asyncio.Lock())
        async with lock:
            until, found = self._known.get((host, port), (0.0, []))
            if self._clock.monotonic() >= until:
                found = await self._ask(host, port)
                if len(self._known) >= _MAX_KEPT:
                    self._known.clear()
                self._known[host, port] = self._clock.monotonic() + self._kept_s, found
            found.append(found.pop(0))
            return found[:]

    async def _ask(self, host: str, port: int) -> list[SocketAddress]:
        loop = asyncio.get_running_loop()
        try:
            found: list[SocketAddress] = list(
                await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            )
        except (OSError, UnicodeError):
            found = []
        if not found:
            raise Unsent("host name not found")
        if self._guard is None or (host, port) in self._proxies:
            return found
        refusals = [self._guard.refusal(str(one[4][0]).partition("%")[0], host) for one in found]
        good = [one for one, refusal in zip(found, refusals, strict=True) if not refusal]
        if not good:
            raise Unsent(refusals[0])
        return good


def _as_address(host: str, port: int) -> SocketAddress | None:
    """None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 4:
        return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))
    if "%" in host:
        return None  # the system knows the number of the zone
    return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))


class Dialer:
    """``max_age_s``: of a connection, less a random fifth, since many processes must not renew theirs
    together."""

    def __init__(
        self,
        tls: WatchedFiles[ssl.SSLContext],
        lookup: Lookup,
        *,
        max_age_s: float,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._tls = tls
        self._lookup = lookup
        self._max_age_s = max_age_s
        self._clock = clock
        self._rng = rng

    async def connect(self, target: RequestTarget, way: Way, connect_s: float | None) -> ClientConnection:
        """Within ``connect_s``. Raises Unsent."""
        tls, generation = self._tls.get(), self._tls.generation
        make = partial(
            ClientConnection,
            self._clock,
            way=way,
            generation=generation,
            retire_at=self._clock.monotonic() + self._max_age_s * self._rng.uniform(0.8, 1.0),
        )
        proxy = parse_target(way.proxy) if way.proxy else None
        try:
            async with self._clock.timeout(connect_s):
                connection = await self._open_to(proxy or target, make, tls)
                if proxy and target.scheme == "https":
                    connection = await self._tunnel(connection, target, way, make, tls)
        except TimeoutError:
            raise Unsent("no connection in time") from None
        except (OSError, RuntimeError) as error:
            raise unconnected(error, proxied=proxy is not None) from None
        return connection

    async def _open_to(self, place: RequestTarget, make: _Make, tls: ssl.SSLContext) -> ClientConnection:
        loop = asyncio.get_running_loop()
        addresses = await self._lookup.addresses(place.host, place.port)
        sock = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S, loop=loop)
        try:
            _, connection = await loop.create_connection(make, sock=sock)
        except BaseException:
            sock.close()
            raise
        return await _secured(connection, place, make, tls) if place.scheme == "https" else connection

    async def _tunnel(
        self,
        through: ClientConnection,
        target: RequestTarget,
        way: Way,
        make: _Make,
        tls: ssl.SSLContext,
    ) -> ClientConnection:
        """TLS to ``target`` within a connection to a proxy (RFC 9110 9.3.6)."""
        host = f"[{target.host}]" if ":" in target.host else target.host
        place = f"{host}:{target.port}"
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        lines += [f"{name}: {value}" for name, value in proxy_headers(way.proxy or "").items()]
        try:
            head = "".join(f"{line}\r\n" for line in lines).encode("ascii") + b"\r\n"
            await through.send(head, b"", limit=_PROXY_HEAD_BYTES, idle_s=None, without_body=True)
            if through.error or not 200 <= through.status < 300:
                raise Unsent("the proxy refused")
        except BaseException:
            through.abort()
            raise
        return await _secured(through, target, make, tls)


async def _secured(
    plain: ClientConnection, target: RequestTarget, make: _Make, tls: ssl.SSLContext
) -> ClientConnection:
    """TLS to ``target`` over a connection that is there. To make both at once leaves the socket behind, with
    its number in the event loop, if it is cancelled before the handshake has begun."""
    secured = make()
    try:
        transport = await asyncio.get_running_loop().start_tls(
            plain.transport, secured, tls, server_hostname=target.host.rstrip(".")
        )
        if transport is None:
            raise ConnectionResetError
    except BaseException:
        plain.abort()
        raise
    secured.connection_made(transport)
    return secured


@lru_cache(maxsize=64)
def proxy_headers(proxy: str) -> dict[str, str]:
    """The header with the credentials for the proxy, from the user-info of its URL."""
    parts = urlsplit(proxy)
    if not (parts.username or parts.password):
        return {}
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}
