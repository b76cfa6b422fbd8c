"""Spans of a sink's batches and attempts: put around the lane's transport and recorder where traces are on.

batch ─▶ attempt, attempt, …      one batch span, from its first freeze until all of it is resolved
  └── links to the requests of producers that its events came with, or a part of the only one's trace
"""

from collections import OrderedDict
from contextvars import ContextVar
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind

from ingestd.core.answer import Answer, Octets
from ingestd.core.chunk import Batch
from ingestd.core.errors import Held
from ingestd.core.ledger import SinkLedger
from ingestd.core.verdict import Meaning, Verdict
from ingestd.delivery.batch_transport import BatchTransport
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.delivery.recorder import Outcomes, Recorder
from ingestd.telemetry.tracing import Spans, TracedSpan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import SpanContext

MAX_ORIGINS = 10_000
"""Parts of batches whose spans have yet to begin; of more the first lose their link."""


class BatchSpans:
    """Of one sink. ``url``: as it may be shown. What is open at the end is ended by ``close``."""

    def __init__(self, spans: Spans, sink: str, url: str) -> None:
        self.spans = spans
        self._sink = sink
        parts = urlsplit(url)
        self._server = {"server.address": parts.hostname or ""}
        self._open: dict[str, TracedSpan] = {}
        self._origins: OrderedDict[str, SpanContext] = OrderedDict()
        self.current: ContextVar[TracedSpan | None] = ContextVar("attempt", default=None)

    def batch(self, batch: Batch) -> TracedSpan:
        """Its span, which begins when it is asked for the first time."""
        span = self._open.get(batch.id)
        if span is None:
            span = self.spans.start(f"batch {self._sink}", self._contexts(batch))
            span.set(sink=self._sink, batch=batch.id, events=len(batch.events), bytes=len(batch.body))
            if batch.letters:
                span.set(letters=True)
            self._open[batch.id] = span
        return span

    def attempt(self, batch: Batch) -> None:
        """A request goes out, in this task."""
        attributes = {"http.request.method": "POST", **self._server}
        span = self.spans.start(
            f"attempt {self._sink}", [self.batch(batch).context], SpanKind.CLIENT, attributes
        )
        span.set(sink=self._sink, batch=batch.id, attempt=batch.attempts + 1)
        batch.exemplar = span.exemplar
        self.current.set(span)

    def resolved(self, batch: Batch, outcomes: Outcomes) -> None:
        if span := self._open.pop(batch.id, None):
            span.set(delivered=len(outcomes.delivered), dead_lettered=len(outcomes.failed))
            span.set(attempts=batch.attempts, parts=len(outcomes.parts))
            if outcomes.failed:
                span.fail(str(outcomes.failed[0].reason))
            span.end()
            for part in outcomes.parts:
                self._origins[part.id] = span.context
            while len(self._origins) > MAX_ORIGINS:
                self._origins.popitem(last=False)

    def close(self) -> None:
        """The process ends; these go on in the next one."""
        for span in self._open.values():
            span.set(left_over=True)
            span.end()
        self._open.clear()

    def _contexts(self, batch: Batch) -> "Iterator[SpanContext]":
        for segment in batch.segments:
            yield from self.spans.requests_of(segment.chunk.source, segment.chunk.start)
        if origin := self._origins.pop(batch.id, None):
            yield origin


class TracedTransport:
    """Sends as ``inner`` does, with the trace of the attempt that this task is in."""

    def __init__(self, inner: BatchTransport, spans: BatchSpans) -> None:
        self._inner, self._spans = inner, spans
        self.hold, self.drop_token = inner.hold, inner.drop_token

    @property
    def refusal(self) -> str:
        return self._inner.refusal

    async def send(self, url: str, body: Octets, headers: dict[str, str]) -> tuple[Answer, int]:
        span = self._spans.current.get()
        if span is None:
            return await self._inner.send(url, body, headers)
        try:
            return await self._inner.send(url, body, dict(self._spans.spans.headers(span, headers)))
        except BaseException as error:
            if not isinstance(error, Held):
                span.fail(type(error).__name__)
            span.end()
            raise


class TracedRecorder:
    """Writes down as ``inner`` does, and begins and ends the spans."""

    def __init__(self, inner: Recorder, spans: BatchSpans) -> None:
        self._inner, self._spans = inner, spans
        self.withdraw, self.learned = inner.withdraw, inner.learned

    @property
    def ledger(self) -> SinkLedger:
        return self._inner.ledger

    async def freeze(self, batch: Batch) -> None:
        batch.exemplar = self._spans.batch(batch).exemplar
        await self._inner.freeze(batch)
        self._spans.attempt(batch)

    def attempted(self, batch: Batch, answer: Answer, verdict: Verdict) -> None:
        self._inner.attempted(batch, answer, verdict)
        if span := self._spans.current.get():
            span.set(meaning=verdict.meaning.name.lower())
            span.set_http(answer.status)
            if verdict.meaning is not Meaning.ACCEPTED:
                span.fail(str(answer.status or "no answer"), "" if answer.status else answer.error)
            span.end()

    def resolve(self, batch: Batch, outcomes: Outcomes) -> None:
        self._inner.resolve(batch, outcomes)
        self._spans.resolved(batch, outcomes)

    def lane_changed(self, state: BreakerState, why: str) -> None:
        self._inner.lane_changed(state, why)
