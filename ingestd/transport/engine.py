"""One request by aiohttp, in our words.

Used by ``client.py``. It reads the answer's body itself, up to a limit and a deadline: a response is whole
or marked as cut, and leaves nothing open. See ``benchmarks/engines.py`` and ``benchmarks/requests.py``.
"""

# isort: split
from ingestd.transport import late_authorities as late_authorities  # before aiohttp

# isort: split
import random
import socket
import ssl
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import NamedTuple

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, AbstractStreamWriter, ResolveResult
from aiohttp.payload import Payload
from aiohttp.resolver import DefaultResolver

from ingestd.core.clock import Clock
from ingestd.transport.network_errors import NoAnswer, Unsent, as_no_answer
from ingestd.transport.proxies import Proxies
from ingestd.transport.sessions import Sessions
from ingestd.transport.url_guard import AddressRefused, UrlGuard
from ingestd.transport.watched_file import WatchedFiles

HOLD_S = 0.25
"""How long the end of a body is held back that is longer than any that was answered before. An API that ends
the connection at what is too long for it does so meanwhile, and then cannot have taken it."""

_NEVER_TOO_LONG = 16 * 1024
_ECHO = 4  # times as long as the request
_NETWORK_ERRORS = (aiohttp.ClientError, OSError, ValueError)  # OSError has TimeoutError and SSLError in it


class Timeout(NamedTuple):
    """Seconds, or None: ``connect``, ``read`` between two reads, and ``total``, which ends all of it."""

    connect: float | None = None
    read: float | None = None
    total: float | None = None


class Exchanged(NamedTuple):
    """What came back. ``body`` as it came: see ``decoding.py``."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    truncated: bool


class Engine:
    """Sends one request at a time per connection, over as many connections as are allowed.

    ``max_connection_age_s``: see ``sessions.py``.
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
        self._proxies = Proxies.of_environment() if trust_env else None
        places = self._proxies.places if self._proxies else ()
        self._resolver = CheckedResolver(guard, proxies=places) if guard else None
        self._sessions = Sessions(
            tls,
            max_connections=max_connections,
            max_age_s=max_connection_age_s,
            resolver=self._resolver,
            clock=clock,
            rng=rng,
        )

    async def aclose(self) -> None:
        await self._sessions.aclose()
        if self._resolver is not None:
            await self._resolver.close()

    async def __aenter__(self) -> "Engine":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def exchange(
        self, method: str, url: yarl.URL, headers: Mapping[str, str], body: bytes, *, timeout: Timeout
    ) -> Exchanged:
        """Send one request and read its answer. Names of ``headers`` are in lower case, values ASCII.

        The status line and complete headers decide: a body that is cut short, stalls or is too long is
        ``truncated``. Raises NoAnswer for everything else.
        """
        answer: aiohttp.ClientResponse | None = None
        parts: list[bytes] = []
        limit = self._max_body_bytes
        if len(body) * _ECHO > limit:
            limit = self.limit(body)
        sent = None
        if body:
            sent = _Bytes(body, hold_back=self._clock if len(body) > self._answered_bytes else None)
        session = self._sessions.take()
        try:
            async with self._clock.timeout(timeout.total):
                answer = await self._start(session.http, method, url, headers, sent, timeout)
                truncated = await _read(answer, parts, limit=limit)
        except _NETWORK_ERRORS as error:
            if isinstance(error, AddressRefused):
                raise Unsent(str(error)) from None
            if answer is None:
                whole = sent is None or sent.written
                raise as_no_answer(error, whole=whole) from None  # the chain has what the words leave out
            truncated = True
        finally:
            if answer is not None:
                answer.close()  # also when cancelled; gives a connection that was read to its end back
            self._sessions.give_back(session)
        if sent is not None and sent.written and len(body) > self._answered_bytes:
            self._answered_bytes = len(body)
        if not 200 <= answer.status <= 599:
            raise NoAnswer(f"the answer's status is {answer.status}")
        return Exchanged(answer.status, answer.raw_headers, b"".join(parts)[:limit], truncated)

    def limit(self, body: bytes) -> int:
        """How much of the answer to ``body`` is kept: APIs that give back each event, and more, do exist."""
        return max(self._max_body_bytes, _ECHO * len(body))

    async def _start(
        self,
        http: aiohttp.ClientSession,
        method: str,
        url: yarl.URL,
        headers: Mapping[str, str],
        body: "_Bytes | None",
        timeout: Timeout,
    ) -> aiohttp.ClientResponse:
        if self._guard is not None and (refusal := self._guard.refusal(url.raw_host or "")):
            raise AddressRefused(refusal)  # an address is not looked up: the resolver never sees it
        return await http.request(
            method,
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            timeout=_client_timeout(timeout),
            proxy=self._proxies.of(url) if self._proxies else None,
        )


class CheckedResolver(AbstractResolver):
    """Looks a host up once and hands on only the addresses that the guard lets pass. The connector connects
    to just these, so that a name which answers otherwise the next time (DNS rebinding) gains nothing.

    ``proxies``: (host, port) that are not checked: they are of our own configuration.
    """

    def __init__(self, guard: UrlGuard, *, proxies: Collection[tuple[str, int]] = ()) -> None:
        self._guard = guard
        self._proxies = proxies
        self._inner = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises AddressRefused where no address may be connected to, OSError where there is none."""
        found = await self._inner.resolve(host, port, family)
        if (host, port) in self._proxies:
            return found
        refusals = [self._guard.refusal(one["host"].partition("%")[0], host) for one in found]
        good = [one for one, refusal in zip(found, refusals, strict=True) if not refusal]
        if found and not good:
            raise AddressRefused(refusals[0])
        return good

    async def close(self) -> None:
        await self._inner.close()


@lru_cache(maxsize=64)
def _client_timeout(timeout: Timeout) -> aiohttp.ClientTimeout:
    """``exchange`` sees to the total; a read that may take as long as all of it needs no clock of its own."""
    idle_s = timeout.read
    if idle_s is not None and timeout.total is not None and idle_s >= timeout.total:
        idle_s = None
    return aiohttp.ClientTimeout(sock_connect=timeout.connect, sock_read=idle_s)


_BESIDE_HEAD = 16 * 1024


class _Bytes(Payload):
    """A request body. aiohttp's own class for bytes warns, once each, of those over 1 MiB.

    ``hold_back``: by this clock the last byte goes a little later. ``written``: all of it is out of our
    hands; until then the other side cannot have it whole.
    """

    _value: bytes

    def __init__(self, value: bytes, *, hold_back: Clock | None) -> None:
        super().__init__(value)
        self._hold_back = hold_back
        self.written = False
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        if self._hold_back:
            await writer.write(self._value[:-1])
            await writer.drain()
            await self._hold_back.sleep(HOLD_S)
            await writer.write(self._value[-1:])
        else:
            # What is written first is copied behind the head: of a long body that is only its beginning.
            first = _BESIDE_HEAD if len(self._value) > 4 * _BESIDE_HEAD else len(self._value)
            await writer.write(self._value[:first])
            if first < len(self._value):
                await writer.write(memoryview(self._value)[first:])
        self.written = True


async def _read(answer: aiohttp.ClientResponse, parts: list[bytes], *, limit: int) -> bool:
    """Collect the body in ``parts`` until its end, or over ``limit`` bytes: then True."""
    size = 0
    while part := await answer.content.readany():
        parts.append(part)
        size += len(part)
        if size > limit:
            return True
    return False
