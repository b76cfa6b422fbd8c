"""aiohttp's sessions, one after the other: a connection has an age, the TLS files it was made with, and a
protocol that takes answers which are not quite HTTP.

Steady traffic would never look a name up again, and stay with an address that the name has left. So from
time to time a new session, with connections of its own, takes over; the old one ends with its last request.
"""

import asyncio
import functools
import os
import random
import re
import ssl
from typing import Any

import aiohttp
import certifi
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler

from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.transport.late_authorities import LateContext
from ingestd.transport.watched_file import Watch, WatchedFiles

MAX_HEAD_LINE_BYTES = 128 * 1024
"""Policies and cookies of gateways come near to 64 KiB in one line."""

_READ_AHEAD_BYTES = 64 * 1024
_KEEP_ALIVE_S = 15.0
_MAX_HEAD_BYTES = 132 * 1024
"""What is longer is handed on as it is: aiohttp has limits of its own, a little lower."""

_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]{1,20}(?:[ \t]*,[ \t]*[0-9]{1,20})*)[ \t]*\r?\n")
_NAME = b"\ncontent-length:"
_MAX_DIGITS = 20
_WITHOUT_BODY = (b"204", b"304")


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
        resolver: AbstractResolver | None,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._tls = tls
        self._max_connections = max_connections
        self._max_age_s = max_age_s
        self._resolver = resolver
        self._clock = clock
        self._rng = rng
        self._current: Session | None = None
        self._open: set[Session] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def take(self) -> Session:
        """The session for one request, within a running loop."""
        if self._tls.paths:
            self._tls.look_now_and_then()
        session = self._current
        if session is None or self._is_old(session):
            if session is not None:
                self._retire(session)
            session = self._current = self._make(self._tls.get())
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
        return session.generation != self._tls.generation or self._clock.monotonic() >= session.retire_at

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
        age_s = self._max_age_s * self._rng.uniform(0.8, 1.0)  # many processes must not renew theirs together
        return Session(http, generation=self._tls.generation, retire_at=self._clock.monotonic() + age_s)

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


class LenientResponseHandler(ResponseHandler):
    """``ResponseHandler``, which is given a head whole.

    RFC 9110 8.6 lets a recipient take ``Content-Length: 2, 2``, or the line twice, for one; proxies send
    that. llhttp refuses it. So each head is looked at before, and such a one is handed on with the line once.
    Others send a body with a 204, or more bytes than their Content-Length says, for which llhttp would drop
    the answer: they are left out, and the connection ends with it (RFC 9112 6.3).
    """

    _head: bytearray | None = None

    def set_response_params(self, **params: Any) -> None:
        self._head = bytearray()
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        if self._head is not None and data:
            if self._head or b"\r\n\r\n" not in data:
                data = self._gather(data)
                if not data:
                    self._reschedule_timeout()
                    return
            self._head = None
            data, surplus = _within_length(_collapse(data))
            if surplus:
                self.force_close()
        super().data_received(data)

    def _gather(self, data: bytes) -> bytes:
        """All that has come, once the head is whole or is none; before that nothing."""
        assert self._head is not None
        border = bytes(self._head[-3:]) + data
        self._head += data
        whole = b"\r\n\r\n" in border or b"\n\n" in border or len(self._head) > _MAX_HEAD_BYTES
        return bytes(self._head) if whole or not self._head.startswith(b"HTTP/"[: len(self._head)]) else b""


def _collapse(data: bytes) -> bytes:
    """With one Content-Length where it is there more than once and always the same; else as it is."""
    head, _, rest = data.partition(b"\r\n\r\n")
    low = head.lower()
    first = low.find(_NAME)
    if first < 0 or (low.find(_NAME, first + 1) < 0 and b"," not in low[first : low.find(b"\n", first + 1)]):
        return data
    lengths = {int(number) for line in _LENGTH.finditer(head + b"\r\n") for number in line[1].split(b",")}
    if len(lengths) != 1:
        return data
    return _LENGTH.sub(b"", head + b"\r\n") + b"Content-Length: %d\r\n" % lengths.pop() + b"\r\n" + rest


def _within_length(data: bytes) -> tuple[bytes, bool]:
    """Without what stands behind the answer's end, and whether there is something, or will be."""
    head, _, rest = data.partition(b"\r\n\r\n")
    bare = data[9:12] in _WITHOUT_BODY
    if not rest and not bare:
        return data, False
    low = head.lower()
    first = low.find(_NAME)
    number = low[first + len(_NAME) :].partition(b"\r")[0].strip() if first >= 0 else b""
    length = int(number) if number.isdigit() and len(number) <= _MAX_DIGITS else 0
    coded = b"\ntransfer-encoding:" in low
    if bare:
        return data[: len(data) - len(rest)], bool(rest or length or coded)
    surplus = len(rest) - length
    if not number.isdigit() or surplus <= 0 or coded:
        return data, False
    return data[:-surplus], True


def watch_tls(
    ca_file: str | None, certificate: tuple[str, str] | None, *, trust_env: bool, watch: Watch, clock: Clock
) -> WatchedFiles[ssl.SSLContext]:
    """The authorities and the certificate of a client. Files are read again when they change.

    ``ca_file``: PEM, instead of the usual authorities; ``certificate``: PEM files (certificate, key).
    ``trust_env``: the usual ones are those of SSL_CERT_FILE, if that is set. Raises UserError."""
    of_environment = os.environ.get("SSL_CERT_FILE") if trust_env and not ca_file else None
    paths = [path for path in (ca_file, of_environment, *(certificate or ())) if path]
    try:
        return WatchedFiles(
            paths,
            lambda: _tls_context(ca_file, certificate, trust_env=trust_env),
            what=f"TLS ({', '.join(paths)})",
            watch=watch,
            monotonic=clock.monotonic,
        )
    except OSError as error:  # a file that is not there
        raise UserError(f"cannot use the {_which(error, ca_file)} {error.filename}: {error}") from None


def _which(error: OSError, ca_file: str | None) -> str:
    return "CA file" if error.filename == ca_file else "certificate"


def _tls_context(
    ca_file: str | None, certificate: tuple[str, str] | None, *, trust_env: bool
) -> ssl.SSLContext:
    file = os.environ.get("SSL_CERT_FILE") if trust_env else None
    folder = os.environ.get("SSL_CERT_DIR") if trust_env and not file else None
    try:
        if ca_file:
            context = ssl.create_default_context(cafile=ca_file)
        elif certificate or file or folder:
            usual = None if folder else certifi.where()
            context = ssl.create_default_context(cafile=file or usual, capath=folder)
        else:
            return public_authorities()
    except OSError as error:  # SSLError is one
        raise UserError(f"cannot use the CA file {ca_file}: {error}") from None
    if certificate:
        try:
            # without a password OpenSSL asks for that of an encrypted key on the terminal
            context.load_cert_chain(*certificate, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise UserError(f"cannot use the certificate {certificate[0]}: {error}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


@functools.cache
def public_authorities() -> ssl.SSLContext:
    """Those of ``certifi``, for all clients without a certificate: to read them takes 30 ms and 2 MB."""
    context = LateContext(lambda context: context.load_verify_locations(certifi.where()))
    context.set_alpn_protocols(["http/1.1"])
    return context
