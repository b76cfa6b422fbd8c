"""Which of the accepted formats a request is in, by its headers. Called by the endpoint, before the body."""

from collections.abc import Mapping
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from ingestd.httpd.request import Request
from ingestd.sources.http.answers import SubmissionRefused


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
"""What is taken (Linked Data Platform 1.0, 7.1), for whoever came with something else."""


@lru_cache(maxsize=64)
def parse_media_type(value: str) -> MediaType:
    """Of a Content-Type header (RFC 9110 8.3.1). Never raises: nonsense is a type that nobody knows."""
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
        raise SubmissionRefused(400, "the header Content-Type came more than once")
    value = request.headers.get("content-type", "")
    media_type = parse_media_type(value)
    if not media_type.name.startswith("application/cloudevents") and _has_attributes(request.headers):
        return Format.BINARY
    found = FORMATS.get(media_type.name)
    if found is None:
        what = "this Content-Type is not taken" if value else "the header Content-Type is missing"
        raise SubmissionRefused(415, f"{what}; {ACCEPT_POST[0]} lists what is", headers=[ACCEPT_POST])
    if media_type.charset and media_type.charset not in UTF_8:
        raise SubmissionRefused(415, "the only charset taken is utf-8", headers=[ACCEPT_POST])
    return found


def _has_attributes(headers: Mapping[str, str]) -> bool:
    return "\nce-" in "\n" + "\n".join(headers)  # twice as fast as a loop over the names


_MAX_SHOWN = 40


class Query(NamedTuple):
    """``access_token`` is secret: the repr of a query must not get into a log."""

    atomic: bool = False
    wait: bool = False
    access_token: bytes | None = None


_NONE = Query()
_VALUES: dict[str, dict[bytes, bool]] = {
    "atomic": {b"true": True, b"false": False},
    "wait": {b"delivered": True},
}


def parse_query(text: str, *, token_allowed: bool) -> Query:
    """Raises Refused (400) for a parameter that is unknown or given twice, and for an unknown value."""
    if not text:
        return _NONE
    found: dict[str, bool] = {}
    token: bytes | None = None
    for part in text.split("&"):
        name, _, value = part.partition("=")
        raw = unquote_to_bytes(value.encode("latin-1", "replace"))
        if name in found or (name == "access_token" and token is not None):
            raise SubmissionRefused(400, f"the parameter {name} is given twice")
        if name == "access_token" and token_allowed:
            token = raw
        elif name in _VALUES:
            choices = _VALUES[name]
            if raw not in choices:
                known = " or ".join(choice.decode() for choice in choices)
                raise SubmissionRefused(400, f"the parameter {name} must be {known}")
            found[name] = choices[raw]
        else:
            shown = name if len(name) <= _MAX_SHOWN else name[:_MAX_SHOWN] + "…"
            raise SubmissionRefused(400, f"there is no parameter {shown}; there are: {', '.join(_VALUES)}")
    return Query(access_token=token, **found)
