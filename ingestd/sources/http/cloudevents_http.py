"""CloudEvents in binary mode: attributes in ``ce-`` headers, data in the body. Called by the endpoint.

Rules: CloudEvents HTTP binding 1.0.2, section 3.1, and JSON format 1.0.2, section 3.1; where the text for
1.0.3 is stricter (names of attributes, each at most once), that one. The binding has senders encode percent
signs, and most SDKs do not: what cannot have been encoded is taken as it stands.
"""

import base64
import re
from collections.abc import Mapping, Set
from urllib.parse import unquote_to_bytes

import msgspec

from ingestd.httpd.problem import RefusedRequest
from ingestd.schemas.attributes import ATTRIBUTES, NAME
from ingestd.schemas.grammar import find_fault, is_utf8
from ingestd.sources.http.body import BOM, UTF_8, MediaType, parse_media_type

PREFIX = "ce-"
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_ESCAPED = re.compile(r"\\(.)")
_URIS = ("source", "dataschema")
"""Attributes that may have percent signs of their own."""
_MAX_SHOWN = 40


def to_structured(headers: Mapping[str, str], repeated: Set[str], body: bytes) -> bytes:
    """The event in structured mode, as JSON. ``headers``: names in lower case, values as Latin-1.

    Attributes are strings; which are required the schema says. Raises Refused (400) for an invalid name or
    value, an attribute given twice, and data that is declared as JSON and is not.
    """
    attributes: dict[str, str] = {}
    for header, value in headers.items():
        if header.startswith(PREFIX):
            name = header[len(PREFIX) :]
            if not NAME.fullmatch(name):
                raise RefusedRequest(
                    400, f"{_shown(header)} is not an attribute: names are a-z and 0-9, not data"
                )
            if name == "datacontenttype":
                raise RefusedRequest(
                    400, "ce-datacontenttype must not be given: in binary mode it is Content-Type"
                )
            if header in repeated:
                raise RefusedRequest(400, f"the header {_shown(header)} came more than once")
            attributes[name] = _attribute(name, value)
    media_type = headers.get("content-type", "")
    if media_type:
        attributes["datacontenttype"] = media_type
    event = msgspec.json.encode(attributes)
    return event[:-1] + _data_member(body, parse_media_type(media_type)) + b"}" if body else event


def _attribute(name: str, value: str) -> str:
    """As ``decode_value``; but a URI that its sender did not encode once more, as ``/a%20b`` or ``/100%25``,
    is none after decoding: then it counts as it came."""
    header = PREFIX + name
    if name not in _URIS or "%" not in value:
        return decode_value(value, header=header)
    is_valid = ATTRIBUTES[name].is_valid
    raw = _unquoted(value, header)
    try:
        decoded = decode_value(value, header=header)
    except RefusedRequest:
        if is_valid(raw):
            return raw
        raise
    return raw if is_valid(raw) and not is_valid(decoded) else decoded


def decode_value(value: str, *, header: str = "") -> str:
    """The attribute's text: quoting undone first, then exactly one percent-decoding, then UTF-8. A percent
    sign that begins no byte, as in ``50% off``, stays.

    Raises Refused (400) for an unfinished quotation and for bytes that are not UTF-8.
    """
    raw = _unquoted(value, header).encode("latin-1")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        pass
    if is_utf8(raw):
        raise RefusedRequest(400, f"{_shown(header)}: the bytes that it percent-encodes are not UTF-8")
    # Not read as Latin-1: some texts are valid as both, and would arrive as something else.
    raise RefusedRequest(
        400,
        f"{_shown(header)}: its bytes are not UTF-8 (Latin-1, as Node.js sends it?): percent-encode what is"
        " not ASCII (HTTP binding 3.1.3.2), or send it in structured mode",
    )


def _unquoted(value: str, header: str) -> str:
    if not value.startswith('"'):
        return value
    quoted = _QUOTED.fullmatch(value)
    if quoted is None:
        raise RefusedRequest(400, f"{_shown(header)}: the double quotes do not enclose its value")
    return _ESCAPED.sub(r"\1", quoted[1])


def _data_member(body: bytes, media_type: MediaType) -> bytes:
    """JSON as the bytes it came in, text as a string, everything else as base64 (J5 to J7)."""
    name, charset = media_type
    unicode = body.isascii() if charset == "us-ascii" else charset in ("", *UTF_8) and is_utf8(body)
    json = name.endswith(("/json", "+json"))
    if unicode and (json or not name):  # without a type it is read as JSON, if it is
        text = body.removeprefix(BOM)
        fault = find_fault(text)
        if fault is None:
            return b',"data":' + text
        if json:
            raise RefusedRequest(400, f"the data is declared as JSON, but {fault}")
    elif json and charset in ("", "us-ascii", *UTF_8):
        raise RefusedRequest(400, f"the data is declared as JSON, but it is not {charset.upper() or 'UTF-8'}")
    elif unicode and (charset or name.startswith("text/") or name.endswith(("/xml", "+xml"))):
        return b',"data":' + msgspec.json.encode(body.decode())
    return b',"data_base64":"' + base64.b64encode(body) + b'"'


def _shown(header: str) -> str:
    return header if len(header) <= _MAX_SHOWN else header[:_MAX_SHOWN] + "…"
