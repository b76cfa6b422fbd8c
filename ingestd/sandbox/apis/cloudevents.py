"""CloudEvents out of an HTTP request, in all three modes. Used by ``sandbox/apis/event_bridge.py``.

Rules: CloudEvents HTTP binding 1.0.2 (3.1 binary, 3.2 structured, 3.3 batched) and JSON event format.
Written apart from the reader of ``ingestd run``, so that the two are each other's second opinion.
"""

import base64
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from ingestd.sandbox.contract import ErrorDetail, Reply, RequestRefused
from ingestd.sandbox.exchange import Exchange
from ingestd.schemas.cloudevent import CloudEventSchema

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"')
_VALUE = re.compile(r"(?:[\x21-\x24\x26-\x7e]|%[0-9A-Fa-f]{2})*")
"""A header value as the binding wants it: printable ASCII, everything else percent-encoded."""

_JSON = re.compile(r"[^/]+/(?:[^/]+\+)?json")
_BATCH = msgspec.json.Decoder(list[msgspec.Raw])
_SCHEMA = CloudEventSchema()


class EventAttributes(msgspec.Struct, frozen=True):
    """What the answers repeat of an event."""

    id: str
    source: str
    type: str
    time: str | None = None


_ATTRIBUTES = msgspec.json.Decoder(EventAttributes)


class PublishedEvents(NamedTuple):
    """The events of one request, each in the JSON format; ``batched``: it was a list."""

    events: list[bytes]
    attributes: list[EventAttributes]
    batched: bool


def read_events(exchange: Exchange) -> PublishedEvents:
    """Raises Refused: 415 for a format that CloudEvents does not have, 400 with ``details`` for the rest."""
    media_type = exchange.content_type
    batched = media_type.startswith("application/cloudevents-batch")
    if batched:
        events = _read_batch(exchange)
    elif media_type.startswith("application/cloudevents"):
        events = [exchange.body]
    elif any(name.lower().startswith("ce-") for name in exchange.headers):
        events = [_from_binary(exchange)]
    else:
        raise RequestRefused(_unknown(exchange))
    if media_type.startswith("application/cloudevents") and not media_type.endswith("+json"):
        raise RequestRefused(_unknown(exchange))
    return PublishedEvents(events, [_check(exchange, event, at) for at, event in enumerate(events)], batched)


def _check(exchange: Exchange, event: bytes, index: int) -> EventAttributes:
    refusal = _SCHEMA.explain(event)
    if refusal is None:
        return _ATTRIBUTES.decode(event)
    first = refusal.errors[0]
    details = [ErrorDetail(str(refusal.reason), error.field) for error in refusal.errors]
    message = f"event {index} is not a CloudEvent: {first.field or 'body'}: {first.message}"
    raise RequestRefused(exchange.error(400, "bad.request", message, details=details))


def _unknown(exchange: Exchange) -> Reply:
    message = "application/cloudevents+json, application/cloudevents-batch+json or ce- headers expected"
    return exchange.error(415, "unsupported.media.type", message)


def _read_batch(exchange: Exchange) -> list[bytes]:
    try:
        return [bytes(raw) for raw in _BATCH.decode(exchange.body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
        message = f"expected a JSON array of CloudEvents: {str(reason)[:200]}"
        raise RequestRefused(exchange.error(400, "bad.request", message)) from None


def _from_binary(exchange: Exchange) -> bytes:
    """The same event in the JSON format."""
    try:
        attributes = _read_headers(exchange.headers)
        return msgspec.json.encode(attributes)[:-1] + _data(exchange) + b"}"
    except ValueError as reason:
        raise RequestRefused(exchange.error(400, "bad.request", str(reason))) from None


def _read_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Raises ValueError."""
    attributes: dict[str, str] = {}
    for header, value in headers.items():
        name = header.lower()
        if not name.startswith("ce-"):
            continue
        name = name[3:]
        if name in ("data", "data_base64", "datacontenttype"):
            raise ValueError(f"ce-{name} is not an attribute of the binary mode")
        if name in attributes:
            raise ValueError(f"ce-{name[:40]} came more than once")
        attributes[name] = _decode_value(name[:40], value)
    if content_type := headers.get("Content-Type", ""):
        attributes["datacontenttype"] = content_type
    return attributes


def _decode_value(name: str, value: str) -> str:
    """Quotes off first, then one percent-decoding (3.1.3.2). Raises ValueError."""
    if value.startswith('"'):
        if not _QUOTED.fullmatch(value):
            raise ValueError(f"ce-{name}: its quotation does not end")
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"ce-{name}: printable ASCII expected")
    elif not _VALUE.fullmatch(value):
        raise ValueError(f"ce-{name}: printable ASCII with everything else percent-encoded expected")
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise ValueError(f"ce-{name}: its bytes are not UTF-8") from None


def _data(exchange: Exchange) -> bytes:
    """``data`` for JSON and text, else ``data_base64``; nothing for an empty body."""
    body = exchange.body
    if not body:
        return b""
    if "Content-Type" not in exchange.headers or _JSON.fullmatch(exchange.content_type):
        return b',"data":' + body  # whether it is JSON the schema finds out
    if exchange.content_type.startswith("text/"):
        try:
            return b',"data":' + msgspec.json.encode(body.decode())
        except UnicodeDecodeError:
            pass
    return b',"data_base64":"' + base64.b64encode(body) + b'"'
