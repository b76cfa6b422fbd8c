"""aiohttp's sessions, one after the other: a connection has an age, and the TLS files it was made with.

Steady traffic would never look a name up again, and stay with an address that the name has left. So from
time to time a new session, with connections of its own, takes over; the old one ends with its last request.
"""

import asyncio
import functools
import random
import ssl
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from ingestd.transport.checked_resolver import CheckedResolver
from ingestd.transport.response_handler import LenientResponseHandler
from ingestd.transport.watched_file import WatchedFiles

MAX_HEAD_LINE_BYTES = 128 * 1024
"""Policies and cookies of gateways come near to 64 KiB in one line."""

_READ_AHEAD_BYTES = 64 * 1024
_KEEP_ALIVE_S = 15.0


class Session:
    """One of them, and how many requests are out with it."""

    __slots__ = ("active", "generation", "http", "retire_at", "retired")

    def __init__(self, http: aiohttp.ClientSession, *, generation: int, retire_at: float) -> None:
        self.http = http
        self.generation = generation
        self.retire_at = retire_at
        self.active = 0
        self.retired = False


class Sessions:
    """``take`` before a request, ``give_back`` after it, ``aclose`` in the end.

    ``resolver``: None is the usual one; it is not closed.
    """

    def __init__(
        self,
        tls: WatchedFiles[ssl.SSLContext],
        *,
        max_connections: int,
        max_age_s: float,
        resolver: CheckedResolver | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tls = tls
        self._max_connections = max_connections
        self._max_age_s = max_age_s
        self._resolver = resolver
        self._monotonic = monotonic
        self._current: Session | None = None
        self._open: set[Session] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def take(self) -> Session:
        """The session for one request, within a running loop."""
        tls = self._tls.get()
        session = self._current
        if session is None or self._is_old(session):
            if session is not None:
                self._retire(session)
            session = self._current = self._make(tls)
            self._open.add(session)
        session.active += 1
        return session

    def give_back(self, session: Session) -> None:
        session.active -= 1
        if session.retired and not session.active:
            self._close(session)

    async def aclose(self) -> None:
        """Requests that are out end with their connections."""
        self._current = None
        for session in tuple(self._open):
            self._close(session)
        if self._closing:
            await asyncio.wait(self._closing)

    def _is_old(self, session: Session) -> bool:
        return session.generation != self._tls.generation or self._monotonic() >= session.retire_at

    def _make(self, tls: ssl.SSLContext) -> Session:
        connector = aiohttp.TCPConnector(
            ssl=tls,
            limit=self._max_connections,
            keepalive_timeout=_KEEP_ALIVE_S,
            resolver=self._resolver,
        )
        make_handler: Any = functools.partial(LenientResponseHandler, loop=asyncio.get_running_loop())
        connector._factory = make_handler  # noqa: SLF001 - there is no setting for it
        http = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            read_bufsize=_READ_AHEAD_BYTES,
            max_line_size=MAX_HEAD_LINE_BYTES,
            max_field_size=MAX_HEAD_LINE_BYTES,
        )
        # it would send GET, PUT, OPTIONS … a second time, unasked, when a connection breaks
        http._retry_connection = False  # noqa: SLF001 - there is no setting for it
        age_s = self._max_age_s * random.uniform(0.8, 1.0)  # many processes must not renew theirs together
        return Session(http, generation=self._tls.generation, retire_at=self._monotonic() + age_s)

    def _retire(self, session: Session) -> None:
        session.retired = True
        if not session.active:
            self._close(session)

    def _close(self, session: Session) -> None:
        session.retired = False  # it is not to be closed twice
        self._open.discard(session)
        task = asyncio.create_task(session.http.close(), name="end of old connections")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
