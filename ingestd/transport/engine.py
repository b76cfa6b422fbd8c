"""httpx's transport interface over one aiohttp session: a fraction of the CPU of httpx's own engine.

Used by ``client.py``. Unlike other transports it reads the answer's body itself, up to a limit and a
deadline: a response is whole or marked as cut, and leaves nothing open. See ``benchmarks/engines.py``.
"""

import asyncio
import ssl
import urllib.request
from functools import lru_cache

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from ingestd.transport.trouble import as_httpx_error

_READ_AHEAD_BYTES = 64 * 1024
_KEEP_ALIVE_S = 15.0
_NETWORK_TROUBLE = (aiohttp.ClientError, OSError, ValueError)  # OSError has TimeoutError and SSLError in it


class Received(httpx.Response):
    """A response that has been read. ``raw``: its body as sent, never decompressed: a bomb stays small."""

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
    A request's ``extensions["timeout"]`` has httpx's ``connect`` and ``read``, and ours, ``total``: seconds
    or None. The status line and complete headers decide: a body that is cut short, stalls or is too
    long makes ``Received.truncated``. Raises httpx.TransportError, in fixed words, for everything else.
    """

    def __init__(
        self,
        ssl_context: ssl.SSLContext,
        *,
        max_connections: int,
        max_body_bytes: int,
        trust_env: bool = False,
    ) -> None:
        self._ssl_context = ssl_context
        self._max_connections = max_connections
        self._max_body_bytes = max_body_bytes
        self._proxies = urllib.request.getproxies() if trust_env else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Engine":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=self._ssl_context, limit=self._max_connections, keepalive_timeout=_KEEP_ALIVE_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            read_bufsize=_READ_AHEAD_BYTES,
        )
        return self

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def handle_async_request(self, request: httpx.Request) -> Received:
        timeout = request.extensions.get("timeout", {})
        answer: aiohttp.ClientResponse | None = None
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(timeout.get("total")):
                answer = await self._start(request, timeout)
                truncated = await _read(answer, parts, limit=self._max_body_bytes)
        except _NETWORK_TROUBLE as trouble:
            if answer is None:
                raise as_httpx_error(trouble) from None  # the chain would carry what the words leave out
            truncated = True
        finally:
            if answer is not None:
                answer.close()  # also when cancelled; gives a connection that was read to its end back
        if not 200 <= answer.status <= 599:
            raise httpx.RemoteProtocolError(f"the answer's status is {answer.status}")
        raw = b"".join(parts)[: self._max_body_bytes]
        response = Received(answer.status, headers=list(answer.raw_headers), stream=httpx.ByteStream(raw))
        response.raw = raw
        response.truncated = truncated
        return response

    async def _start(
        self, request: httpx.Request, timeout: dict[str, float | None]
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("the client has not been entered")
        url = _convert(request.url)
        body = await request.aread()
        return await self._session.request(
            request.method,
            url,
            headers=[(name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers.raw],
            data=_Bytes(body) if body else None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(sock_connect=timeout.get("connect"), sock_read=timeout.get("read")),
            proxy=_proxy_for(url, self._proxies) if self._proxies else None,
        )


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
def _convert(url: httpx.URL) -> yarl.URL:
    # httpx has made an Authorization header of the user-info; aiohttp refuses to see both
    return yarl.URL(str(url.copy_with(userinfo=b"", fragment=None) if url.userinfo else url), encoded=True)


def _proxy_for(url: yarl.URL, proxies: dict[str, str]) -> str | None:
    if urllib.request.proxy_bypass(url.authority):
        return None
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"
