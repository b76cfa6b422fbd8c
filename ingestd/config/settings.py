"""All settings together: what must fit, what ``run`` may not do, and what is doubtful."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from ingestd.config.event_tests import EventTest
from ingestd.config.ingest_section import IngestConfig
from ingestd.config.secret_settings import hide_secrets
from ingestd.config.sections import (
    AdminConfig,
    ApiConfig,
    AuditConfig,
    BatchConfig,
    DeliveryConfig,
    LettersConfig,
    LogConfig,
    MetricsConfig,
    SchemaConfig,
    StateConfig,
    TrailConfig,
    WindowConfig,
)
from ingestd.config.spool_section import SpoolConfig
from ingestd.core.address import is_loopback, overlap, parse_listen
from ingestd.core.errors import UserError
from ingestd.core.section import Section
from ingestd.core.setting_types import Matching, Tagged, field
from ingestd.core.transform_section import MOST_STEPS, TransformConfig
from ingestd.sources.files.settings import SourceConfig
from ingestd.telemetry.tracing_settings import TracingConfig

if TYPE_CHECKING:
    from ingestd.sinks.settings import HttpSinkConfig, SinkConfigBase
else:
    SinkConfigBase = Any

SinkName = Annotated[str, Matching(r"^[a-z][a-z0-9_-]{0,39}$")]
"""It becomes a label of metrics and stands in logs and dead letters."""
_MAX_SINKS = 16


def _sink_types() -> Mapping[str, type[Section]]:
    """Every kind of sink is imported for it: only where there are some."""
    from ingestd.sinks.registry import SINK_TYPES

    return SINK_TYPES


class Settings(Section):
    """Everything. One TOML table for each section."""

    api: ApiConfig = ApiConfig()
    schema_: SchemaConfig = field(SchemaConfig(), alias="schema")
    window: WindowConfig = WindowConfig()
    trail: TrailConfig = TrailConfig()
    batch: BatchConfig = BatchConfig()
    delivery: DeliveryConfig = DeliveryConfig()
    source: SourceConfig = SourceConfig()
    letters: LettersConfig = LettersConfig()
    state: StateConfig = StateConfig()
    audit: AuditConfig = AuditConfig()
    metrics: MetricsConfig = MetricsConfig()
    ingest: IngestConfig = IngestConfig()
    spool: SpoolConfig = SpoolConfig()
    admin: AdminConfig = AdminConfig()
    log: LogConfig = LogConfig()
    tracing: TracingConfig = TracingConfig()
    transforms: list[TransformConfig] = field(
        [], max_length=MOST_STEPS, description="steps that change the events of all sinks but lakes"
    )
    tests: list[EventTest] = field(
        [], max_length=1000, description="events, and what sinks get of them: ingestd test"
    )
    sinks: dict[SinkName, Annotated[SinkConfigBase, Tagged(_sink_types)]] = field(
        {},
        max_length=_MAX_SINKS,
        description="by name; none: ingest_api",
        extra={"additionalProperties": False},
    )

    def _check(self) -> None:
        hide_secrets(self)  # code that reads settings may quote them: what it says is masked from here on
        if self.api.url and self.api.region:
            raise ValueError("use either api.url or api.region, not both")
        if self.delivery.backoff_base > self.delivery.backoff_cap:
            raise ValueError("delivery.backoff_base is longer than delivery.backoff_cap")
        if _same_port(self.ingest.listen, self.admin.listen) and overlap(
            parse_listen(self.ingest.listen), parse_listen(self.admin.listen)
        ):
            raise ValueError(
                f"ingest.listen {self.ingest.listen} and admin.listen {self.admin.listen} "
                "want the same port: give one of them another"
            )
        _check_tls(self.ingest)
        _check_sinks(self.sinks)
        _check_brokers(self.ingest)


def _same_port(listen: str, other: str) -> bool:
    """Which is seldom so, and asked before the rest of them is read."""
    return int(listen.rpartition(":")[2]) == int(other.rpartition(":")[2])


def _check_tls(ingest: IngestConfig) -> None:
    tls = ingest.tls
    if bool(tls.cert_file) != bool(tls.key_file):
        given, missing = ("cert_file", "key_file") if tls.cert_file else ("key_file", "cert_file")
        raise ValueError(f"ingest.tls.{given} is given without ingest.tls.{missing}: TLS needs both")
    if tls.client_ca_file and not tls.cert_file:
        raise ValueError("ingest.tls.client_ca_file needs ingest.tls.cert_file and ingest.tls.key_file")
    for name, one in ingest.producers.items():
        secrets = [one.token, one.webhook_secret, one.password, one.api_key, one.client_secret]
        held = [one.token_file, one.webhook_secret_file, one.password_file, one.api_key_file]
        held += [one.client_secret_file, *(secret.get_secret_value() for secret in secrets)]
        # A client certificate may carry the name; its authority is then what the producer is known by.
        if not any((*held, tls.client_ca_file)):
            raise ValueError(
                f"ingest.producers.{name} has no credentials: set token_file or webhook_secret_file"
            )


MOST_SOURCES = 16
"""At brokers."""


def _check_brokers(ingest: IngestConfig) -> None:
    """Of two that read with one consumer each would get a part of the messages, and none the order."""
    names: dict[tuple[object, ...], str] = {}
    for name, one in ingest.nats.items():
        other = names.setdefault((one.stream, one.consumer, one.domain, *sorted(one.servers)), name)
        if other != name:
            raise ValueError(
                f"ingest.nats.{other} and ingest.nats.{name} read stream {one.stream} with the same consumer:"
                " give each its own"
            )
    urls: dict[str, str] = {}
    for name, queue in ingest.sqs.items():
        if (other := urls.setdefault(queue.queue_url, name)) != name:
            raise ValueError(f"ingest.sqs.{other} and ingest.sqs.{name} read the same queue: one is enough")
    for name, topics in ingest.kafka.items():
        same = (topics.group, *sorted(topics.bootstrap_servers))
        if (other := names.setdefault(same, name)) != name:
            raise ValueError(
                f"ingest.kafka.{other} and ingest.kafka.{name} are members of one group, {topics.group}:"
                " give each its own"
            )
    if len(ingest.nats) + len(ingest.kafka) + len(ingest.sqs) + len(ingest.files) > MOST_SOURCES:
        raise ValueError(f"at most {MOST_SOURCES} sources are read by one process")


def _check_sinks(sinks: Mapping[str, "SinkConfigBase"]) -> None:
    if not sinks:
        return
    from ingestd.sinks.settings import HttpSinkConfig

    lanes = [name for name, sink in sinks.items() if isinstance(sink, HttpSinkConfig)]
    for name, sink in sinks.items():
        sink.check(f"sinks.{name}")
        if name not in lanes:
            _check_lake(name, sink, lanes)
    if not lanes:
        raise ValueError("a lake does not count as delivery: configure at least one other sink")


def _check_lake(name: str, sink: "SinkConfigBase", lanes: list[str]) -> None:
    from ingestd.sinks.lake import LakeConfig  # of those who have none nobody waits for it

    if isinstance(sink, LakeConfig) and sink.of not in ("accepted", *lanes):
        there = ", ".join(["accepted", *lanes])
        raise ValueError(f"sinks.{name}.of = {sink.of!r}: there is no such sink; there are: {there}")


def check_run(settings: Settings) -> None:
    """``ingestd run`` must not listen to others without asking who they are. Raises UserError."""
    ingest = settings.ingest
    authenticated = ingest.producers or ingest.tls.client_ca_file
    if not (is_loopback(parse_listen(ingest.listen)[0]) or authenticated or ingest.allow_anonymous):
        raise UserError(
            f"ingest.listen {ingest.listen} is open to others: "
            "configure [ingest.producers.NAME], or allow_anonymous = true"
        )


def doubts(settings: Settings) -> list[str]:
    """What works and is probably not meant: one line each. The defaults raise none."""
    found = []
    delivery, batch, source, spool = settings.delivery, settings.batch, settings.source, settings.spool
    given = _given(batch, "max_bytes") or _given(source, "max_event_bytes")
    if given and source.max_event_bytes > batch.max_bytes:
        found.append(
            f"source.max_event_bytes ({source.max_event_bytes}) is over batch.max_bytes ({batch.max_bytes}): "
            "an event between the two is accepted and then becomes a dead letter (too_large)"
        )
    if spool.kind != "nats" and (
        names := [n for n, one in sinks_that_send(settings).items() if one.shared_rate]
    ):
        found.append(
            f"sinks.{names[0]}.shared_rate does nothing: workers that share a rate need spool.kind = 'nats'"
        )
    if delivery.request_timeout > delivery.shutdown_timeout:
        found.append(
            "delivery.request_timeout is longer than delivery.shutdown_timeout: a shutdown may cut off "
            "a slow request, which the next start repeats"
        )
    if spool.max_bytes < settings.ingest.max_body:
        found.append(
            f"spool.max_bytes ({spool.max_bytes}) is under ingest.max_body ({settings.ingest.max_body}): "
            "the largest requests would get 429 for ever"
        )
    for name, sink in sinks_that_send(settings).items():
        found += _doubts_of(name, sink)
    for name, one in settings.ingest.nats.items():
        if len(one.logins) > 1:
            first, *others = one.logins
            found.append(f"ingest.nats.{name}.{first} is used to log in, and {', '.join(others)} is not")
    found += [
        f"ingest.kafka.{name}.user is used to log in, and oauth_token_url is not"
        for name, topics in settings.ingest.kafka.items()
        if topics.user and topics.oauth_token_url
    ]
    return found


def sinks_that_send(settings: Settings) -> dict[str, "HttpSinkConfig"]:
    """All sinks but lakes, by name."""
    if not settings.sinks:
        return {}
    from ingestd.sinks.settings import HttpSinkConfig

    return {name: sink for name, sink in settings.sinks.items() if isinstance(sink, HttpSinkConfig)}


def _doubts_of(name: str, sink: "HttpSinkConfig") -> Iterator[str]:
    auth = sink.auth
    if auth.type in ("auto", "api", "none") and (unused := sorted(auth.model_fields_set - {"type"})):
        yield f"sinks.{name}.auth.{unused[0]} is not used: auth.type = {auth.type!r} says so"
    if sink.is_single and sink.max_events is not None and sink.max_events > 1:
        yield f"sinks.{name}.max_events is not used: one event goes in a request"


def _given(section: Section, field: str) -> bool:
    return field in section.model_fields_set


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the configuration file, for editors; durations and sizes may be text."""
    from ingestd.core.section_model import model_of

    schema = model_of(Settings).model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Configuration of ingestd",
    }
