"""The contract of a sink: what ``delivery/lane.py`` asks of it. A sink does no I/O."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from ingestd.core.answer import Answer
from ingestd.core.verdict import Verdict


class Unencodable(Exception):
    """Events that the remote API has no words for: index -> what is wrong, in words, without secrets."""

    def __init__(self, events: Mapping[int, str]) -> None:
        super().__init__(f"{len(events)} events do not fit")
        self.events = events


class Sink(Protocol):
    """One remote API: how a batch becomes a request, and what an answer means.

    All of it is deterministic: a batch that is encoded again after a restart has the same bytes.
    """

    name: str
    """Of this sink in the configuration."""
    kind: str
    """Its type in the configuration."""
    url: str
    """Where requests go; POST. May be a secret: shown to people only through ``shown_url``."""
    shown_url: str
    """The URL without what is secret in it."""
    max_events: int
    """The most events in one request."""
    max_bytes: int
    """The longest body."""
    overhead_bytes: int
    """Bytes of an encoded body besides its events and the separators between them, at most."""
    separator_bytes: int

    def sizes(self, events: Sequence[bytes]) -> Sequence[int] | None:
        """Bytes of each event in a body; 0 for one that does not fit. None: those it has.

        ``len(encode(events)) <= overhead_bytes + sum(sizes) + separator_bytes * (len(events) - 1)``.
        """
        ...

    def encode(self, events: Sequence[bytes]) -> bytes:
        """The body. Raises Unfit."""
        ...

    def headers(self, batch_id: str, events: Sequence[bytes]) -> dict[str, str]:
        """Headers that are the same for every attempt of a batch; no credentials, no signature."""
        ...

    def interpret(self, answer: Answer, events: Sequence[bytes]) -> Verdict: ...
