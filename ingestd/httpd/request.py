"""The joint between the wire (``connection.py``) and what a request means (``endpoint.py``).

The wire makes Requests and calls an Application; an Application answers with ``Request.respond``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

import msgspec

Headers = Sequence[tuple[str, str]]


class Response(NamedTuple):
    """``headers``: without Content-Length, Date and Connection, which the wire adds."""

    status: int
    body: bytes = b""
    headers: Headers = ()


class RequestSpan(Protocol):
    """What is traced of a request, until its answer."""

    def answered(self, status: int) -> None:
        """The answer went out with this status."""
        ...


class Request(msgspec.Struct, eq=False):
    """One HTTP request. ``body`` is whole in ``Application.handle`` and empty in ``check_head``."""

    method: str
    target: str
    """As it was sent: path and query; of an absolute-form target without scheme and authority."""
    path: str
    """Not percent-decoded."""
    query: str
    headers: dict[str, str]
    """Lower-case names, latin-1 values. A field that came twice is joined with ``", "``."""
    answer: Callable[[Response], None] | None
    """Where ``respond`` goes to, once. Set to None afterwards and when the client goes."""
    peer: str = ""
    """The client's IP address."""
    certificate_name: str = ""
    """Common name, or else first subject alternative name, of a verified client certificate."""
    repeated: frozenset[str] = frozenset()
    """Names of the fields that came more than once."""
    body: bytes = b""
    gone: bool = False
    """The client has closed the connection, or was cut off."""
    span: RequestSpan | None = None
    """Where requests are traced."""
    reading: Any = None
    """What ``check_head`` made of the head, if it let it pass: the next request whose head is the same, byte
    by byte, comes with it."""

    def respond(self, status: int, body: bytes = b"", headers: Headers = ()) -> None:
        """Answer: now or later, on the event loop. Dropped when it comes a second time or the client is
        gone. Unknown statuses and headers that would break the framing become a 500."""
        self.reply(Response(status, body, headers))

    def reply(self, response: Response) -> None:
        """As ``respond``. One that is given again and again is encoded once a second."""
        answer, self.answer = self.answer, None
        if self.span is not None:
            self.span.answered(response.status)
        if answer is not None:
            answer(response)


class Application(Protocol):
    """What stands behind the wire. Both are called on the event loop and must not block."""

    def check_head(self, request: Request) -> Response | None:
        """Called when the head is complete and before the body is read: an early refusal, or None."""
        ...

    def handle(self, request: Request) -> None:
        """The body is complete. Responds through ``request.respond``, now or later."""
        ...


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits for a client. Beyond one it gets an error and is cut off."""

    max_head_bytes: int = 16 * 1024
    """Request line and fields together; 431."""
    max_headers: int = 64
    max_body_bytes: int = 16 * 1024 * 1024
    """As sent, before decoding; 413."""
    max_buffered_bytes: int = 128 * 1024 * 1024
    """Of all bodies that are held at once; 503 for a body of more than 64 KiB that would pass it."""
    head_timeout_s: float = 10.0
    """From the first byte to the last field, and for a TLS handshake; 408."""
    body_timeout_s: float = 30.0
    """From the head to the end of the body; 408. Also for a client that does not read its answers."""
    idle_timeout_s: float = 75.0
    """A connection without a request; closed without a word."""
    max_connections: int = 10_000
    """At once; 503."""
    max_surplus: int = 256
    """Connections above the limit that get an error at the same time; any more are closed at once."""
    linger_s: float = 5.0
    """What a refused client may go on sending, so that it comes to read its answer (RFC 9112, 9.6)."""
    linger_bytes: int = 16 * 1024 * 1024
    sweep_s: float = 1.0
    """How often slow clients are looked for."""


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"Connection: close\r\n"
KEEP_ALIVE = b"Connection: keep-alive\r\n"
_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode("ascii") for s in HTTPStatus}
_WITHOUT_BODY = frozenset({204, 304})
_NEVER_IN_A_FIELD = frozenset("\r\n\0")


def date_line() -> bytes:
    """The Date field of now, whole seconds: made once a second, not once a response."""
    return f"Date: {formatdate(usegmt=True)}\r\n".encode("ascii")


def encode(response: Response, *, date: bytes, persistence: bytes = b"", head_only: bool = False) -> bytes:
    """One bytes object: one write, one packet. ``date``, ``persistence``: whole lines.

    Raises ValueError for a header with a line end or a character beyond latin-1, KeyError for a status
    that nobody knows.
    """
    status, body, headers = response
    fields = _encode_headers(tuple(headers)) if headers else b""
    if status in _WITHOUT_BODY:
        return b"%b%b%b%b\r\n" % (_STATUS_LINES[status], date, fields, persistence)
    length = len(body)
    return b"%b%b%bContent-Length: %d\r\n%b\r\n%b" % (
        *(_STATUS_LINES[status], date, fields, length, persistence, b"" if head_only else body),
    )


@lru_cache(maxsize=256)
def _encode_headers(headers: Headers) -> bytes:
    for part in (part for field in headers for part in field):
        if not _NEVER_IN_A_FIELD.isdisjoint(part):
            raise ValueError("a response's header must not hold a line end")
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")
