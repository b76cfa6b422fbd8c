"""Spans of producers' requests: put around the endpoint where traces are on."""

from ingestd.httpd.request import Application, Request
from ingestd.httpd.response import Response
from ingestd.telemetry.tracing import Spans

_DEFERRED = (429, 503)


class TracedApplication:
    """Answers as ``inner`` does. A request has a span from its head on, once it was let in, or told to come
    later; who is refused at the door could otherwise fill the queue of spans."""

    def __init__(self, inner: Application, spans: Spans) -> None:
        self._inner, self._spans = inner, spans

    def check_head(self, request: Request) -> Response | None:
        span = self._spans.request(request.method, request.path, request.headers)
        refused = self._inner.check_head(request)
        if refused is None:
            request.span = span
        elif refused.status in _DEFERRED:
            span.answered(refused.status)
        return refused

    def handle(self, request: Request) -> None:
        self._inner.handle(request)
