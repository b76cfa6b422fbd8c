"""What the console, ``ingestd top`` and the JSON API show: one model, read from memory.

``app/console/`` makes it of a running service. Everything is plain values, ready for JSON; times are wall
times in seconds since the epoch, durations are seconds, None is "not known" or "there is none".
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from typing_extensions import TypedDict  # pydantic wants it for the API's document

from ingestd.telemetry.tap import TapReader

OURS = "X-Ingestd"
"""On every answer, also behind a proxy with a ``Server`` of its own: a client can tell that it is ours."""


class Rates(TypedDict):
    """Events a second, over about ten seconds, five minutes and an hour."""

    now: float
    five_minutes: float
    hour: float


class SinkView(TypedDict):
    """``state``: closed, open, paused or parked, ``since`` when and ``why``. ``p50``, ``p99``: seconds of a
    request, of the last five minutes. ``oldest``: age of the oldest event that is not resolved here."""

    name: str
    type: str
    url: str
    state: str
    since: float
    why: str
    parked: str | None
    last_success: float | None
    next_probe: float | None
    active_requests: int
    concurrency_limit: int
    in_flight: int
    behind_chunks: int
    oldest: float | None
    delivered: int
    dead_lettered: int
    dropped: int
    rates: Rates
    p50: float | None
    p99: float | None


class ProducerView(TypedDict):
    """``accepted``: events; of a broker whose events do not go into the spool, messages that it gave.
    ``refused``, ``throttled``: requests that were not accepted, or told to come again."""

    name: str
    accepted: int
    refused: int
    throttled: int
    rates: Rates


class SpoolView(TypedDict):
    """``full_in``: seconds, at the rate of the last half minute. ``filled_by``: the sink for which most of it
    waits, when something does. ``parked_bytes``: what only parked sinks wait for, which does not count."""

    events: int
    bytes: int
    parked_bytes: int
    max_bytes: int
    oldest: float
    full_in: float | None
    filled_by: str | None
    blocked: str | None


class Overview(TypedDict):
    version: str
    pid: int
    state: str
    started: float
    now: float
    ready: bool
    reasons: list[str]
    directory: str
    accepted: Rates
    delivered: Rates
    ledger: Mapping[str, Any]
    spool: SpoolView
    sinks: list[SinkView]
    producers: list[ProducerView]
    letters: Mapping[str, int]
    needs_restart: Sequence[str]
    reload_error: str | None


class Charts(TypedDict):
    """One value for each of ``times``."""

    times: list[int]
    accepted: list[float]
    delivered: Mapping[str, list[float]]
    spool_bytes: list[float]


class LetterQuery(TypedDict, total=False):
    """Which dead letters. ``older``, ``newer``: durations as ``15m``."""

    ids: Sequence[int]
    sink: str
    reason: str
    fingerprint: str
    state: str
    older: str
    newer: str
    event_id: str
    event_type: str
    producer: str
    text: str


class Changed(TypedDict, total=False):
    """What an action did, or with ``dry_run`` would do."""

    dry_run: bool
    selected: int
    changed: int
    words: list[str]


class ReadModel(Protocol):
    """Raises UserError for what a person asked wrongly."""

    def overview(self) -> Overview:
        """The first page: rates, sinks, spool, producers, counts of letters."""
        ...

    def charts(self) -> Charts:
        """Rates a second and bytes of the spool over the last hour."""
        ...

    def status(self) -> dict[str, Any]:
        """What ``/v1/status`` answers, without secrets."""
        ...

    def configuration(self) -> dict[str, Any]:
        """``file``, ``read_at``, and ``settings``: (name, value, origin) of each, secrets masked."""
        ...

    def refusals(self) -> list[dict[str, Any]]:
        """The last refused requests of producers, the latest first."""
        ...

    async def letters(self, query: LetterQuery, *, limit: int) -> dict[str, Any]:
        """``total`` and ``letters``: the first ``limit`` that match, as ``dlq list --json`` has them."""
        ...

    async def export(
        self, query: LetterQuery, *, after: int, limit: int, now: float | None
    ) -> tuple[list[dict[str, Any]], float]:
        """The next letters with numbers greater than ``after``, and the time that ages are counted from: to
        be given again."""
        ...

    async def damaged(self, query: LetterQuery, *, now: float) -> tuple[int, list[int]]:
        """How many of these letters have a payload that is not what was stored, and the first of their
        numbers."""
        ...

    async def groups(self, query: LetterQuery) -> list[dict[str, Any]]:
        """Letters that match, by cause: how many, an example, which values differ."""
        ...

    async def letter(self, number: int) -> dict[str, Any]:
        """One letter with its payload, and what is known of its attempts. Raises NotFound."""
        ...

    async def where(self, key: str) -> dict[str, Any]:
        """Where an event is: see ``app.console.where``. ``key``: its key, itself, or the id of a request."""
        ...

    def check(self, payload: bytes) -> list[str]:
        """What is wrong with a payload by the schema, in words; empty: it is valid."""
        ...

    def tap(self, *, sink: str, what: str, when: str) -> AbstractContextManager[TapReader]:
        """Events as they pass. ``when``: a pattern, as JSON."""
        ...

    @property
    def redacts(self) -> bool:
        """Whether there is something in events that not everybody may see."""
        ...

    def redact(self, shown: dict[str, Any]) -> dict[str, Any]:
        """A letter, a group of them, or where an event is, without what not everybody may see of events."""
        ...


class Actions(Protocol):
    """What an operator may change; ``who`` goes into the audit log. Raises UserError."""

    async def probe(self, sink: str, *, who: str) -> Changed:
        """Let a sink that is paused, or whose circuit breaker is open, try at once. Raises NotFound."""
        ...

    async def retry(self, query: LetterQuery, *, who: str, dry_run: bool) -> Changed:
        """Have letters sent again."""
        ...

    async def correct(self, query: LetterQuery, expression: str, *, who: str, dry_run: bool) -> Changed:
        """Correct letters with an expression of jq, and have them sent."""
        ...

    async def park_letters(self, query: LetterQuery, *, who: str, dry_run: bool) -> Changed:
        """Letters are not sent by themselves any more."""
        ...

    async def park(self, sink: str, *, who: str, on: bool) -> Changed:
        """Set a sink aside, or no longer."""
        ...

    async def edit(self, number: int, payload: bytes, *, who: str) -> Changed:
        """Replace the payload of one letter, and have it sent. Raises NotFound."""
        ...

    async def purge(self, query: LetterQuery, *, who: str, dry_run: bool) -> Changed:
        """Delete letters for good."""
        ...
