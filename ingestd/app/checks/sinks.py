"""Every sink of the configuration: whether it can be made, with its pattern, credentials and place. Sends
nothing. Called by ``run.py``."""

import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ingestd.app.checks.configuration import check_key
from ingestd.app.checks.finding import Finding, fail, ok, warn
from ingestd.config import Login, Settings
from ingestd.core import json_path
from ingestd.core.address import is_exposed, without_password
from ingestd.core.clock import Clock, SystemClock
from ingestd.core.errors import UserError
from ingestd.core.section import Section
from ingestd.core.setting_types import IntoEvent
from ingestd.processing import routes
from ingestd.schemas.key_doubts import doubt_of
from ingestd.sinks.lake import LakeConfig
from ingestd.sinks.settings import HttpSinkConfig, SinkConfigBase
from ingestd.sinks.sink import Sink
from ingestd.sinks.webhook import WebhookConfig
from ingestd.transport import proxies
from ingestd.transport.auth import NoAuth
from ingestd.transport.client import Auth, Client, Sender
from ingestd.transport.target import parse_target
from ingestd.transport.url_guard import UrlGuard
from ingestd.transport.webhook_handshake import WebhookHandshake
from ingestd.wiring.factories import make_sink
from ingestd.wiring.http_clients import own_auth

_HTTP = ("http://", "https://")


async def check_sinks(settings: Settings, login: Login | None) -> list[Finding]:
    """Of each sink. ``login``: of [api], as far as there is one. Raises nothing for what it looks at."""
    found: list[Finding] = []
    async with Client() as client:
        for name, section in settings.sinks.items():
            try:
                found += _check_pattern(name, section)
                found += check_paths(section, f"sinks.{name}", settings.schema_.name)
                if isinstance(section, LakeConfig):
                    found += _check_lake(name, section)
                elif isinstance(section, HttpSinkConfig):
                    found += await _check_sink(name, section, settings, login, client)
            except (UserError, OSError) as error:
                found.append(fail("sinks", _with_sink(name, str(error))))
    return found


def check_proxies(settings: Settings, login: Login | None) -> Iterator[Finding]:
    """Which proxy of the environment requests go through, or that it is not used. Raises UserError."""
    named = proxies.names_in_environment()
    if named and not settings.api.trust_env:
        yield ok("proxy", f"{named} of the environment is not used: api.trust_env = true would")
    if not named or not settings.api.trust_env:
        return
    chosen = proxies.Proxies.of_environment()
    urls = [sink.url for sink in find_targets(settings, login).values()]
    urls += [login.api, login.token_url or login.api] if login else []
    ways = {(target.host, chosen.of(target)) for target in map(parse_target, urls)}
    for host, proxy in sorted(ways, key=str):
        yield ok(
            "proxy", f"{host}: " + (f"through {without_password(proxy)}" if proxy else "without a proxy")
        )


def find_targets(settings: Settings, login: Login | None) -> dict[str, Sink]:
    """The sinks that can be made, by name; the others have a finding."""
    made: dict[str, Sink] = {}
    for name, section in settings.sinks.items():
        if isinstance(section, HttpSinkConfig):
            try:
                made[name] = make_sink(name, section, login, settings.batch, SystemClock().wall)
            except UserError:
                continue
    return made


def make_own_auth(
    section: HttpSinkConfig, client: Client, *, clock: Clock, login_timeout_s: float = 10.0
) -> Auth:
    """Of a sink with credentials of its own. Raises UserError for what is missing or cannot be read."""
    return own_auth(section, client, clock=clock, login_timeout_s=login_timeout_s)


def check_paths(section: Section, place: str, schema: str) -> Iterator[Finding]:
    """Of paths into an event that are set: one that events of the schema cannot have, or probably lack."""
    for field, info in type(section).model_fields.items():
        value, setting = getattr(section, field), f"{place}.{field}"
        if isinstance(value, Section):
            yield from check_paths(value, setting, schema)
        elif field in section.model_fields_set and any(isinstance(one, IntoEvent) for one in info.metadata):
            doubt = doubt_of(schema, json_path.parse(value))
            if doubt is not None:
                yield warn("sinks", f"{setting}: {doubt.words}")


def _check_pattern(name: str, section: SinkConfigBase) -> Iterator[Finding]:
    routes.compile({name: section.when})
    if section.when:
        yield ok("routes", f"sinks.{name}.when: the pattern can be used")


async def _check_sink(
    name: str, section: HttpSinkConfig, settings: Settings, login: Login | None, client: Client
) -> list[Finding]:
    sink = make_sink(name, section, login, settings.batch, SystemClock().wall)
    if not sink.url.startswith(_HTTP):
        return [fail("sinks", f"sinks.{name}.url: it must begin with https:// (or http://)")]
    kind = section.auth_kind
    if kind not in ("api", "aws"):
        try:
            auth = make_own_auth(section, client, clock=SystemClock())
        except UserError as error:
            raise UserError(f"sinks.{name}.auth: {error}") from None
        await auth.aclose()
    if isinstance(section, WebhookConfig) and section.handshake_origin:
        WebhookHandshake(
            Sender(client, NoAuth()), client, origin=section.handshake_origin, clock=SystemClock()
        )
    found = [ok("sinks", f"{name} ({sink.kind}): {sink.shown_url}, {_AUTH.get(kind, f'auth {kind}')}")]
    if section.order_by:
        setting, schema = f"sinks.{name}.order_by", settings.schema_.name
        found.append(check_key(setting, section.order_by, schema, check="sinks"))
    return [*found, *_check_exposure(name, section, sink, kind)]


_AUTH = {"api": "the login of [api]", "aws": "the credentials of AWS", "none": "without credentials"}


def _check_exposure(name: str, section: HttpSinkConfig, sink: Sink, kind: str) -> Iterator[Finding]:
    if is_exposed(sink.url):
        secret = kind != "none" or (
            isinstance(section, WebhookConfig) and (section.headers or section.is_secret)
        )
        what = "events and credentials" if secret else "events"
        yield warn("sinks", f"{name}: {what} go to {sink.shown_url} unencrypted: use https")
    if kind == "oauth2" and is_exposed(section.auth.token_url):
        yield warn("sinks", f"{name}: the credentials go to {section.auth.token_url} unencrypted: use https")
    if section.confirms and is_exposed(section.confirms.url):
        yield warn("sinks", f"{name}: confirm.url uses plain HTTP: use https")


def _check_lake(name: str, section: LakeConfig) -> Iterator[Finding]:
    if section.callback_url and not section.callback_url.startswith(_HTTP):
        yield fail("sinks", f"sinks.{name}.callback_url: it must begin with https:// (or http://)")
    elif section.callback_url:
        try:
            UrlGuard(allow_private=section.allow_private).check_host(section.callback_url)
        except ValueError as error:
            yield fail("sinks", f"sinks.{name}.callback_url: {error}")
    if section.format == "parquet" and find_spec("pyarrow") is None:
        yield fail("sinks", f"{name}: format = 'parquet' needs pyarrow: pip install 'ingestd[lake]'")
    parts = urlsplit(section.url)
    if parts.scheme == "s3":
        from ingestd.transport import aws  # an extra: only for those who want it

        region = aws.find_region(section.aws_region, profile=section.aws_profile)
        yield ok("sinks", f"{name} (lake): {section.url}, region {region}; writing there was not tried")
    elif parts.scheme in ("", "file"):
        yield _check_folder(name, Path(unquote(parts.path) if parts.scheme else section.url))
    else:
        yield fail("sinks", f"sinks.{name}.url: expected a folder, file:///folder or s3://bucket/prefix")


def _check_folder(name: str, folder: Path) -> Finding:
    """Writes a probe and takes it away again; makes no folder."""
    existing = Path(os.path.abspath(folder))
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(b"\0")
    except OSError as error:
        return fail("sinks", f"{name} (lake): cannot write in {existing}: {error.strerror}")
    made = "can be written" if existing == Path(os.path.abspath(folder)) else "can be made"
    return ok("sinks", f"{name} (lake): {folder} {made}")


def _with_sink(name: str, text: str) -> str:
    return text if f"sinks.{name}" in text else f"sinks.{name}: {text}"
