"""Foreign ids and times in the form Genesys Cloud wants. Pure; used by ``genesys_mapping``.

The inbound event APIs want V4 UUIDs and ISO 8601 times in UTC (SDK models ``*Event``). A UUID that is
made here is the same for ever: made from the namespace, the kind of id and the foreign id.
"""

import re
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from uuid import UUID

from ingestd.schemas.rfc3339 import is_timestamp

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_TIME = re.compile(r"(.{17})(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII)


def is_uuid(text: str) -> bool:
    """Of any version, with its hyphens and without braces."""
    return _UUID.fullmatch(text) is not None


def make_uuid(foreign: str, *, kind: str, namespace: str) -> str:
    """The UUID of a foreign id; a UUID is kept as it is.

    BLAKE2b-128 with the version nibble 4, since some checks ask for it (the SDK says "V4 UUID").
    """
    if is_uuid(foreign):
        return foreign
    # with the lengths: no two (namespace, kind, foreign) make the same text
    text = f"{len(namespace)}:{namespace}{len(kind)}:{kind}{foreign}"
    return str(UUID(bytes=blake2b(text.encode(), digest_size=16).digest(), version=4))


def write_time(text: str, *, later_ms: int = 0) -> str:
    """An RFC 3339 time as ``yyyy-MM-ddTHH:mm:ss.SSSZ``, cut to the millisecond, ``later_ms`` later.

    A leap second becomes the last millisecond before it. Raises ValueError, which says what was expected.
    """
    match = _TIME.fullmatch(text.upper()) if is_timestamp(text) else None
    if match is None:
        raise ValueError("expected an RFC 3339 time with an offset, like 2026-01-01T10:00:00Z")
    seconds, ms = match[2], int((match[3] or "")[:3].ljust(3, "0"))
    if seconds == "60":
        seconds, ms = "59", 999
    offset = "+00:00" if match[4] == "Z" else match[4]
    try:
        moment = datetime.fromisoformat(match[1] + seconds + offset).astimezone(UTC)
        moment += timedelta(milliseconds=ms + later_ms)
    except (ValueError, OverflowError):
        raise ValueError("expected a time between the years 1 and 9999 UTC") from None
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
