"""The sections of the configuration: one class for each TOML table. Read by everything that is configured."""

from typing import Annotated, Literal

from ingestd.core import address
from ingestd.core.section import Section
from ingestd.core.setting_types import (
    NOTHING,
    After,
    Before,
    Matching,
    Seconds,
    Secret,
    SecretFile,
    Size,
    Url,
    as_list,
    field,
)


def _listen(text: str) -> str:
    address.parse_listen(text)
    return text.strip()


Listen = Annotated[str, After(_listen)]
# Also the name in a client certificate; it becomes a label of metrics and stands in logs.
ProducerName = Annotated[str, Matching(r"^[A-Za-z0-9_.@:/ -]{1,100}$")]


class ApiConfig(Section):
    """Where events go and how to log in there."""

    url: Url = field("", description="base URL of the API; or set region")
    region: str = field("", description="AWS region or Genesys domain; gives url and token_url")
    token_url: Url = field("", description="where the OAuth2 token comes from")
    no_auth: bool = field(False, description="send without a token")
    client_id: str = field("", description="id of the OAuth2 client; or GENESYS_CLIENT_ID")
    client_secret: Secret = field(
        NOTHING, description="secret of the OAuth2 client; better: client_secret_file"
    )
    client_id_file: str = field("", description="a file that holds the client id and nothing else")
    client_secret_file: SecretFile = field(
        "", description="a file that holds the client secret and nothing else"
    )
    ca_file: str = field("", description="PEM file of authorities to trust, instead of the usual ones")
    trust_env: bool = field(False, description="use HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY")
    max_connection_age: Seconds = field(
        300.0, gt=0, description="after this a connection is opened again, and its name looked up"
    )


class SchemaConfig(Section):
    """What a valid event is, and what makes two events the same."""

    name: str = field(
        "interaction", description="interaction, cloudevent, a JSON Schema file, or package.module:Model"
    )
    dedup_key: str = field("", description="JSON paths, A,B.c; empty: the schema's own")
    format_assertion: bool = field(
        True, description="JSON Schema: check format in every draft; false: as the draft says"
    )
    max_depth: int = field(64, ge=2, le=190, description="most levels of arrays and objects in an event")
    max_values: int = field(
        100_000, ge=100, le=10_000_000, description="most scalars, arrays and objects in an event"
    )


class WindowConfig(Section):
    """The deduplication window."""

    max_count: int = field(1_000_000, ge=16, le=50_000_000, description="most keys that are remembered")
    max_age: Seconds = field(600.0, ge=0, description="how long a key is remembered")


class TrailConfig(Section):
    """Where an event is, and what became of it: see `ingestd where`."""

    max_age: Seconds = field(86_400.0, ge=0, description="how long that is known; 0: not at all")
    max_bytes: Size = field(
        64 * 1024**2, ge=0, description="most bytes for that; a step of an event takes 16"
    )


class BatchConfig(Section):
    """Limits of one request."""

    max_bytes: Size = field(500_000, ge=100, description="most bytes of the encoded body, envelope included")
    max_events: int = field(5_000, ge=1, le=1_000_000, description="most events in one request")

    max_age: Seconds = field(1.0, ge=0, description="how long an event waits for others to fill its batch")


class DeliveryConfig(Section):
    """How batches get out."""

    max_in_flight: int = field(5, ge=1, le=1000, description="most requests at the same time")
    give_up_after: Seconds = field(
        900.0, ge=0, description="how long a batch is tried before it becomes dead letters"
    )
    max_attempts: int = field(0, ge=0, description="most attempts for a batch; 0: only give_up_after counts")
    request_timeout: Seconds = field(20.0, gt=0, description="longest time of one attempt")
    backoff_base: Seconds = field(0.5, gt=0, description="longest wait before the second attempt")
    backoff_cap: Seconds = field(30.0, gt=0, description="longest wait before any attempt")
    circuit_threshold: int = field(10, ge=1, description="failures in a row that open the circuit breaker")
    retry_ratio: float = field(
        0.2, ge=0, description="retries allowed, as a share of first attempts; protects a failing API"
    )
    min_retries_per_second: float = field(1.0, gt=0, description="retries that are allowed in any case")
    order_by: str = field(
        "", description="JSON paths, A,B.c: events with the same values there are sent in order"
    )
    startup_timeout: Seconds = field(
        20.0, ge=0, description="how long a replay waits for an API that never answered"
    )
    shutdown_timeout: Seconds = field(
        25.0, ge=0, description="longest time of the drain after the first signal"
    )


class LettersConfig(Section):
    """Dead letters."""

    retry: bool = field(True, description="send letters again that may succeed, after live traffic")
    poll_interval: Seconds = field(5.0, gt=0, description="how often due letters are looked for")
    retention: Seconds = field(7 * 86400.0, ge=0, description="how long delivered letters are kept")


class StateConfig(Section):
    """What survives a restart."""

    dir: str = field("", description="empty: a directory for this API under $XDG_STATE_HOME/ingestd")


class AuditConfig(Section):
    """The audit file: one JSON line for each lifecycle event."""

    file: str = field("", description="empty: audit.jsonl in the state directory")
    key_file: SecretFile = field(
        "",
        description="key of the audit file's chain, made at the first start; empty: audit.key in the state"
        " directory. Keep it where people who can change the audit file cannot read it",
    )
    max_bytes: Size = field(100_000_000, ge=10_000, description="size at which the file is rotated")
    keep: int = field(5, ge=1, le=1000, description="how many rotated files are kept")


class MetricsConfig(Section):
    """``/metrics`` beside a replay; ``ingestd run`` has it on its admin address."""

    host: str = field("127.0.0.1", description="address to serve it on")
    port: int | None = field(None, ge=0, le=65535, description="not set: not served; 0: any free port")


class ConsoleTokenConfig(Section):
    """Who may use the console from another machine, or change something. From this one everybody may look."""

    role: Literal["viewer", "operator"] = field(
        "viewer", description="viewer: may look; operator: may also change something"
    )
    token: Secret = field(NOTHING, description="console token; better: token_file")
    token_file: SecretFile = field("", description="one token on each line; all are valid")


class AdminConfig(Section):
    """The console, status and metrics of ``ingestd run``."""

    listen: Listen = field(
        "127.0.0.1:9464", description="address:port of console, /metrics, /healthz, /readyz, /v1/"
    )
    tokens: dict[ProducerName, ConsoleTokenConfig] = field(
        {}, max_length=100, description="by name of a person; none: only looking, from this machine"
    )
    redact: Annotated[list[str], Before(as_list)] = field([], description="paths in events that are hidden")


class LogConfig(Section):
    """The log on standard error."""

    format: Literal["auto", "json", "text"] = field("auto", description="auto: text on a terminal, else json")
    level: Literal["debug", "info", "warning", "error"] = field(
        "info", description="lowest level that is logged"
    )
