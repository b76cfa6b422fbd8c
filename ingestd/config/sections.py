"""The sections of the configuration: one class for each TOML table. Read by everything that is configured."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    model_validator,
)

from ingestd.core import address
from ingestd.core.setting_types import NOTHING, Seconds, Secret, SecretFile, Section, Size, Url, as_list
from ingestd.sources.nats.settings import NatsConfig


def _listen(text: str) -> str:
    address.parse_listen(text)
    return text.strip()


def _ballast(size_bytes: int) -> int:
    if 0 < size_bytes < MIN_BALLAST_BYTES:
        raise ValueError(
            f"{size_bytes} bytes are too few to drain a full disk: what the log of the state file holds, some"
            " megabytes, has to fit in; give at least 8MiB, or 0 for none"
        )
    return size_bytes


MIN_BALLAST_BYTES = 8 * 1024**2
"""SQLite writes its log back when it has 1,000 pages, and on a full disk the state file needs as much room
for them. Measured: with 2 MiB, or 3, it is stuck until somebody frees space, with 4 it is not; twice that."""

Listen = Annotated[str, AfterValidator(_listen)]
Ballast = Annotated[Size, AfterValidator(_ballast)]
# Also the name in a client certificate; it becomes a label of metrics and stands in logs.
ProducerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.@:/ -]{1,100}$")]


class ApiConfig(Section):
    """Where events go and how to log in there."""

    url: Url = Field("", description="base URL of the API; or set region")
    region: str = Field("", description="AWS region or Genesys domain; gives url and token_url")
    token_url: Url = Field("", description="where the OAuth2 token comes from")
    no_auth: bool = Field(False, description="send without a token")
    client_id: str = Field("", description="id of the OAuth2 client; or GENESYS_CLIENT_ID")
    client_secret: Secret = Field(
        NOTHING, description="secret of the OAuth2 client; better: client_secret_file"
    )
    client_id_file: str = Field("", description="a file that holds the client id and nothing else")
    client_secret_file: SecretFile = Field(
        "", description="a file that holds the client secret and nothing else"
    )
    ca_file: str = Field("", description="PEM file of authorities to trust, instead of the usual ones")
    trust_env: bool = Field(False, description="use HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY")
    max_connection_age: Seconds = Field(
        300.0, gt=0, description="after this a connection is opened again, and its name looked up"
    )


class SchemaConfig(Section):
    """What a valid event is, and what makes two events the same."""

    name: str = Field(
        "interaction", description="interaction, cloudevent, a JSON Schema file, or package.module:Model"
    )
    dedup_key: str = Field("", description="JSON paths, A,B.c; empty: the schema's own")
    format_assertion: bool = Field(
        True, description="JSON Schema: check format in every draft; false: as the draft says"
    )
    max_depth: int = Field(64, ge=2, le=190, description="most levels of arrays and objects in an event")
    max_values: int = Field(
        100_000, ge=100, le=10_000_000, description="most scalars, arrays and objects in an event"
    )


class WindowConfig(Section):
    """The deduplication window."""

    max_count: int = Field(1_000_000, ge=16, le=50_000_000, description="most keys that are remembered")
    max_age: Seconds = Field(600.0, ge=0, description="how long a key is remembered")


class BatchConfig(Section):
    """Limits of one request."""

    max_bytes: Size = Field(500_000, ge=100, description="most bytes of the encoded body, envelope included")
    max_events: int = Field(5_000, ge=1, le=1_000_000, description="most events in one request")

    max_age: Seconds = Field(1.0, ge=0, description="how long an event waits for others to fill its batch")


class DeliveryConfig(Section):
    """How batches get out."""

    max_in_flight: int = Field(5, ge=1, le=1000, description="most requests at the same time")
    give_up_after: Seconds = Field(
        900.0, ge=0, description="how long a batch is tried before it becomes dead letters"
    )
    max_attempts: int = Field(0, ge=0, description="most attempts for a batch; 0: only give_up_after counts")
    request_timeout: Seconds = Field(20.0, gt=0, description="longest time of one attempt")
    backoff_base: Seconds = Field(0.5, gt=0, description="longest wait before the second attempt")
    backoff_cap: Seconds = Field(30.0, gt=0, description="longest wait before any attempt")
    circuit_threshold: int = Field(10, ge=1, description="failures in a row that open the circuit breaker")
    retry_ratio: float = Field(
        0.2, ge=0, description="retries allowed, as a share of first attempts; protects a failing API"
    )
    min_retries_per_second: float = Field(1.0, gt=0, description="retries that are allowed in any case")
    order_by: str = Field(
        "", description="JSON paths, A,B.c: events with the same values there are sent in order"
    )
    startup_timeout: Seconds = Field(
        20.0, ge=0, description="how long a replay waits for an API that never answered"
    )
    shutdown_timeout: Seconds = Field(
        25.0, ge=0, description="longest time of the drain after the first signal"
    )


class SourceConfig(Section):
    """What is read."""

    max_event_bytes: Size = Field(
        1024 * 1024, ge=1024, description="longest event; a longer line is rejected"
    )
    max_window: Size = Field(
        128 * 1024 * 1024,
        ge=1024,
        le=2**31,
        description="memory that a frame of zstd may ask for; at most 2GiB",
    )
    items: str = Field(
        "", description="files hold objects with lists of this name, and those hold the events"
    )


class LettersConfig(Section):
    """Dead letters."""

    retry: bool = Field(True, description="send letters again that may succeed, after live traffic")
    poll_interval: Seconds = Field(5.0, gt=0, description="how often due letters are looked for")
    retention: Seconds = Field(7 * 86400.0, ge=0, description="how long delivered letters are kept")


class StateConfig(Section):
    """What survives a restart."""

    dir: str = Field("", description="empty: a directory for this API under $XDG_STATE_HOME/ingestd")


class AuditConfig(Section):
    """The audit file: one JSON line for each lifecycle event."""

    file: str = Field("", description="empty: audit.jsonl in the state directory")
    key_file: SecretFile = Field(
        "",
        description="key of the audit file's chain, made at the first start; empty: audit.key in the state"
        " directory. Keep it where people who can change the audit file cannot read it",
    )
    max_bytes: Size = Field(100_000_000, ge=10_000, description="size at which the file is rotated")
    keep: int = Field(5, ge=1, le=1000, description="how many rotated files are kept")


class MetricsConfig(Section):
    """``/metrics`` beside a replay; ``ingestd run`` has it on its admin address."""

    host: str = Field("127.0.0.1", description="address to serve it on")
    port: int | None = Field(None, ge=0, le=65535, description="not set: not served; 0: any free port")


class ProducerConfig(Section):
    """Who may post. A bearer token, or a Standard Webhooks signing secret, or both (either will do)."""

    token: Secret = Field(NOTHING, description="bearer token; better: token_file")
    token_file: SecretFile = Field(
        "", description="one token on each line; all are valid, so that you can rotate them"
    )
    webhook_secret: Secret = Field(NOTHING, description="Standard Webhooks: base64, with or without whsec_")
    webhook_secret_file: SecretFile = Field("", description="one signing secret on each line; all are valid")
    events_per_second: float = Field(0, ge=0, description="most events in a second; 0: no limit of its own")
    events_per_day: int = Field(0, ge=0, description="most events in a UTC day; 0: no limit")


class TlsConfig(Section):
    """PEM files; they are read again on SIGHUP and when they change."""

    cert_file: str = Field("", description="the certificate, then its chain; empty: plain HTTP")
    key_file: SecretFile = Field("", description="the certificate's private key, without a passphrase")
    client_ca_file: str = Field("", description="ask clients for a certificate that this authority signed")


def _one_or_named(schema: dict[str, Any]) -> None:
    """The JSON Schema for editors allows both forms."""
    named = {key: schema.pop(key) for key in [*schema] if key not in ("title", "description", "default")}
    (one,) = named["patternProperties"].values()
    schema["anyOf"] = [one, named]


SourceName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
"""It becomes a label of metrics."""


class IngestConfig(Section):
    """What ``ingestd run`` reads: HTTP, and sources at brokers."""

    listen: Listen = Field("127.0.0.1:8080", description="address:port; [::1]:8080 for IPv6; port 0: any")
    allow_anonymous: bool = Field(False, description="listen beyond loopback without authentication")
    access_token_in_query: bool = Field(False, description="also accept ?access_token=")
    producers: dict[ProducerName, ProducerConfig] = Field(
        {}, max_length=1000, description="by name; none: anyone may post"
    )
    tls: TlsConfig = TlsConfig.model_construct()
    max_body: Size = Field(
        16 * 1024 * 1024, ge=1024, description="most bytes of a request, before and after decoding"
    )
    max_expansion: int = Field(100, ge=1, description="most by which a compressed body may grow, as a factor")
    max_events: int = Field(20_000, ge=1, le=1_000_000, description="most events in one request")

    max_head: Size = Field(16 * 1024, ge=1024, description="most bytes of request line and headers together")
    max_connections: int = Field(10_000, ge=1, description="most connections at the same time")
    head_timeout: Seconds = Field(
        10.0, gt=0, description="longest time from the first byte to the last header"
    )
    body_timeout: Seconds = Field(30.0, gt=0, description="longest time from the head to the end of the body")
    idle_timeout: Seconds = Field(75.0, gt=0, description="longest time of a connection without a request")
    wait_timeout: Seconds = Field(30.0, gt=0, description="the longest that ?wait=delivered waits")
    keep_rejected: bool = Field(False, description="keep rejected events as dead letters")
    webhook_origins: Annotated[list[str], BeforeValidator(as_list)] = Field(
        [], description="origins that the CloudEvents web-hook handshake allows; *: all"
    )
    webhook_rate: int = Field(0, ge=0, description="requests a minute that the handshake grants; 0: any")
    nats: dict[SourceName, NatsConfig] = Field(
        {},
        max_length=16,
        description="streams of JetStream, by name; or one, without a name",
        json_schema_extra=_one_or_named,
    )

    @model_validator(mode="before")
    @classmethod
    def _name_the_only_one(cls, values: Any) -> Any:
        """[ingest.nats] with settings in it is a source of that name."""
        table = values.get("nats") if isinstance(values, dict) else None
        if isinstance(table, dict) and not all(isinstance(one, dict | NatsConfig) for one in table.values()):
            return values | {"nats": {"nats": table}}
        return values


class SpoolConfig(Section):
    """What was accepted and not yet delivered."""

    max_bytes: Size = Field(
        4 * 1024**3, ge=1024**2, description="most bytes of waiting events; beyond it producers get 429"
    )
    ballast: Ballast = Field(
        16 * 1024**2, ge=0, description="room kept free, to drain a full disk; 0, or at least 8MiB"
    )


class AdminConfig(Section):
    """The status server of ``ingestd run``."""

    listen: Listen = Field("127.0.0.1:9464", description="/metrics, /healthz, /readyz, /v1/status")


class LogConfig(Section):
    """The log on standard error."""

    format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal")
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is logged"
    )
