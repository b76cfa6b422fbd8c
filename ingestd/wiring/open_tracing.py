"""Traces, as the configuration wants them. OpenTelemetry is imported here and only where they are on."""

import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.delivery.batch_transport import BatchTransport
from ingestd.delivery.recorder import Recorder
from ingestd.sinks.sink import Sink
from ingestd.telemetry.tracing_settings import TracingConfig
from ingestd.transport.auth import read_secret

if TYPE_CHECKING:
    from ingestd.httpd.request import Application
    from ingestd.recording.event_recorder import EventTrace
    from ingestd.telemetry.instruments import Buckets
    from ingestd.telemetry.tracing import Spans


def open_spans(config: TracingConfig, *, clock: Clock, rng: random.Random) -> "Spans | None":
    """None: they are off. Raises UserError without the extra, and for a file that cannot be read."""
    if not config.endpoint:
        return None
    if config.wrong:
        raise UserError(config.wrong)
    try:
        from ingestd.telemetry.tracing import Spans
    except ImportError:
        raise UserError("tracing.endpoint is set: traces need pip install 'ingestd[otel]'") from None
    token = read_secret(config.token_file) if config.token_file else config.token.get_secret_value()
    try:
        return Spans(
            endpoint=config.endpoint,
            sample=config.sample,
            service_name=config.service_name,
            token=token,
            ca_file=config.ca_file,
            max_queue=config.max_queue,
            propagate=config.propagate,
            clock=clock,
            rng=rng,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"tracing: {error}") from None


def traced(
    stack: AsyncExitStack,
    trace: "EventTrace | None",
    sink: Sink,
    transport: BatchTransport,
    recorder: Recorder,
) -> tuple[BatchTransport, Recorder]:
    """What a lane is given of a sink: with spans around it, where there are any."""
    if trace is None or trace.spans is None:
        return transport, recorder
    from ingestd.delivery.traced import BatchSpans, TracedRecorder, TracedTransport

    spans = BatchSpans(trace.spans, sink.name, sink.shown_url)
    stack.callback(spans.close)
    return TracedTransport(transport, spans), TracedRecorder(recorder, spans)


def traced_application(application: "Application", spans: "Spans | None") -> "Application":
    if spans is None:
        return application
    from ingestd.sources.http.traced import TracedApplication

    return TracedApplication(application, spans)


def commit_observer(histogram: "Buckets", spans: "Spans | None") -> Callable[[float], None]:
    """Is called with the seconds of each commit."""
    if spans is None:
        return histogram.observe
    return lambda seconds: histogram.observe(seconds, spans.commit.exemplar if spans.commit else None)
