"""What is plugged into the SDK of OpenTelemetry for traces: who samples, what is counted, what is bounded,
and where its log goes. Imported only where traces are on."""

import logging
import random
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from ingestd.core.redaction import redact
from ingestd.core.text import cut

_EXPORT_EVERY_MS, _EXPORT_SPANS = 1_000, 512


class LinkedSampler(Sampler):
    """Of traces that begin here: those with a link to one that is kept, and a share of the others."""

    def __init__(self, share: float) -> None:
        self._always, self._share = TraceIdRatioBased(1.0), TraceIdRatioBased(share)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        sampler = self._always if links else self._share
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"LinkedSampler({self._share.get_description()})"


class CountedExporter(SpanExporter):
    """Called by the thread that sends. ``problem``: why the last spans did not arrive; empty: they did."""

    def __init__(self, inner: SpanExporter, words: "LastWords") -> None:
        self.exported = self.failed = 0
        self.problem = ""
        self._inner, self._words = inner, words

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._inner.export(spans)
        except Exception as error:  # what is not caught there must be counted, too
            result, self._words.last = SpanExportResult.FAILURE, type(error).__name__
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
            self.problem = ""
        else:
            self.failed += len(spans)
            self.problem = self._words.last or "the endpoint did not accept them"
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


class BoundedProcessor(SpanProcessor):
    """Drops and counts what is over the bound; the library's own would log each."""

    def __init__(self, exports: CountedExporter, max_queue: int) -> None:
        self.dropped = 0
        self._ended = 0
        self._exports, self._max_queue = exports, max_queue
        self._inner = BatchSpanProcessor(
            exports,
            max_queue_size=max_queue + _EXPORT_SPANS,
            schedule_delay_millis=_EXPORT_EVERY_MS,
            max_export_batch_size=_EXPORT_SPANS,
        )

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        if not (span.context and span.context.trace_flags.sampled):
            return
        if self._ended - self._exports.exported - self._exports.failed >= self._max_queue:
            self.dropped += 1
            return
        self._ended += 1
        self._inner.on_end(span)

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class LastWords(logging.Handler):
    """What the library says of an export that failed, instead of a line in the log for each."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.last = cut(redact(record.getMessage()), 300)
        except Exception:  # words that do not fit their arguments must not end the thread that sends
            self.last = "the endpoint did not accept them"


def take_over_log(words: LastWords) -> None:
    logger = logging.getLogger("opentelemetry")
    for handler in [one for one in logger.handlers if isinstance(one, LastWords)]:
        logger.removeHandler(handler)
    logger.addHandler(words)
    logger.propagate = False


class Ids(IdGenerator):
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def generate_span_id(self) -> int:
        return self._rng.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        return self._rng.getrandbits(128) or 1
