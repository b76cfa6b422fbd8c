"""Builds a sink and its credentials from its section of the configuration. Called by ``open_sinks.py``."""

from collections.abc import Callable

from ingestd.config import BatchConfig, Login
from ingestd.config.secret_settings import secrets_in
from ingestd.config.sinks import (
    AuthConfig,
    CloudEventsConfig,
    ConfirmConfig,
    EventBridgeConfig,
    GenesysEventsConfig,
    HttpSinkConfig,
    IngestApiConfig,
    JourneyEventsConfig,
    WebhookConfig,
)
from ingestd.core import redaction
from ingestd.core.address import check_url
from ingestd.core.errors import UserError
from ingestd.sinks import cloudevents, genesys_events, ingest_api, journey_events, webhook
from ingestd.sinks.answers import AnswerReader
from ingestd.sinks.cloudevents_formats import Wrapping
from ingestd.sinks.item_paths import ItemPaths
from ingestd.sinks.sink import Sink
from ingestd.transport.credential import read_secret
from ingestd.transport.url_guard import UrlGuard
from ingestd.transport.watched_file import Watch, WatchedFiles

STATUS_PATH = cloudevents.PATH + "/{id}"

Wall = Callable[[], float]


def make_sink(
    name: str, section: HttpSinkConfig, login: Login | None, batch: BatchConfig, wall: Wall
) -> Sink:
    """Raises UserError that names the sink and what is wrong with its settings."""
    try:
        sink = _make(name, section, login, batch, wall)
        UrlGuard(allow_private=section.allow_private).check_host(sink.url)
        return sink
    except ValueError as error:
        raise UserError(f"sinks.{name}: {error}") from None


def _make(name: str, section: HttpSinkConfig, login: Login | None, batch: BatchConfig, wall: Wall) -> Sink:
    paths = ItemPaths(**section.answers.model_dump())
    reading = AnswerReader(section.on_status, paths, expect_json=_expects_json(section))
    max_bytes, max_events = section.max_bytes or batch.max_bytes, section.max_events or batch.max_events
    limits = {"max_bytes": max_bytes, "max_events": max_events}
    own_url = _checked(name, "url", section.url) if section.url else ""
    match section:
        case IngestApiConfig():
            return ingest_api.IngestApi(
                own_url or _api(name, login), name=name, reading=reading, wall=wall, **limits
            )
        case CloudEventsConfig():
            return cloudevents.CloudEventsSink(
                url=own_url or _api(name, login) + cloudevents.PATH,
                name=name,
                mode=section.mode,
                wrap=Wrapping(**section.wrap.model_dump()) if section.wrap.type else None,
                reading=reading,
                wall=wall,
                **limits,
            )
        case GenesysEventsConfig():
            return genesys_events.GenesysEventsSink(
                name=name,
                api=own_url or _api(name, login),
                family=section.api,
                mapping=section.map,
                source_id=section.source_id,
                namespace=section.namespace,
                max_events=max_events,
                max_bytes=min(max_bytes, 512_000),
                reading=reading,
                wall=wall,
            )
        case JourneyEventsConfig():
            return journey_events.JourneyEventsSink(
                name=name,
                api=own_url or _api(name, login),
                configuration_id=section.configuration_id,
                max_events=min(max_events, 100) if section.max_events is None else max_events,
                max_bytes=min(max_bytes, 512_000),
                reading=reading,
                wall=wall,
            )
        case WebhookConfig():
            return webhook.WebhookSink(
                url=own_url or _from_file(name, section.url_file),
                name=name,
                body=section.body,
                headers={key: value.get_secret_value() for key, value in section.headers.items()},
                secret_url=section.secret_url or bool(section.url_file),
                reading=reading,
                wall=wall,
                **limits,
            )
        case EventBridgeConfig():
            return _event_bridge(name, section, reading, wall)
    raise AssertionError(f"no sink of type {type(section).__name__}")


def _expects_json(section: HttpSinkConfig) -> bool:
    """``auto``: JSON but for webhooks, where Standard Webhooks takes any 2xx, and for CloudEvents receivers
    elsewhere than at [api], whose binding says nothing of an answer's body."""
    if section.expect != "auto":
        return section.expect == "json"
    return not isinstance(section, WebhookConfig) and not (
        isinstance(section, CloudEventsConfig) and section.url
    )


def _event_bridge(name: str, section: EventBridgeConfig, reading: AnswerReader, wall: Wall) -> Sink:
    from ingestd.sinks import eventbridge
    from ingestd.transport import aws  # an extra: only for those who want it

    region = aws.find_region(section.aws_region, profile=section.aws_profile)
    return eventbridge.EventBridgeSink(
        name=name,
        url=section.url or aws.endpoint("events", region),
        bus=section.bus,
        source=section.source,
        detail_type=section.detail_type,
        detail=section.detail,
        time=section.time,
        resources=section.resources,
        max_entry_bytes=section.max_entry_bytes,
        reading=reading,
        wall=wall,
    )


def question_template(name: str, confirm: ConfirmConfig, login: Login | None) -> str:
    """The URL, with {id}, by which is asked what became of an event. Raises UserError."""
    if confirm.url != "auto":
        return _checked(name, "confirm.url", confirm.url)
    if login is None:
        raise UserError(f"sinks.{name}.confirm.url: auto needs [api]")
    return login.api.rstrip("/") + STATUS_PATH


def auth_kind(section: HttpSinkConfig) -> str:
    """``auto`` is the login of [api] where requests go to [api], and none elsewhere: a token must not
    reach another host unless somebody says so."""
    kind = section.auth.type
    if kind != "auto":
        return kind
    if isinstance(section, EventBridgeConfig):
        return "aws"
    return "none" if section.url or isinstance(section, WebhookConfig) else "api"


def auth_values(auth: AuthConfig) -> dict[str, str]:
    """For ``transport.login.make_auth``."""
    return {
        "token": auth.token.get_secret_value(),
        "token_file": auth.token_file,
        "header_name": auth.header,
        "username": auth.username,
        "password": auth.password.get_secret_value(),
        "password_file": auth.password_file,
        "token_url": auth.token_url,
        "client_id": auth.client_id,
        "client_secret": auth.client_secret.get_secret_value(),
        "client_secret_file": auth.client_secret_file,
        "scope": auth.scope,
        "secret": auth.secret.get_secret_value(),
        "secret_file": auth.secret_file,
    }


def _api(name: str, login: Login | None) -> str:
    if login is None:
        raise UserError(f"sinks.{name}: where to? give it a url, or set [api]")
    return login.api.rstrip("/")


def watch_url(sink: Sink, section: HttpSinkConfig, watch: Watch) -> None:
    """Where the URL stands in a file, follow that. Raises UserError."""
    if not isinstance(section, WebhookConfig) or not section.url_file or section.url:
        return
    assert isinstance(sink, webhook.WebhookSink)

    def read() -> str:
        url = _from_file(sink.name, section.url_file)
        UrlGuard(allow_private=section.allow_private).check_host(url)
        return url

    WatchedFiles(
        (section.url_file,),
        read,
        what=f"sinks.{sink.name}.url_file",
        watch=watch,
        on_change=sink.move,
    )


def _from_file(name: str, path: str) -> str:
    try:
        url = read_secret(path)
    except (OSError, ValueError) as error:  # UnicodeDecodeError is one
        raise UserError(f"sinks.{name}.url_file {path}: {error}") from None
    for secret in secrets_in(url, whole=True):
        redaction.hide(secret)
    return _checked(name, "url_file", url)


def _checked(name: str, field: str, url: str) -> str:
    try:
        check_url(url)
    except ValueError as error:
        raise UserError(f"sinks.{name}.{field}: {error}") from None
    return url
