"""What goes back on a connection: a response, and its bytes."""

from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

Headers = Sequence[tuple[str, str]]


class Response(NamedTuple):
    """``headers``: without Content-Length, Date and Connection, which the wire adds."""

    status: int
    body: bytes = b""
    headers: Headers = ()


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
