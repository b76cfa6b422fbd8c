"""In which of the accepted formats a request is, by its headers; and its body taken apart into events.

Each event is the bytes that its producer sent. Called by the endpoint. Refused as a whole (400) is only what
has no safe borders between its events. Whether an event is a valid one, a broken line of NDJSON or element of
an array among them, the schema tells later.
"""

import re
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from functools import lru_cache
from io import BytesIO
from itertools import islice
from typing import NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

import msgspec

from ingestd.core.accelerator import compiled
from ingestd.httpd.problem import RefusedRequest
from ingestd.httpd.request import Request
from ingestd.schemas.grammar import find_fault, has_more_elements
from ingestd.sources.http.sequence import SequenceTooDense, elements, values

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class Format(Enum):
    JSON = auto()
    """One event, an array of them, or a sequence: values on lines or back to back."""
    LINES = auto()
    EVENT = auto()
    """A CloudEvent in structured mode."""
    BATCH = auto()
    BINARY = auto()
    """A CloudEvent in binary mode: attributes in headers, the body is its data."""


class MediaType(NamedTuple):
    """Both in lower case, without parameters; empty where the header says nothing."""

    name: str
    charset: str


FORMATS = {
    "application/json": Format.JSON,
    "application/x-json-stream": Format.JSON,
    "application/stream+json": Format.JSON,
    "application/x-ndjson": Format.LINES,
    "application/ndjson": Format.LINES,
    "application/jsonl": Format.LINES,
    "application/cloudevents+json": Format.EVENT,
    "application/cloudevents-batch+json": Format.BATCH,
}
UTF_8 = ("utf-8", "utf8")
ACCEPT_POST = ("Accept-Post", ", ".join(FORMATS))
"""The accepted types (Linked Data Platform 1.0, 7.1), for a 415."""


@lru_cache(maxsize=64)
def parse_media_type(value: str) -> MediaType:
    """Of a Content-Type header (RFC 9110 8.3.1). Never raises: an invalid header is an unknown type."""
    name, *parameters = value.split(";")
    charset = ""
    for parameter in parameters:
        key, _, text = parameter.partition("=")
        if key.strip().lower() == "charset":
            charset = text.strip().strip('"').lower()
            if charset not in UTF_8:
                break  # with two of them, the one that is not understood counts
    return MediaType(name.strip().lower(), charset)


def format_of(request: Request) -> Format:
    """By the CloudEvents HTTP binding 1.0.2, section 3: the prefix of the media type decides, then the
    presence of ``ce-`` headers. Raises Refused: 415, or 400 where Content-Type came twice."""
    if request.repeated and "content-type" in request.repeated:
        raise RefusedRequest(400, "the header Content-Type came more than once")
    value = request.headers.get("content-type", "")
    media_type = parse_media_type(value)
    if not media_type.name.startswith("application/cloudevents") and _has_attributes(request.headers):
        return Format.BINARY
    found = FORMATS.get(media_type.name)
    if found is None:
        what = "this Content-Type is not accepted" if value else "the header Content-Type is missing"
        raise RefusedRequest(
            415,
            f"{what}: send application/json, or another that {ACCEPT_POST[0]} lists",
            headers=[ACCEPT_POST],
        )
    if media_type.charset and media_type.charset not in UTF_8:
        raise RefusedRequest(415, "the only charset taken is utf-8", headers=[ACCEPT_POST])
    return found


def _has_attributes(headers: Mapping[str, str]) -> bool:
    return "\nce-" in "\n" + "\n".join(headers)  # twice as fast as a loop over the names


_MAX_SHOWN = 40


class Query(NamedTuple):
    """``access_token`` is secret: the repr of a query must not get into a log."""

    atomic: bool = False
    wait: bool = False
    access_token: bytes | None = None


NO_QUERY = Query()
_VALUES: dict[str, dict[bytes, bool]] = {
    "atomic": {b"true": True, b"false": False},
    "wait": {b"delivered": True},
}


def parse_query(text: str, *, token_allowed: bool) -> Query:
    """``text``: not empty. Raises Refused (400) for a parameter that is unknown or given twice, and for an
    unknown value."""
    found: dict[str, bool] = {}
    token: bytes | None = None
    for part in text.split("&"):
        name, _, value = part.partition("=")
        raw = unquote_to_bytes(value.encode("latin-1", "replace"))
        if name in found or (name == "access_token" and token is not None):
            raise RefusedRequest(400, f"the parameter {name} is given twice")
        if name == "access_token" and token_allowed:
            token = raw
        elif name in _VALUES:
            choices = _VALUES[name]
            if raw not in choices:
                known = " or ".join(choice.decode() for choice in choices)
                raise RefusedRequest(400, f"the parameter {name} must be {known}")
            found[name] = choices[raw]
        else:
            shown = name if len(name) <= _MAX_SHOWN else name[:_MAX_SHOWN] + "…"
            raise RefusedRequest(400, f"there is no parameter {shown}; there are: {', '.join(_VALUES)}")
    return Query(access_token=token, **found)


BOM = b"\xef\xbb\xbf"
SMALL_BYTES = 64 * 1024
"""A body may always grow to this, however small it was: the shortest ones grow the most."""

_ZSTD_WINDOW_LOG = 23
"""8 MiB, the most that the content coding allows (RFC 9659): a frame may ask for far more memory."""
_MAX_MEMBERS = 16
"""Compressed streams one after the other in one body; each costs a copy of what follows it."""
_DENSE_COMMAS = 400_000
"""An array with fewer cannot cost much memory; of others the elements are counted first."""
_MANY_BYTES = 1024 * 1024
"""Up to here a body may be nothing but line ends without doing harm."""
_BLANK = b" \t\r\n"
_LINE = re.compile(rb"[ \t\r\n]*+([^\n]++)")
_SEVERAL_IN_A_LINE = re.compile(rb"}[ \t]*+{")
_read_value = msgspec.json.Decoder(msgspec.Raw).decode
_read_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /, max_length: int) -> bytes:
        """At most ``max_length`` bytes more. Raises an error of its library for damage."""
        ...


def _gzip() -> _Decompressor:
    return zlib.decompressobj(wbits=31)


def _zstd() -> _Decompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


_CODINGS: dict[str, Callable[[], _Decompressor] | None] = {
    "": None,
    "identity": None,
    "gzip": _gzip,
    "x-gzip": _gzip,  # RFC 9110 8.4.1.3: the same
    "zstd": _zstd,
}
_ACCEPTED_CODINGS = ("Accept-Encoding", "gzip, zstd")


def check_coding(coding: str) -> None:
    """``coding``: the value of Content-Encoding. Raises Refused (415), also for several of them."""
    if coding.strip().lower() not in _CODINGS:
        detail = "this Content-Encoding is not taken: one of gzip and zstd, once, is"
        raise RefusedRequest(415, detail, headers=[_ACCEPTED_CODINGS])


def decode(body: bytes, coding: str, *, max_body_bytes: int, max_expansion: int) -> bytes:
    """The body without its content coding (RFC 9110 8.4).

    At most ``max_body_bytes``, and ``max_expansion`` times what came (or 64 KiB, if that is more); no
    more than that is ever decoded. Raises Refused: 413 over the limit, 400 when damaged or cut off.
    """
    check_coding(coding)
    new = _CODINGS[coding.strip().lower()]
    if new is None:
        return body
    limit = min(max_body_bytes, max(SMALL_BYTES, max_expansion * len(body)))
    blocks, size, rest = list[bytes](), 0, body
    for _ in range(_MAX_MEMBERS):
        decompressor = new()
        try:
            block = decompressor.decompress(rest, max_length=limit - size + 1)
        except (zlib.error, zstd.ZstdError) as error:
            raise RefusedRequest(400, f"the compressed body is damaged: {error}") from None
        size += len(block)
        if size > limit:
            raise RefusedRequest(413, f"the body decodes to more than {limit} bytes, the limit for its size")
        if not decompressor.eof:
            raise RefusedRequest(400, "the compressed body is cut off")
        blocks.append(block)
        rest = decompressor.unused_data
        if not rest:
            return b"".join(blocks)
    raise RefusedRequest(400, f"the body consists of more than {_MAX_MEMBERS} compressed streams")


def take_apart(body: bytes, format_: Format, *, max_events: int) -> Sequence[bytes]:
    """The events of a decoded body in any format but BINARY; none for ``[]`` and for NDJSON without lines.

    An event that is not JSON costs itself as long as it has a beginning and an end. Raises Refused: 400 when
    the body cannot be taken apart, 413 for too many events. Memory: the body once more, or twice.
    """
    body = body.removeprefix(BOM).strip(_BLANK)
    try:
        if format_ is Format.LINES:
            events: Sequence[bytes] = _lines(body, max_events)
        elif format_ is Format.BATCH:
            if not body.startswith(b"["):
                raise RefusedRequest(400, "a batch of CloudEvents is a JSON array")
            events = elements_of(body, max_events)
        elif format_ is Format.EVENT:
            events = _object(body)
        elif body.startswith(b"["):
            events = elements_of(body, max_events, sequence=True)
        else:
            events = _values(body, max_events)
    except SequenceTooDense:
        raise RefusedRequest(
            400, "the body is not JSON, and has too many brackets to find out where"
        ) from None
    if len(events) > max_events:
        raise too_many(max_events)
    return events


def elements_of(body: bytes, max_events: int, *, sequence: bool = False) -> Sequence[bytes]:
    """The elements. ``sequence``: other values may follow it. Raises RefusedRequest: 400, or 413 for too
    many."""
    try:
        if body.count(b",") >= _DENSE_COMMAS and has_more_elements(body, max_events):
            raise too_many(max_events)
        return [bytes(element) for element in _read_array(body)]
    except (ValueError, RecursionError):
        found = elements(body, max_events)
    if found and not found[1].strip(_BLANK):
        return found[0]
    if found and sequence:
        return _values(body, max_events)
    raise RefusedRequest(400, f"the body is not a JSON array: {_fault(body)}")


def _object(body: bytes) -> list[bytes]:
    if not body.startswith(b"{"):
        raise RefusedRequest(400, "a CloudEvent in structured mode is one JSON object")
    if not _is_json(body):
        found = values(body, 1)
        if not found.clean or len(found.values) > 1:
            raise RefusedRequest(400, f"the body is not JSON: {_fault(body)}")
    return [body]


def _values(body: bytes, max_events: int) -> Sequence[bytes]:
    """One value, or a sequence of them: a line each, or back to back, or each on several lines."""
    if _is_json(body):
        return [body]
    lines = _lines(body, max_events)
    whole = sum(line.startswith(b"{") and line.endswith(b"}") for line in lines)
    if whole == len(lines) > 1 and not _SEVERAL_IN_A_LINE.search(body):
        return lines  # nearly always, and cheaper than to look at every bracket
    found = values(body, max_events)
    if found.clean and found.values:
        return _flat(found.values, max_events)
    if len(lines) > 1 and 2 * whole >= len(lines):
        return lines
    if len(found.values) > 1:
        return _flat([*found.values, found.rest] if found.rest else found.values, max_events)
    raise RefusedRequest(400, f"the body is not JSON: {_fault(body)}")


def _flat(sequence: list[bytes], max_events: int) -> list[bytes]:
    """The events of a sequence: its objects, and the elements of its arrays; enough to see that they are
    more than ``max_events``."""
    events: list[bytes] = []
    for value in sequence:
        found = elements(value, max_events) if value.startswith(b"[") else None
        events += found[0] if found else [value]
        if len(events) > max_events:
            break
    return events


def _is_json(text: bytes) -> bool:
    try:
        _read_value(text)
    except (ValueError, RecursionError):
        return False
    return True


def _fault(body: bytes) -> str:
    """What is wrong with a body that fits no format; words like ``find_fault``."""
    return (find_fault(body) or "it is more than one value").removeprefix("not JSON: ")


def _lines(body: bytes, max_events: int) -> Sequence[bytes]:
    """The lines that are not blank; one more than ``max_events`` if there are more, but never all of them."""
    if len(body) > _MANY_BYTES and body.count(b"\n") > 2 * max_events:  # mostly blank, or too many
        return [found[1].rstrip(_BLANK) for found in islice(_LINE.finditer(body), max_events + 1)]
    if compiled:
        found: Sequence[bytes] = compiled.trimmed_lines(body)
        return found
    lines = BytesIO(body).readlines()  # several times as fast as to split
    return [line for raw in lines if (line := raw.strip(_BLANK))]


def too_many(max_events: int) -> RefusedRequest:
    return RefusedRequest(413, f"more than {max_events} events in one request")
