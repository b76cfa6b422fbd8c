"""[ingest]: what ``ingestd run`` reads, over HTTP, from files and from brokers."""

from typing import TYPE_CHECKING, Annotated, Any

from ingestd.config.sections import Listen, ProducerName
from ingestd.core.section import Section
from ingestd.core.setting_types import (
    NOTHING,
    After,
    Before,
    Later,
    Matching,
    Seconds,
    Secret,
    SecretFile,
    Size,
    as_list,
    field,
)
from ingestd.core.unwrap import UnwrapSection

if TYPE_CHECKING:
    from ingestd.sources.genesys.settings import NotificationsConfig
    from ingestd.sources.kafka.settings import KafkaConfig
    from ingestd.sources.live.settings import FilesConfig
    from ingestd.sources.nats.settings import NatsConfig
    from ingestd.sources.sqs.settings import SqsConfig
else:  # their modules are imported where a file has such a table
    NotificationsConfig = Annotated[Any, Later("ingestd.sources.genesys.settings:NotificationsConfig")]
    KafkaConfig = Annotated[Any, Later("ingestd.sources.kafka.settings:KafkaConfig")]
    FilesConfig = Annotated[Any, Later("ingestd.sources.live.settings:FilesConfig")]
    NatsConfig = Annotated[Any, Later("ingestd.sources.nats.settings:NatsConfig")]
    SqsConfig = Annotated[Any, Later("ingestd.sources.sqs.settings:SqsConfig")]


def _range(text: str) -> str:
    import ipaddress

    try:
        ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(
            f"{text[:100]!r} is neither an address nor a range: write it like 10.0.0.7 or 10.0.0.0/8"
        ) from None
    return text.strip()


AddressRange = Annotated[str, After(_range)]

SOURCES = {"files", "genesys_notifications", "kafka", "nats", "sqs"}
"""Tables of sources: each may have one without a name."""
SourceName = Annotated[str, Matching(r"^[a-z][a-z0-9_-]{0,39}$")]
"""It becomes a label of metrics."""


class ProducerConfig(UnwrapSection):
    """Who may post. By a bearer token, Basic, an API key, OAuth client credentials, or a Standard Webhooks
    signature; one of several is enough."""

    token: Secret = field(NOTHING, description="bearer token; better: token_file")
    token_file: SecretFile = field(
        "", description="one token on each line; all are valid, so that you can rotate them"
    )
    webhook_secret: Secret = field(NOTHING, description="Standard Webhooks: base64, with or without whsec_")
    webhook_secret_file: SecretFile = field("", description="one signing secret on each line; all are valid")
    username: str = field("", pattern=r"^[^:\x00-\x1f]{0,200}$", description="Basic: the user name")
    password: Secret = field(NOTHING, description="Basic: the password; better: password_file")
    password_file: SecretFile = field("", description="one password on each line; all are valid")
    api_key_header: str = field(
        "X-Api-Key",
        pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$",
        description="header with the API key",
    )
    api_key: Secret = field(NOTHING, description="API key; better: api_key_file")
    api_key_file: SecretFile = field("", description="one API key on each line; all are valid")
    client_id: str = field(
        "", pattern=r"^[!-~]{0,200}$", description="OAuth: for a token of POST /v1/oauth/token"
    )
    client_secret: Secret = field(NOTHING, description="OAuth: its secret; better: client_secret_file")
    client_secret_file: SecretFile = field(
        "", description="one client secret on each line; all are valid, the first signs tokens"
    )
    events_per_second: float = field(0, ge=0, description="most events in a second; 0: no limit of its own")
    events_per_day: int = field(0, ge=0, description="most events in a UTC day; 0: no limit")


class TlsConfig(Section):
    """PEM files; they are read again on SIGHUP and when they change."""

    cert_file: str = field("", description="the certificate, then its chain; empty: plain HTTP")
    key_file: SecretFile = field("", description="the certificate's private key, without a passphrase")
    client_ca_file: str = field(
        "", description="every client needs a certificate that this authority signed, with a token, too"
    )


def _one_or_named(schema: dict[str, Any]) -> None:
    """The JSON Schema for editors allows both forms."""
    named = {key: schema.pop(key) for key in [*schema] if key not in ("title", "description", "default")}
    (one,) = named["patternProperties"].values()
    schema["anyOf"] = [one, named]


class IngestConfig(UnwrapSection):
    """What ``ingestd run`` reads: HTTP, files, and sources at brokers."""

    listen: Listen = field("127.0.0.1:8080", description="address:port; [::1]:8080 for IPv6; port 0: any")
    allow_anonymous: bool = field(False, description="listen beyond loopback without authentication")
    access_token_in_query: bool = field(False, description="also accept ?access_token=")
    producers: dict[ProducerName, ProducerConfig] = field(
        {}, max_length=1000, description="by name; none: anyone may post"
    )
    token_lifetime: Seconds = field(
        3600.0, ge=60, le=86_400, description="how long an access token of POST /v1/oauth/token is good"
    )
    tls: TlsConfig = TlsConfig()
    max_body: Size = field(
        16 * 1024 * 1024, ge=1024, description="most bytes of a request, before and after decoding"
    )
    max_expansion: int = field(100, ge=1, description="most by which a compressed body may grow, as a factor")
    max_events: int = field(20_000, ge=1, le=1_000_000, description="most events in one request")

    max_head: Size = field(16 * 1024, ge=1024, description="most bytes of request line and headers together")
    max_connections: int = field(10_000, ge=1, description="most connections at the same time")
    head_timeout: Seconds = field(
        10.0, gt=0, description="longest time from the first byte to the last header"
    )
    body_timeout: Seconds = field(30.0, gt=0, description="longest time from the head to the end of the body")
    idle_timeout: Seconds = field(  # Caddy leaves its connections open for 120 s, clients of Go for 90
        130.0, gt=0, description="longest time of a connection without a request"
    )
    trusted_proxies: Annotated[list[AddressRange], Before(as_list)] = field(
        [], max_length=100, description="proxies, by address or range, whose X-Forwarded-For is believed"
    )
    wait_timeout: Seconds = field(30.0, gt=0, description="the longest that ?wait=delivered waits")
    keep_rejected: bool = field(False, description="keep rejected events as dead letters")
    webhook_origins: Annotated[list[str], Before(as_list)] = field(
        [], description="origins that the CloudEvents web-hook handshake allows; *: all"
    )
    webhook_rate: int = field(0, ge=0, description="requests a minute that the handshake grants; 0: any")
    nats: dict[SourceName, NatsConfig] = field(
        {},
        max_length=16,
        description="streams of JetStream, by name; or one, without a name",
        extra=_one_or_named,
    )
    sqs: dict[SourceName, SqsConfig] = field(
        {},
        max_length=16,
        description="queues of Amazon SQS, by name; or one, without a name",
        extra=_one_or_named,
    )
    kafka: dict[SourceName, KafkaConfig] = field(
        {},
        max_length=16,
        description="topics of Kafka, by name; or one table, without a name",
        extra=_one_or_named,
    )
    files: dict[SourceName, FilesConfig] = field(
        {},
        max_length=16,
        description="files that are followed, by name; or one table, without a name",
        extra=_one_or_named,
    )
    genesys_notifications: dict[SourceName, NotificationsConfig] = field(
        {},
        max_length=16,
        description="topics of Genesys Cloud, by name; or one, without a name",
        extra=_one_or_named,
    )

    @classmethod
    def _prepare(cls, values: Any) -> Any:
        """[ingest.nats] with settings in it is a source of that name; so are the others."""
        if not isinstance(values, dict):
            return values
        for kind in SOURCES & values.keys():
            table = values[kind]
            if isinstance(table, dict) and not all(isinstance(one, dict | Section) for one in table.values()):
                values = values | {kind: {kind: table}}
        return values
