"""The contract of a sink: what ``delivery/lane.py`` asks of it. A sink does no I/O."""

from collections.abc import Sequence
from typing import Protocol

from ingestd.core.answer import Answer
from ingestd.core.verdict import Verdict


class Sink(Protocol):
    """One remote API: how a batch becomes a request, and what an answer means."""

    name: str
    url: str
    """Where requests go; POST."""
    overhead_bytes: int
    """Bytes of an encoded body besides its events and the separators between them."""
    separator_bytes: int

    def encode(self, events: Sequence[bytes]) -> bytes:
        """The body. Its length is ``overhead_bytes`` + events + separators, exactly."""
        ...

    def headers(self, batch_id: str) -> dict[str, str]:
        """Headers that are the same for every attempt of a batch; no credentials."""
        ...

    def interpret(self, answer: Answer, events: Sequence[bytes]) -> Verdict: ...
