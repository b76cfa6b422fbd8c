"""The contract of a sink: what ``delivery/lane.py`` asks of it. A sink does no input or output."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
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
        """The body. Raises Unencodable."""
        ...

    def headers(self, batch_id: str, events: Sequence[bytes]) -> dict[str, str]:
        """Headers that are the same for every attempt of a batch; no credentials, no signature."""
        ...

    def interpret(self, answer: Answer, events: Sequence[bytes]) -> Verdict:
        """What an answer, or none, means for each of the events that the request had. Never raises."""
        ...


class SteppedSink(Sink, Protocol):
    """One that sends some events in several requests, of which each waits for the one before: ``encode`` is
    that of step 0."""

    steps: int
    """At most."""

    def encode_step(self, events: Sequence[bytes], step: int) -> bytes:
        """The body of that step, for events that all have it."""
        ...

    def go_on(self, events: Sequence[bytes], step: int) -> tuple[int, ...]:
        """Indices of those that have a step after this one."""
        ...


_VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""Of a hexadecimal digit the two lower bits, behind those of the variant."""


def content_id(event: bytes) -> str:
    """An id made from an event's bytes, so that its copies share it, on any machine and at any time.

    A UUID of version 8 (RFC 9562 section 5.8) out of BLAKE2b-128.
    """
    digits = blake2b(event, digest_size=16).hexdigest()
    variant = _VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def system_wall() -> Callable[[], float]:
    """For a sink that is given no clock. To read its settings takes less than to import what a clock has."""
    from ingestd.core.clock import SystemClock

    return SystemClock.wall
