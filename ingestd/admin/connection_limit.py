"""The connections of the admin address: few, and always room for one more that sends a request.

A flood here must use up neither the file descriptors that producers need, nor the answers of ``/healthz``.
"""

# isort: split
from ingestd.transport import late_authorities as late_authorities  # before aiohttp

# isort: split
import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web

LOOK_S = 1.0
"""At most, between two looks at who has been silent for too long."""


class Connections:
    """A protocol factory around aiohttp's. Beyond ``max_connections`` the one goes that has said nothing for
    the longest time. One that has asked nothing for ``head_timeout_s`` since it was opened, or since it began
    to, goes as well; one that has been answered may stay silent for ``idle_timeout_s``. To look through large
    files, or to change many letters, takes as long as it takes."""

    def __init__(
        self,
        server: Callable[[], asyncio.Protocol],
        *,
        max_connections: int,
        head_timeout_s: float,
        idle_timeout_s: float,
    ) -> None:
        self._server = server
        self._max_connections = max_connections
        self._head_timeout_s = head_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._look_s = min(LOOK_S, head_timeout_s / 2)
        self._open: dict[asyncio.Protocol, _Connection] = {}  # who spoke last comes last
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> asyncio.Protocol:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._look_s, self._look)
        return _Connection(self, self._server())

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()

    async def work(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Around a handler."""
        if (connection := self._open.get(request.protocol)) is None:
            return await handler(request)
        connection.request = request
        try:
            return await handler(request)
        finally:
            connection.request = None
            connection.spoke_at = asyncio.get_running_loop().time()

    async def asked(self, request: web.Request, response: web.StreamResponse) -> None:
        """The head of a request has been read; for ``web.Application.on_response_prepare``."""
        if connection := self._open.get(request.protocol):
            connection.asking_since = None
            connection.streaming = not isinstance(response, web.Response)

    def opened(self, connection: "_Connection", inner: asyncio.Protocol) -> None:
        if len(self._open) >= self._max_connections:
            next(iter(self._open.values())).abort()
        self._open[inner] = connection

    def spoke(self, connection: "_Connection", inner: asyncio.Protocol) -> None:
        if self._open.pop(inner, None):
            self._open[inner] = connection

    def lost(self, inner: asyncio.Protocol) -> None:
        self._open.pop(inner, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._look_s, self._look)
        now = loop.time()
        for connection in list(self._open.values()):
            since, allowed_s = connection.spoke_at, self._idle_timeout_s
            if connection.asking_since is not None:
                since, allowed_s = connection.asking_since, self._head_timeout_s
            if now - since > allowed_s and not (connection.streaming or connection.is_worked_for):
                connection.abort()


class _Connection(asyncio.Protocol):
    """Passes everything on, and remembers when something came. ``asking_since``: no request has been read
    since then; None: the last one was, and nothing came after it. ``streaming``: it gets an answer without
    end, and has nothing to say. ``request``: the one whose handler is at work."""

    def __init__(self, all_of_them: Connections, inner: asyncio.Protocol) -> None:
        self._all = all_of_them
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self.spoke_at = asyncio.get_running_loop().time()
        self.asking_since: float | None = self.spoke_at
        self.streaming = False
        self.request: web.Request | None = None

    @property
    def is_worked_for(self) -> bool:
        """All of what it asks has come, and it waits for the answer."""
        return self.request is not None and self.request.content.is_eof()

    def abort(self) -> None:
        self._all.lost(self._inner)
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's derive from nothing
        self._all.opened(self, self._inner)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.spoke_at = asyncio.get_running_loop().time()
        if self.asking_since is None:
            self.asking_since = self.spoke_at
        self._all.spoke(self, self._inner)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._all.lost(self._inner)
        self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
