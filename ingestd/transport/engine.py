"""One aiohttp session, also behind httpx's transport interface: a fraction of the CPU of httpx's own engine.

Used by ``client.py``. It reads the answer's body itself, up to a limit and a deadline: a response is whole
or marked as cut, and leaves nothing open. See ``benchmarks/engines.py`` and ``benchmarks/requests.py``.
"""

import asyncio
import ssl
import urllib.request
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from ingestd.transport.checked_resolver import CheckedResolver
from ingestd.transport.trouble import as_httpx_error
from ingestd.transport.url_guard import AddressRefused, UrlGuard

_READ_AHEAD_BYTES = 64 * 1024
_KEEP_ALIVE_S = 15.0
_NETWORK_TROUBLE = (aiohttp.ClientError, OSError, ValueError)  # OSError has TimeoutError and SSLError in it


class Timeout(NamedTuple):
    """Seconds, or None: ``connect``, ``read`` between two reads, and ``total``, which ends all of it."""

    connect: float | None = None
    read: float | None = None
    total: float | None = None


class Exchanged(NamedTuple):
    """What came back. ``body`` as sent, never decompressed: a bomb stays small."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    truncated: bool


class Received(httpx.Response):
    """A response that has been read. ``raw``: see ``Exchanged.body``."""

    raw: bytes
    truncated: bool

    @property
    def has_redirect_location(self) -> bool:
        # httpx parses the Location of a redirect even where it is not to follow it, and raises on garbage
        return False


class Engine(httpx.AsyncBaseTransport):
    """Sends one request at a time per connection, over as many connections as are allowed.

    ``max_body_bytes``: how much of an answer is kept; the rest is discarded with its connection.
    ``trust_env``: take proxies from ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.
    ``guard``: where no request goes. Through a proxy it sees the URL only: the proxy looks up its name.
    """

    def __init__(
        self,
        ssl_context: ssl.SSLContext,
        *,
        max_connections: int,
        max_body_bytes: int,
        trust_env: bool = False,
        guard: UrlGuard | None = None,
    ) -> None:
        self._guard = guard
        self._ssl_context = ssl_context
        self._max_connections = max_connections
        self._max_body_bytes = max_body_bytes
        self._proxies = urllib.request.getproxies() if trust_env else {}
        self._resolver: CheckedResolver | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Engine":
        if self._guard is not None:
            self._resolver = CheckedResolver(self._guard, proxies=_places(self._proxies))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=self._ssl_context,
                limit=self._max_connections,
                keepalive_timeout=_KEEP_ALIVE_S,
                resolver=self._resolver,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            read_bufsize=_READ_AHEAD_BYTES,
        )
        # it would send GET, PUT, OPTIONS … a second time, unasked, when a connection breaks
        self._session._retry_connection = False  # noqa: SLF001 - there is no setting for it
        return self

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
        if self._resolver is not None:
            await self._resolver.close()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def exchange(
        self, method: str, url: yarl.URL, headers: Mapping[str, str], body: bytes, *, timeout: Timeout
    ) -> Exchanged:
        """Send one request and read its answer. Names of ``headers`` are in lower case, values ASCII.

        The status line and complete headers decide: a body that is cut short, stalls or is too long is
        ``truncated``. Raises httpx.TransportError, in fixed words, for everything else.
        """
        answer: aiohttp.ClientResponse | None = None
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(timeout.total):
                answer = await self._start(method, url, headers, body, timeout)
                truncated = await _read(answer, parts, limit=self._max_body_bytes)
        except _NETWORK_TROUBLE as trouble:
            if isinstance(trouble, AddressRefused):
                raise httpx.ConnectError(str(trouble)) from None
            if answer is None:
                raise as_httpx_error(trouble) from None  # the chain would carry what the words leave out
            truncated = True
        finally:
            if answer is not None:
                answer.close()  # also when cancelled; gives a connection that was read to its end back
        if not 200 <= answer.status <= 599:
            raise httpx.RemoteProtocolError(f"the answer's status is {answer.status}")
        raw = b"".join(parts)[: self._max_body_bytes]
        return Exchanged(answer.status, answer.raw_headers, raw, truncated)

    async def handle_async_request(self, request: httpx.Request) -> Received:
        """The same for httpx. ``extensions["timeout"]`` has the names of ``Timeout``."""
        asked = request.extensions.get("timeout", {})
        timeout = Timeout(asked.get("connect"), asked.get("read"), asked.get("total"))
        headers = {n.decode("ascii"): value.decode("latin-1") for n, value in request.headers.raw}
        body = await request.aread()
        done = await self.exchange(request.method, convert(request.url), headers, body, timeout=timeout)
        response = Received(done.status, headers=list(done.headers), stream=httpx.ByteStream(done.body))
        response.raw = done.body
        response.truncated = done.truncated
        return response

    async def _start(
        self, method: str, url: yarl.URL, headers: Mapping[str, str], body: bytes, timeout: Timeout
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("the client has not been entered")
        if self._guard is not None and (refusal := self._guard.refusal(url.raw_host or "")):
            raise AddressRefused(refusal)  # an address is not looked up: the resolver never sees it
        return await self._session.request(
            method,
            url,
            headers=headers,
            data=_Bytes(body) if body else None,
            allow_redirects=False,
            timeout=_client_timeout(timeout),
            proxy=_proxy_for(url, self._proxies) if self._proxies else None,
        )


@lru_cache(maxsize=64)
def _client_timeout(timeout: Timeout) -> aiohttp.ClientTimeout:
    """``exchange`` sees to the total; a read that may take as long as all of it needs no clock of its own."""
    idle_s = timeout.read
    if idle_s is not None and timeout.total is not None and idle_s >= timeout.total:
        idle_s = None
    return aiohttp.ClientTimeout(sock_connect=timeout.connect, sock_read=idle_s)


class _Bytes(Payload):
    """A request body. aiohttp's own class for bytes warns, once each, of those over 1 MiB."""

    _value: bytes

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await writer.write(self._value)


async def _read(answer: aiohttp.ClientResponse, parts: list[bytes], *, limit: int) -> bool:
    """Collect the body in ``parts`` until its end, or over ``limit`` bytes: then True."""
    size = 0
    while part := await answer.content.readany():
        parts.append(part)
        size += len(part)
        if size > limit:
            return True
    return False


@lru_cache(maxsize=64)
def convert(url: httpx.URL) -> yarl.URL:
    """aiohttp's URL for httpx's, without its user-info."""
    # httpx has made an Authorization header of the user-info; aiohttp refuses to see both
    return yarl.URL(str(url.copy_with(userinfo=b"", fragment=None) if url.userinfo else url), encoded=True)


def _proxy_for(url: yarl.URL, proxies: dict[str, str]) -> str | None:
    if urllib.request.proxy_bypass(url.authority):
        return None
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _places(proxies: Mapping[str, str]) -> set[tuple[str, int]]:
    """(host, port) of each; under "no" are the hosts that need none."""
    given = [proxy for scheme, proxy in proxies.items() if scheme in ("http", "https", "all") and proxy]
    urls = (yarl.URL(proxy if "://" in proxy else f"http://{proxy}") for proxy in given)
    return {(url.raw_host, url.port) for url in urls if url.raw_host and url.port}
