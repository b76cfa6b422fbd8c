"""What the settings say: login, producers, files of secrets, the schema and its keys. No network."""

import os
import stat
from collections.abc import Iterator, Mapping

from ingestd.app.checks.finding import Finding, fail, ok, warn
from ingestd.config import Login, Settings, check_run, doubts
from ingestd.config.genesys_regions import region_of
from ingestd.config.loading import Origins, SettingPlace, unknown_variables
from ingestd.config.secret_settings import sections_in
from ingestd.core.address import is_exposed, parse_listen
from ingestd.core.errors import UserError
from ingestd.core.section import Section
from ingestd.core.units import counted
from ingestd.schemas.key_doubts import key_of
from ingestd.schemas.load import load as load_schema
from ingestd.sinks.webhook import WebhookConfig
from ingestd.sources.http.auth import ProducerKeys
from ingestd.wiring.producer_keys import producer_keys

_SECRETS = {"client_secret", "token", "webhook_secret", "password", "secret"}
_MAX_LISTED = 10


def check_settings(settings: Settings, file: str | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Cross-checks beyond those without which settings do not load."""
    yield ok("configuration", f"{file} loads" if file else "no file: the defaults, and the environment")
    for text in (*doubts(settings), *unknown_variables(environ)):
        yield warn("configuration", text)
    try:
        check_run(settings)
    except UserError as error:
        yield fail("access", str(error))
        return
    if settings.ingest.producers:
        yield ok("access", f"producers configured: {len(settings.ingest.producers)}")
    elif settings.ingest.tls.client_ca_file:
        yield ok("access", "by client certificate")
    else:
        host, _ = parse_listen(settings.ingest.listen)
        yield ok("access", f"anybody who reaches {host} may post")


def check_login(login: Login) -> Iterator[Finding]:
    """The addresses to send to; that credentials do not travel in the open."""
    region = region_of(login.api)
    where = f"{login.api} (region {region})" if region else login.api
    if login.token_url is None:
        yield ok("login", f"{where}, without a token")
    elif region and (other := region_of(login.token_url)) not in ("", region):
        yield fail("login", f"{where} does not take a token from {login.token_url} (region {other}):"
                            " both have to be of one region, that of the organization")  # fmt: skip
    else:
        yield ok("login", f"{where}, token from {login.token_url}")
    if login.token_url and is_exposed(login.token_url):
        yield warn("login", f"the credentials go to {login.token_url} unencrypted: use https")
    if is_exposed(login.api):
        what = "events and their token" if login.token_url else "events"
        yield warn("login", f"{what} go to {login.api} unencrypted: use https")


def check_producers(settings: Settings) -> Iterator[Finding]:
    """Tokens and signing secrets can be read and used. Raises UserError."""
    keys = producer_keys(settings.ingest.producers)
    listed = [f"{name} ({', '.join(_describe_keys(one))})" for name, one in keys.items()]
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    if listed:
        yield ok("producers", f"{', '.join(listed[:_MAX_LISTED])}{more}")


def _describe_keys(keys: ProducerKeys) -> list[str]:
    counts = {
        "token": keys.tokens,
        "signing secret": keys.webhook_secrets,
        "password": keys.passwords,
        "API key": keys.api_keys,
        "client secret": keys.client_secrets,
    }
    return [counted(len(found), what) for what, found in counts.items() if found] or ["by certificate"]


def check_secret_files(settings: Settings, origins: Origins) -> Iterator[Finding]:
    """Files that hold secrets cannot be read by everybody. Whether we can read them, their users say."""
    secrets = [("api.client_secret_file", settings.api.client_secret_file)]
    secrets.append(("ingest.tls.key_file", settings.ingest.tls.key_file))
    for name, producer in settings.ingest.producers.items():
        secrets += [(f"ingest.producers.{name}.{field}", path) for field, path in _secret_files_of(producer)]
    for one in settings.transforms:
        secrets += [(f"transforms: {field}", path) for field, path in _secret_files_of(one)]
    for name, sink in settings.sinks.items():
        secrets += [(f"sinks.{name}.{setting}", path) for setting, path in _secret_files_of(sink)]
    for place, origin in origins.items():
        if _is_secret(place, settings) and origin.kind == "file":
            secrets.append((".".join(place), origin.name))
    there = [(setting, path) for setting, path in secrets if path and os.path.isfile(path)]
    open_to_all = [(setting, path) for setting, path in there if os.stat(path).st_mode & stat.S_IROTH]
    for setting, path in open_to_all:
        yield warn("secret files", f"everybody on this machine can read {path} ({setting}): chmod o-r it")
    if there and not open_to_all:
        yield ok("secret files", "not to be read by everybody")


def _secret_files_of(section: Section) -> Iterator[tuple[str, str]]:
    """(setting, path): every field of a sink whose name ends so names a file of secrets."""
    for field in type(section).model_fields:
        value = getattr(section, field)
        if isinstance(value, Section):
            yield from ((f"{field}.{inner}", path) for inner, path in _secret_files_of(value))
        elif isinstance(value, list):
            for one in sections_in(value):
                yield from ((f"{field}: {inner}", path) for inner, path in _secret_files_of(one))
        elif field.endswith("_file"):
            yield field, value


def _is_secret(place: SettingPlace, settings: Settings) -> bool:
    if place[0] == "sinks" and len(place) > 2:
        sink = settings.sinks.get(place[1])
        if place[2] == "headers" or (
            isinstance(sink, WebhookConfig) and place[2] == "url" and sink.is_secret
        ):
            return True
    return place[-1] in _SECRETS


def check_key(setting: str, paths: str, schema: str, *, check: str = "keys") -> Finding:
    """The paths of a key are paths, and events of the schema can have what they name."""
    doubts_: list[str] = []
    try:
        key_of(setting, paths, schema, warn=doubts_.append)
    except UserError as error:
        return fail(check, str(error))
    return warn(check, "; ".join(doubts_)) if doubts_ else ok(check, f"{setting} {paths}")


def check_schema(settings: Settings) -> Iterator[Finding]:
    """The schema loads; the paths of keys are paths."""
    name = settings.schema_.name
    schema = load_schema(name, format_assertion=settings.schema_.format_assertion)
    yield ok("schema", f"{name} loads")
    for setting, paths in (
        ("schema.dedup_key", settings.schema_.dedup_key),
        ("delivery.order_by", settings.delivery.order_by),
    ):
        if paths:
            yield check_key(setting, paths, name)
    if not settings.schema_.dedup_key and schema.default_key:
        yield ok("keys", f"the schema's own: {','.join(schema.default_key)}")
    elif not settings.schema_.dedup_key:
        yield warn("keys", f"{name} has no key of its own: without schema.dedup_key nothing is a duplicate")
