"""A broker's message taken apart into events. What cannot be read costs its own message, as a dead letter."""

from collections.abc import Callable, Mapping
from urllib.parse import quote

from ingestd.core.unwrap import NotWrapped, Unwrapper
from ingestd.httpd.problem import RefusedRequest
from ingestd.sources.broker import MessageFormat
from ingestd.sources.http.body import Format, parse_media_type, take_apart
from ingestd.sources.http.cloudevents_http import PREFIX, to_structured

MAX_EVENTS = 100_000
"""In one message."""

_BATCH = "application/cloudevents-batch+json"
_DATA_TYPE = PREFIX + "datacontenttype"


class Unreadable(Exception):
    """A message that cannot be split into events; its text says why."""


def reader_of(
    format_: MessageFormat, *, prefix: str = PREFIX, unwrap: Unwrapper | None = None
) -> "ReadMessage":
    """How messages are taken apart. ``prefix``: of headers that are attributes of a CloudEvent. ``unwrap``:
    what a message holds is in an envelope."""
    if unwrap:
        return _unwrapped(unwrap, reader_of(format_, prefix=prefix))
    if format_ == "event":
        return whole
    if format_ == "ndjson":
        return _lines
    if format_ == "array":
        return _array
    return lambda payload, headers: _readable(lambda: _cloudevent(payload, headers, prefix))


ReadMessage = Callable[[bytes, Mapping[str, str]], list[bytes]]
"""(payload, headers: names as they came, values as text) -> events. Raises Unreadable."""


def _unwrapped(unwrap: Unwrapper, read: "ReadMessage") -> "ReadMessage":
    def read_inner(payload: bytes, headers: Mapping[str, str]) -> list[bytes]:
        try:
            return read(unwrap(_some(payload)), headers)
        except NotWrapped as error:
            raise Unreadable(str(error)) from None

    return read_inner


def whole(payload: bytes, headers: Mapping[str, str]) -> list[bytes]:
    """Of ``event``."""
    return [_some(payload)]


def _lines(payload: bytes, headers: Mapping[str, str]) -> list[bytes]:
    return _apart(_some(payload), Format.LINES)


def _array(payload: bytes, headers: Mapping[str, str]) -> list[bytes]:
    if not _some(payload).lstrip().startswith(b"["):
        raise Unreadable("the message is not a JSON array")
    return _apart(payload, Format.BATCH)


def _cloudevent(payload: bytes, headers: Mapping[str, str], prefix: str) -> list[bytes]:
    found = {name.lower(): value for name, value in headers.items()}
    if any("\ufffd" in value for name, value in found.items() if name.startswith((prefix, "content-type"))):
        raise Unreadable("a header of the CloudEvent is not UTF-8")
    if prefix != PREFIX:
        found = dict(_as_http(name, value, prefix) for name, value in found.items())
    media_type = found.get("content-type", "")
    if PREFIX + "specversion" not in found:
        batch = parse_media_type(media_type)[0] == _BATCH
        return _apart(_some(payload), Format.BATCH if batch else Format.EVENT)
    if data_type := found.pop(_DATA_TYPE, ""):  # bindings differ in where it stands
        found.setdefault("content-type", data_type)
    latin = {name: value.encode().decode("latin-1") for name, value in found.items()}
    return [to_structured(latin, frozenset(), payload)]


def _as_http(name: str, value: str, prefix: str) -> tuple[str, str]:
    """Where attributes have another prefix (Kafka) they are not percent-encoded, either."""
    return (PREFIX + name[len(prefix) :], quote(value)) if name.startswith(prefix) else (name, value)


def _some(payload: bytes) -> bytes:
    if not payload:
        raise Unreadable("the message is empty")
    return payload


def _apart(payload: bytes, format_: Format) -> list[bytes]:
    return _readable(lambda: [*take_apart(payload, format_, max_events=MAX_EVENTS)])


def _readable(take: Callable[[], list[bytes]]) -> list[bytes]:
    try:
        return take()
    except RefusedRequest as refused:
        raise Unreadable(str(refused).replace("the body", "the message")) from None
