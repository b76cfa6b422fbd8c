"""The head of a request, taken apart, and every reason to refuse one (RFC 9112). Called by ``connection.py``.

llhttp parses. What it lets through and another server might read differently is refused here: that
difference is what request smuggling lives from.
"""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from ingestd.httpd.response import Headers

END_OF_HEAD = b"\r\n\r\n"

_REQUEST_LINE = re.compile(rb"[!-~]+ [!-~]+ HTTP/([0-9]\.[0-9])\r\n")
_REQUEST_LINE_RULE = "the request line must be: method, one space, target, one space, HTTP/1.1"
_PROXY_WORDS = "this begins with the PROXY protocol, which is not read here: switch it off in the proxy"
_OTHER_PROTOCOLS = {
    b"PROXY ": _PROXY_WORDS,
    b"\0\r\nQUIT\n": _PROXY_WORDS,  # version 2; its empty lines before that are gone
    b"\x16\x03": "this is TLS, where plain HTTP is expected",
}
_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?")
_LENGTH = re.compile(r"[0-9]{1,18}")
_ONCE = frozenset({"host", "content-length", "transfer-encoding"})
_KNOWN_NAMES = {
    spelt.encode("ascii"): name
    for name in (
        *("host", "connection", "user-agent", "accept", "accept-encoding", "content-type", "content-length"),
        *("content-encoding", "authorization", "transfer-encoding", "expect", "traceparent"),
        *("ce-id", "ce-source", "ce-type", "ce-specversion", "ce-time", "ce-subject"),
    )
    for spelt in (name, name.title())
}
_NO_REPEATS: frozenset[str] = frozenset()


class BadRequest(Exception):
    """To be answered with ``status`` and the connection closed. Holds nothing that the client sent."""

    def __init__(self, status: int, detail: str, *, headers: Headers = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


@dataclass(slots=True, eq=False)
class Head:
    """The request line and the fields; also receives the callbacks of its parser."""

    raw_target: bytes = b""
    method: str = ""
    target: str = ""
    path: str = ""
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    repeated: frozenset[str] = _NO_REPEATS
    is_http_1_0: bool = False
    keep_alive: bool = True
    body_bytes: int = 0
    """Of the body as announced; 0 if it is chunked."""
    chunked: HttpRequestParser | None = None
    """The parser that is to be fed the body, if that comes in chunks."""
    awaits_continue: bool = False
    complete: bool = False
    decoded: bytearray | None = None
    """Where a chunked body goes to."""
    body_complete: bool = False
    reading: Any = None
    """Of the application: see ``Request``."""

    def on_message_begin(self) -> None:
        if self.complete:  # the framing here and llhttp's would differ: nothing of it is believed then
            raise BadRequest(400, "a second request begins inside of the first")

    def on_url(self, url: bytes) -> None:
        self.raw_target += url

    def on_header(self, raw_name: bytes, raw_value: bytes) -> None:
        if self.complete:
            return  # trailers: nothing that they could say is wanted
        name = _KNOWN_NAMES.get(raw_name) or raw_name.decode("ascii").lower()
        value = raw_value.decode("latin-1").strip(" \t")
        if name not in self.headers:
            self.headers[name] = value
            return
        if name in _ONCE:
            raise BadRequest(400, f"the field {name} came twice")
        self.headers[name] = f"{self.headers[name]}, {value}"
        self.repeated |= {name}

    def on_headers_complete(self) -> None:
        self.complete = True

    def on_body(self, data: bytes) -> None:
        if self.decoded is not None:
            self.decoded += data

    def on_message_complete(self) -> None:
        self.body_complete = True


def refuse_beginning(raw: bytes) -> None:
    """An incomplete head. Raises BadRequest if no further bytes can make a good one of it: what is no
    HTTP at all is not waited for until the timeout."""
    if raw and not 65 <= raw[0] <= 90:
        _explain_other_protocol(raw)
        raise BadRequest(400, "this is not HTTP/1.1: a request begins with its method in capitals")
    lines = raw.count(b"\r\n")
    if raw.count(b"\n") != lines or raw.count(b"\r") - raw.endswith(b"\r") != lines:
        raise BadRequest(400, "lines of the head must end with CR LF")
    if lines:
        _explain_request_line(raw)


def read_head(raw: bytes, *, max_headers: int) -> Head:
    """``raw``: all of it, with the empty line at its end. Raises BadRequest."""
    lines = raw.count(b"\r\n")
    if lines - 2 > max_headers:
        raise BadRequest(431, f"more than {max_headers} header fields")
    if raw.count(b"\n") != lines or raw.count(b"\r") != lines:
        _explain_other_protocol(raw)
        raise BadRequest(400, "lines of the head must end with CR LF")
    head = Head()
    parser = HttpRequestParser(head)
    upgrade = _parse(parser, raw, head)
    if upgrade and "transfer-encoding" in head.headers:
        # llhttp would read no chunks behind it: it is shown a head of the same length that asks for nothing
        head = Head()
        parser = HttpRequestParser(head)
        upgrade = _parse(parser, _UPGRADE.sub(b"\r\nIgnored:", raw), head)
    head.method = parser.get_method().decode("ascii")
    version = parser.get_http_version()
    # byte for byte, so that no blank, no tab and no other protocol's name can hide in this line
    line = b"%b %b HTTP/%b\r\n" % (parser.get_method(), head.raw_target, version.encode("ascii"))
    if not raw.startswith(line) or version not in {"1.1", "1.0"}:
        _explain_request_line(raw)
        raise BadRequest(400, _REQUEST_LINE_RULE)
    head.is_http_1_0 = version == "1.0"
    _check_host(head)
    _split_target(head)
    _frame_body(head, parser, upgrade=upgrade)
    if "connection" in head.headers or head.is_http_1_0:
        _settle_connection(head)
    if "expect" in head.headers and not head.is_http_1_0:
        if head.headers["expect"].lower() != "100-continue":
            raise BadRequest(417, "of all expectations only 100-continue is known")
        head.awaits_continue = True
    return head


def _parse(parser: HttpRequestParser, raw: bytes, head: Head) -> bool:
    """Feed it; whether the client asks for another protocol, which it does not get (RFC 9110, 7.8)."""
    upgrade = False
    try:
        parser.feed_data(raw)
    except HttpParserUpgrade:
        upgrade = True
    except HttpParserError as error:
        if isinstance(error.__context__, BadRequest):
            raise error.__context__ from None
        _explain_request_line(raw)
        raise BadRequest(400, f"the head is malformed: {error}") from None
    if not head.complete:
        _explain_request_line(raw)
        raise BadRequest(400, "the head is malformed")
    return upgrade


def _explain_request_line(raw: bytes) -> None:
    """Raise BadRequest if it is this line that is wrong."""
    match = _REQUEST_LINE.match(raw)
    if not match:
        _explain_other_protocol(raw)
        raise BadRequest(400, _REQUEST_LINE_RULE) from None
    if match[1] not in {b"1.0", b"1.1"}:
        raise BadRequest(505, "only HTTP/1.1 and HTTP/1.0 are spoken here") from None


def _explain_other_protocol(raw: bytes) -> None:
    """Raise BadRequest if it is one that is known."""
    for beginning, words in _OTHER_PROTOCOLS.items():
        if raw.startswith(beginning):
            raise BadRequest(400, words) from None


def _check_host(head: Head) -> None:
    host = head.headers.get("host")
    if host is None:
        if not head.is_http_1_0:
            raise BadRequest(400, "the field host is missing")
    elif not _HOST.fullmatch(host):
        raise BadRequest(400, "the field host is malformed")


def _split_target(head: Head) -> None:
    """Origin form, absolute form or ``*`` (RFC 9112, 3.2); llhttp saw to it that it is printable ASCII."""
    target = head.raw_target.decode("ascii")
    if "#" in target:
        raise BadRequest(400, "a request's target has no fragment")
    if target[0] != "/" and not (target == "*" and head.method == "OPTIONS"):
        target = _origin_form(head, target)
    head.target = target
    head.path, _, head.query = target.partition("?")


def _origin_form(head: Head, target: str) -> str:
    try:
        parts = urlsplit(target)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise BadRequest(400, "the request's target must begin with / or be an http URL")
    if parts.netloc.lower() != head.headers.get("host", parts.netloc).lower():
        raise BadRequest(400, "the request's target and the field host name different hosts")
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path


def _frame_body(head: Head, parser: HttpRequestParser, *, upgrade: bool) -> None:
    """RFC 9112, 6.1-6.3."""
    length, coding = head.headers.get("content-length"), head.headers.get("transfer-encoding")
    if coding is not None:
        if length is not None or head.is_http_1_0 or upgrade:
            raise BadRequest(400, "transfer-encoding does not go with content-length, HTTP/1.0 or CONNECT")
        if coding.lower() != "chunked":
            is_last = coding.lower().rpartition(",")[2].strip(" \t") == "chunked"
            raise BadRequest(501 if is_last else 400, "the only transfer-encoding known is chunked")
        head.chunked = parser
    elif length is not None:
        if not _LENGTH.fullmatch(length):
            raise BadRequest(400, "content-length is not a number")
        head.body_bytes = int(length)


def _settle_connection(head: Head) -> None:
    """RFC 9112, 9.3: HTTP/1.1 stays open unless asked to close, HTTP/1.0 the other way round."""
    options = {option.strip(" \t") for option in head.headers.get("connection", "").lower().split(",")}
    head.keep_alive = "close" not in options and (not head.is_http_1_0 or "keep-alive" in options)
