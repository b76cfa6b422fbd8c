"""The section of traces. It imports nothing of OpenTelemetry: ``tracing.py`` does, where they are on."""

from contextlib import suppress

from ingestd.core.section import Section
from ingestd.core.setting_types import NOTHING, Secret, SecretFile, Url, field


class TracingConfig(Section):
    """Traces of OpenTelemetry (extra ``otel``), of ``ingestd run``."""

    endpoint: Url = field(
        "", description="OTLP over HTTP, as http://127.0.0.1:4318/v1/traces; empty: no traces"
    )
    sample: float = field(
        0.1,
        ge=0,
        le=1,
        description="share of traces that are kept; where a producer sends traceparent, its flag decides",
    )
    propagate: bool = field(True, description="hand traceparent and tracestate to sinks")
    service_name: str = field(
        "ingestd", min_length=1, max_length=200, description="service.name of the spans"
    )
    token: Secret = field(NOTHING, description="bearer token for the endpoint; better: token_file")
    token_file: SecretFile = field("", description="a file that holds the token and nothing else")
    ca_file: str = field("", description="PEM file of authorities to trust for the endpoint")
    max_queue: int = field(
        4096, ge=512, le=1_000_000, description="most spans that wait for the endpoint; more are dropped"
    )

    @property
    def wrong(self) -> str:
        """What is wrong with the endpoint; empty: nothing."""
        from urllib.parse import urlsplit

        with suppress(ValueError):  # brackets without their other half, an invalid port
            parts = urlsplit(self.endpoint)
            if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
                return ""
        return "tracing.endpoint is not a URL of http or https, as http://127.0.0.1:4318/v1/traces"
