"""The query of a request to the ingest address. Called by the endpoint."""

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from ingestd.sources.http.answers import SubmissionRefused

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
