"""Traces with OpenTelemetry: spans of requests, commits, batches and attempts, sent over OTLP.

This module is imported only where traces are on. What waits for the endpoint is bounded, and what is over is
dropped and counted: a trace never holds up an event. Attributes are names and numbers of ours; nothing of an
event, no answer and no secret is in them.

A span of what several requests share (a commit, a batch) has links to them. Of one request alone it is a part
of that trace, which so goes on to the sink.
"""

import random
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from threading import Thread

import requests
from anyio import to_thread
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from ingestd import __version__
from ingestd.core.clock import Clock
from ingestd.core.redaction import redact
from ingestd.core.text import cut
from ingestd.telemetry.span_export import (
    BoundedProcessor,
    CountedExporter,
    Ids,
    LastWords,
    LinkedSampler,
    take_over_log,
)
from ingestd.telemetry.state_watch import LogState

MAX_LINKS = 64
"""Of one span."""
MAX_CONTEXTS = 32
"""Requests that are remembered of one chunk."""
MAX_CHUNKS = 10_000
"""Whose requests are remembered. What waits longer in the spool loses its links, and nothing else."""
EXPORT_TIMEOUT_S, CLOSE_S = 10.0, 2.0

_propagator = TraceContextTextMapPropagator()


class TracedSpan:
    """A span that ends once; its times are the clock's."""

    def __init__(self, span: ApiSpan, clock: Clock) -> None:
        self._span, self._clock = span, clock
        self.context = span.get_span_context()

    @property
    def exemplar(self) -> dict[str, str] | None:
        """For a histogram; None where the trace is not kept."""
        if not self.context.trace_flags.sampled:
            return None
        return {"trace_id": f"{self.context.trace_id:032x}", "span_id": f"{self.context.span_id:016x}"}

    def set(self, **attributes: AttributeValue) -> None:
        """Names have ``ingestd.`` before them."""
        for name, value in attributes.items():
            self._span.set_attribute(f"ingestd.{name}", value)

    def set_http(self, status: int) -> None:
        if status:
            self._span.set_attribute("http.response.status_code", status)

    def fail(self, kind: str, words: str = "") -> None:
        """``kind``: an error's type, or a status; ``words`` hold nothing of an event."""
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, cut(redact(words), 200) if words else None))

    def end(self) -> None:
        self._span.end(_nanoseconds(self._clock))

    def answered(self, status: int) -> None:
        """The request that this is the span of has its answer."""
        self.set_http(status)
        if status >= 500:
            self.fail(str(status))
        self.end()


class Spans:
    """Makes spans. ``remember`` which requests a chunk is of, so that a batch of it has its links."""

    def __init__(
        self,
        *,
        endpoint: str,
        sample: float,
        service_name: str,
        token: str,
        ca_file: str,
        max_queue: int,
        propagate: bool,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """Starts a thread that sends. ``sample``: 0 to 1."""
        self._clock, self._propagate = clock, propagate
        take_over_log(words := LastWords())
        session = requests.Session()
        session.trust_env = False  # no proxy and no .netrc that nobody named
        exporter = OTLPSpanExporter(
            endpoint=endpoint,
            certificate_file=ca_file or None,
            headers={"authorization": f"Bearer {token}"} if token else None,
            timeout=EXPORT_TIMEOUT_S,
            session=session,
        )
        self.exports = CountedExporter(exporter, words)
        self._queue = BoundedProcessor(self.exports, max_queue)
        self._provider = TracerProvider(
            sampler=ParentBased(LinkedSampler(sample)),
            resource=Resource.create({"service.name": service_name, "service.version": __version__}),
            id_generator=Ids(rng),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self._queue)
        self._tracer = self._provider.get_tracer("ingestd", __version__)
        self._requests: OrderedDict[tuple[int, int], Sequence[SpanContext]] = OrderedDict()
        self.commit: TracedSpan | None = None  # that began last
        self._reported = ""

    def request(self, method: str, path: str, headers: Mapping[str, str]) -> TracedSpan:
        """Of a producer; ``headers``: names in lower case. What of them is no traceparent counts as none."""
        parent = get_current_span(_propagator.extract(headers, context=Context())).get_span_context()
        attributes = {"http.request.method": method, "url.path": path}
        return self.start(
            f"{method} {path}", [parent] if parent.is_valid else [], SpanKind.SERVER, attributes
        )

    def start(
        self,
        name: str,
        contexts: Iterable[SpanContext],
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> TracedSpan:
        """A part of the one trace that is given, or one of its own with links to those of many."""
        distinct = list({(one.trace_id, one.span_id): one for one in contexts}.values())
        parent, links = Context(), list[Link]()
        if len(distinct) == 1:
            parent = set_span_in_context(NonRecordingSpan(distinct[0]), parent)
        else:
            links = [Link(one) for one in distinct if one.trace_flags.sampled][:MAX_LINKS]
        return TracedSpan(
            self._tracer.start_span(
                name,
                context=parent,
                kind=kind,
                attributes=attributes,
                links=links,
                start_time=_nanoseconds(self._clock),
            ),
            self._clock,
        )

    def remember(self, source: int, chunk: int, contexts: Sequence[SpanContext]) -> None:
        self._requests[source, chunk] = contexts[:MAX_CONTEXTS]
        while len(self._requests) > MAX_CHUNKS:
            self._requests.popitem(last=False)

    def requests_of(self, source: int, chunk: int) -> Sequence[SpanContext]:
        return self._requests.get((source, chunk), ())

    def headers(self, span: TracedSpan, headers: Mapping[str, str]) -> Mapping[str, str]:
        """With the trace, for the server that is called in this span."""
        if not self._propagate:
            return headers
        added = dict(headers)
        _propagator.inject(added, context=set_span_in_context(NonRecordingSpan(span.context), Context()))
        return added

    @property
    def counts(self) -> dict[str, int]:
        """Spans by what became of them; see the metric."""
        exports = self.exports
        return {"exported": exports.exported, "failed": exports.failed, "dropped": self._queue.dropped}

    def look(self, report: LogState) -> None:
        """To be called now and then, on the loop: says when spans do not arrive, and when they do again."""
        problem = self.exports.problem
        if bool(problem) != bool(self._reported):
            words = f"traces do not arrive, events are delivered all the same: {problem}"
            report(words if problem else "traces arrive again", well=not problem)
        self._reported = problem

    async def aclose(self) -> None:
        """Send what waits, for ``CLOSE_S`` at most: the process does not wait for a trace."""
        ending = Thread(target=self._provider.shutdown, name="end of traces", daemon=True)
        ending.start()
        await to_thread.run_sync(ending.join, CLOSE_S)


def _nanoseconds(clock: Clock) -> int:
    return int(clock.wall() * 1e9)
