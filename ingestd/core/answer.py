"""What came back from one attempt to send a request."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

PASSING = frozenset({408, 420, 421, 423, 424, 425, 429, 430, 499})
"""4xx that say nothing against a request: the same again, later. 420 and 430 are throttles of some vendors,
499 is that of a proxy whose own request was broken off."""


Octets = bytes | memoryview
"""A view where others send these bytes, too."""


class Answer(msgspec.Struct):
    """``status`` is 0 when no complete answer came; then ``error`` says why, in words, without secrets.

    ``body`` is cut at the client's limit (``truncated``). ``headers`` have lower-case names.
    ``seconds`` is the attempt's duration by the monotonic clock. ``unsent``: nothing of the request can have
    reached the API, so that to send it again is no second time. ``part_sent``: the connection was lost before
    all of it was sent: the API cannot have taken it. ``unreadable``: why ``body`` cannot be read, in words.
    """

    status: int
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: bytes = b""
    truncated: bool = False
    error: str = ""
    seconds: float = 0.0
    unsent: bool = False
    part_sent: bool = False
    unreadable: str = ""

    def json_object(self, *, max_bytes: int) -> dict[str, Any]:
        """The body as an object; empty if it is anything else, was cut short or is too long."""
        if self.truncated or self.unreadable or len(self.body) > max_bytes:
            return {}
        try:
            body = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return body if isinstance(body, dict) else {}
