"""``[sinks.NAME]``: where events go, one table for each remote API. Without any, there is ``ingest_api``."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from ingestd.config.secret_settings import NOTHING, Secret, SecretFile, SecretUrl, Url
from ingestd.config.sections import Seconds, Section, Size
from ingestd.core import json_path, json_text

SinkName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
"""It becomes a label of metrics and stands in logs and dead letters."""

_TYPE = "which remote API"

Meaning = Literal["accepted", "retry", "split", "rejected", "paused", "permanent"]
_RENAMED = {
    "taken": "accepted",
    "later": "retry",
    "too_big": "split",
    "refused": "rejected",
    "forbidden": "paused",
    "dead": "permanent",
}


def _current(word: Any) -> Any:
    """Raises ValueError that gives the new word, for one that configurations had before."""
    if isinstance(word, str) and word in _RENAMED:
        raise ValueError(f"{word!r} is called {_RENAMED[word]!r} now")
    return word


def _object(value: Any) -> Any:
    """An object may also be given as JSON text."""
    if isinstance(value, str):
        return json_text.read(value) if value.strip() else {}
    return value


_OBJECT = BeforeValidator(_object, json_schema_input_type=dict[str, Any] | str)


def _json_path(text: str) -> str:
    json_path.parse(text)
    return text


JsonPath = Annotated[str, AfterValidator(_json_path)]
"""One path, in any notation of ``core/json_path.py``."""

Pattern = Annotated[dict[str, Any], _OBJECT]
Status = Annotated[str, StringConstraints(pattern=r"^[1-5]\d\d$")]


class AuthConfig(Section):
    """How requests show who they are from. Secrets are better given as files."""

    type: Literal["auto", "api", "none", "bearer", "basic", "header", "oauth2", "standard_webhooks"] = Field(
        "auto", description="api: the login of [api]; auto: that, where requests go to [api], else none"
    )
    token: Secret = Field(NOTHING, description="bearer: the token; header: its value")
    token_file: SecretFile = Field(
        "", description="a file that holds the token and nothing else; read when it changes"
    )
    header: str = Field("Authorization", description="header: its name")
    username: str = Field("", description="basic")
    password: Secret = Field(NOTHING, description="basic; better password_file")
    password_file: SecretFile = Field(
        "", description="basic: a file that holds the password and nothing else"
    )
    token_url: Url = Field("", description="oauth2: where the token comes from")
    client_id: str = Field("", description="oauth2")
    client_secret: Secret = Field(NOTHING, description="oauth2; better client_secret_file")
    client_secret_file: SecretFile = Field(
        "", description="oauth2: a file that holds the secret and nothing else"
    )
    scope: str = Field("", description="oauth2: asked for, where the login host wants one")
    secret: Secret = Field(NOTHING, description="standard_webhooks: base64, with or without whsec_")
    secret_file: SecretFile = Field("", description="standard_webhooks: one secret a line; each signs")


class AnswersConfig(Section):
    """Where the body of an answer says what became of each event; empty: the usual names are tried."""

    items: JsonPath = Field("", description="path to the list, as result.failed; . is the body itself")
    index: JsonPath = Field("", description="field that has the event's place in the request, from 0")
    id: JsonPath = Field("", description="field that has the event's id")
    event_id: JsonPath = Field("", description="path of that id in the event, as data.orderId")
    message: JsonPath = Field("", description="field that says what is wrong")
    retryable: JsonPath = Field("", description="field that is true where the event may be sent again")
    ok: JsonPath = Field(
        "", description="field that is true, ok or 2xx where the event was taken; empty: errors only"
    )


class ConfirmConfig(Section):
    """Asking the API what became of the events it has accepted."""

    url: Url = Field("", description="with {id}; auto: that of [api]; empty: nobody is asked")
    timeout: Seconds = Field(300.0, gt=0, description="then the event becomes a dead letter (unconfirmed)")
    first_after: Seconds = Field(1.0, gt=0, description="before the first question; doubles from there")
    requests_per_minute: int = Field(60, ge=1, description="for all questions together")
    max_pending: int = Field(100_000, ge=1, description="then sending waits")
    status: JsonPath = Field("status", description="field of the answer that says how it stands")
    delivered: tuple[str, ...] = Field(("delivered",), description="values that are a good end")
    failed: tuple[str, ...] = Field(("failed",), description="values that are a bad end")


class SinkConfigBase(Section):
    """What every sink has."""

    url: Url = Field("", description="where events go; some types know it from [api]")
    when: Pattern = Field({}, description="EventBridge pattern, as TOML or JSON: which events; empty: all")
    allow_private: bool = Field(True, description="requests may go to loopback and private addresses")


class HttpSinkConfig(SinkConfigBase):
    """What every sink has that sends requests."""

    order_by: str | None = Field(None, description="JSON paths; not given: delivery.order_by")
    max_in_flight: int | None = Field(None, ge=1, le=1000, description="not given: delivery.max_in_flight")
    max_events: int | None = Field(None, ge=1, description="in a request; not given: batch.max_events")
    max_bytes: Size | None = Field(None, ge=100, description="of a body; not given: batch.max_bytes")
    max_age: Seconds | None = Field(None, ge=0, description="not given: batch.max_age")
    requests_per_minute: int = Field(0, ge=0, description="0: as the API's own headers say")
    events_per_second: float = Field(0, ge=0, description="0: no limit of its own")
    auth: AuthConfig = AuthConfig()
    on_status: Annotated[
        dict[Status, Annotated[Meaning, BeforeValidator(_current)]],
        BeforeValidator(_object, json_schema_input_type=dict[Status, Meaning] | str),
    ] = Field({}, max_length=100, description="what a status means, where it is not the usual")
    answers: AnswersConfig = AnswersConfig()
    expect: Literal["auto", "json", "any"] = Field(
        "auto", description="json: a 2xx with another body is no answer; auto: where the API speaks JSON"
    )


class IngestApiConfig(HttpSinkConfig):
    """``POST {api}/api/v2/events/ingest`` (the default)."""

    type: Literal["ingest_api"] = Field(description=_TYPE)


class WrapConfig(Section):
    """Makes a CloudEvent of ordinary JSON. Values that begin with $. or $[ are paths into the event."""

    type: str = Field("", description="of the CloudEvent; empty: events are CloudEvents already")
    source: str = Field("", description="of the CloudEvent")
    id: JsonPath = Field(
        "", description="a path; empty: made from the event's bytes, so that copies share it"
    )
    time: JsonPath = Field("", description="a path; empty: the CloudEvent has none")
    subject: str = Field("", description="empty: the CloudEvent has none")
    data: JsonPath = Field("$", description="a path to what becomes data; $: all of the event")


class CloudEventsConfig(HttpSinkConfig):
    """Any CloudEvents receiver; by default ``POST {api}/api/v2/eventbridge/events``."""

    type: Literal["cloudevents"] = Field(description=_TYPE)
    mode: Literal["structured", "binary", "batch"] = Field("structured", description="batch: where solicited")
    wrap: WrapConfig = WrapConfig()
    confirm: ConfirmConfig = ConfirmConfig()


class GenesysEventsConfig(HttpSinkConfig):
    """The inbound event APIs of Genesys Cloud."""

    type: Literal["genesys_events"] = Field(description=_TYPE)
    api: Literal["conversations", "presence", "routingstatus"] = Field(
        "conversations", description="which of them"
    )
    map: Literal["none", "interaction"] = Field(
        "none", description="none: events are entries of that API, under their array's name"
    )
    source_id: str = Field("", description="sourceConfiguration.sourceId of what is mapped")
    namespace: str = Field("", description="what foreign ids are made UUIDs with; empty: source_id")
    requests_per_minute: int = Field(300, ge=0, description="0: as the API's own headers say")


class JourneyEventsConfig(HttpSinkConfig):
    """Genesys Cloud journey external events."""

    type: Literal["journey_events"] = Field(description=_TYPE)
    configuration_id: str = Field(description="of the external event configuration")
    requests_per_minute: int = Field(300, ge=0, description="0: as the API's own headers say")


class WebhookConfig(HttpSinkConfig):
    """Any URL that takes JSON, one event a request or several as an array."""

    type: Literal["webhook"] = Field(description=_TYPE)
    secret_url: bool = Field(False, description="the URL is a secret: it is shown nowhere")
    url_file: SecretFile = Field("", description="a file that holds the URL and nothing else")
    body: Literal["event", "array", "ndjson"] = Field("event", description="event: one a request")
    headers: Annotated[dict[str, Secret], _OBJECT] = Field(
        {}, max_length=50, description="sent with every request; shown nowhere"
    )
    handshake_origin: str = Field("", description="ask first, by the CloudEvents web-hook handshake")

    @property
    def is_secret(self) -> bool:
        """Whether who knows the URL may post there."""
        return self.secret_url or "/webhooks/" in self.url

    @property
    def secret_urls(self) -> tuple[str, ...]:
        """See ``secret_settings.held_by``."""
        return ("url",) if self.is_secret else ()


class EventBridgeConfig(HttpSinkConfig):
    """AWS EventBridge ``PutEvents`` (``pip install ingestd[aws]``)."""

    type: Literal["eventbridge"] = Field(description=_TYPE)
    aws_region: str = Field("", description="empty: as the AWS environment says")
    aws_profile: str = Field("", description="of the AWS configuration; empty: the usual one")
    bus: str = Field("default", description="name or ARN")
    source: str = Field("ingestd", description="of every entry; $.path: from the event")
    detail_type: str = Field("$.eventType", description="of every entry; $.path: from the event")
    detail: JsonPath = Field("$", description="a path to what becomes the detail")
    time: JsonPath = Field("", description="a path; empty: the time AWS takes it")
    resources: tuple[str, ...] = Field((), description="ARNs, the same for every entry")
    max_entry_bytes: Size = Field(256 * 1024, ge=1024, description="AWS takes more by now; 256 KB is safe")


FileMode = Annotated[str, StringConstraints(pattern=r"^0?[67][0-7]{2}$")]
"""Whoever writes a file must be able to read it again."""


class LakeConfig(SinkConfigBase):
    """Files in a folder or on S3 (``pip install ingestd[lake]``)."""

    type: Literal["lake"] = Field(description=_TYPE)
    of: str = Field("accepted", description="accepted, or the name of a sink: what that has delivered")
    format: Literal["ndjson", "parquet"] = Field("ndjson", description="ndjson is compressed by zstd")
    partition: str = Field("date/hour/type", description="folders: date, hour, type, in any order")
    time: JsonPath = Field("", description="path of an event's time; empty: time or eventTime")
    event_type: JsonPath = Field("", description="path of an event's type; empty: type or eventType")
    file_bytes: Size = Field(64 * 1024**2, ge=1024, description="of events in a file")
    file_age: Seconds = Field(300.0, gt=0, description="how long events wait for their file to fill")
    max_backlog: Size = Field(1024**3, ge=1024**2, description="kept while the lake is out of reach")
    file_mode: FileMode = Field("0600", description="rights of its files, in octal; folders get x for r")
    callback_url: SecretUrl = Field("", description="told of each file (POST)")
    callback_secret_file: SecretFile = Field(
        "", description="signs that (Standard Webhooks): a file with one secret a line"
    )
    aws_region: str = Field("", description="empty: as the AWS environment says")
    aws_profile: str = Field("", description="of the AWS configuration; empty: the usual one")
    endpoint_url: Url = Field("", description="of S3, where it is not AWS")


SINK_TYPES: dict[str, type[SinkConfigBase]] = {
    "ingest_api": IngestApiConfig,
    "cloudevents": CloudEventsConfig,
    "genesys_events": GenesysEventsConfig,
    "journey_events": JourneyEventsConfig,
    "webhook": WebhookConfig,
    "eventbridge": EventBridgeConfig,
    "lake": LakeConfig,
}

Sink = Annotated[
    IngestApiConfig
    | CloudEventsConfig
    | GenesysEventsConfig
    | JourneyEventsConfig
    | WebhookConfig
    | EventBridgeConfig
    | LakeConfig,
    Field(discriminator="type"),
]
