"""Settings: four places in one order, cross-checks, suggestions, secrets."""

import contextlib
import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from ingestd.config import (
    ApiConfig,
    Login,
    Settings,
    StateConfig,
    check_run,
    doubts,
    load,
    load_with_origins,
    resolve_login,
    state_directory,
)
from ingestd.config.ingest_section import SOURCES
from ingestd.config.loading import unknown_variables
from ingestd.config.settings import json_schema
from ingestd.config.show import as_json, as_toml
from ingestd.core.errors import UserError
from ingestd.core.section import Section
from ingestd.core.setting_types import SecretStr
from ingestd.sources.nats.settings import NatsLogin
from tests.each import each

LOGIN: dict[str, Any] = {"client_id": "me", "client_secret": "shh"}


def write(path: Path, text: str) -> str:
    file = path / "c.toml"
    file.write_text(text)
    return str(file)


def test_without_anything_every_setting_has_its_default() -> None:
    settings = load(None, {}, {})
    assert settings == Settings()
    assert (settings.batch.max_bytes, settings.batch.max_events) == (500_000, 5_000)
    assert settings.delivery.max_in_flight == 5
    assert (settings.window.max_age, settings.delivery.give_up_after) == (600.0, 900.0)
    assert settings.metrics.port is None


@each(("given", "size_bytes"), [("0", 0), ("8MiB", 8 * 1024**2), ("1GB", 10**9)])
def test_there_is_no_ballast_or_one_that_is_of_use(given: str, size_bytes: int) -> None:
    assert load(None, {}, {"INGESTD_SPOOL_BALLAST": given}).spool.ballast == size_bytes
    with pytest.raises(UserError, match="too few to drain a full disk"):
        load(None, {}, {"INGESTD_SPOOL_BALLAST": "4MiB"})


def test_each_place_goes_before_the_next(tmp_path: Path) -> None:
    file = write(tmp_path, '[batch]\nmax_events = 1\nmax_bytes = "1kB"\n[window]\nmax_age = "5m"\n')
    environment = {"INGESTD_BATCH_MAX_EVENTS": "2", "INGESTD_BATCH_MAX_BYTES": "2kB"}
    settings = load(file, {("batch", "max_events"): "3", ("batch", "max_bytes"): None}, environment)
    assert (settings.batch.max_events, settings.batch.max_bytes, settings.window.max_age) == (3, 2_000, 300.0)


def settable(model: type[Section] = Settings, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every setting that is one value; producers and sinks, tables by name, come from the file alone."""
    found: list[tuple[str, ...]] = []
    for name, info in model.model_fields.items():
        place = (*above, info.alias or name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            found += settable(info.annotation, place)
        elif place not in {
            *(("ingest", kind) for kind in (*SOURCES, "producers", "unwrap_fields")),
            ("source", "unwrap_fields"),
            ("admin", "tokens"),
            ("sinks",),
            *(("spool", name) for name in NatsLogin.model_fields),  # they go together, or are lists of URLs
        } and place not in (("transforms",), ("tests",)):  # lists of tables
            found.append(place)
    return found


CLOSED = {("ingest", "listen"), ("admin", "listen"), ("log", "format"), ("log", "level")} | {
    ("source", "max_rejected"),
    ("source", "format"),
    ("source", "delimiter"),
    ("spool", "kind"),
    ("spool", "name"),
}


@each("place", settable(), ids=".".join)
def test_every_setting_can_come_from_the_environment(place: tuple[str, ...]) -> None:
    """Text is taken as it is; where something else is wanted, it is refused by the setting's name."""
    pair = {"INGESTD_INGEST_TLS_CERT_FILE": "c", "INGESTD_INGEST_TLS_KEY_FILE": "k"}
    variable = "_".join(("ingestd", *place)).upper()
    environment = (pair if "tls" in place else {}) | {variable: "\x00 none"}

    def pick(settings: Settings) -> Any:
        tree: Any = settings.model_dump(by_alias=True)
        for part in place:
            tree = tree[part]
        return tree.get_secret_value() if isinstance(tree, SecretStr) else tree

    default = pick(Settings())
    if isinstance(default, str) and place not in CLOSED:
        assert pick(load(None, {}, environment)) == "\x00 none"
    elif isinstance(default, list):
        assert pick(load(None, {}, {variable: "10.0.0.1, ::1,"})) == ["10.0.0.1", "::1"]
    else:
        with pytest.raises(UserError, match=rf"^{variable}: {'.'.join(place)}: "):
            load(None, {}, environment)


def test_the_nearer_of_url_and_region_wins(tmp_path: Path) -> None:
    file = write(tmp_path, '[api]\nregion = "us-east-1"\n')
    settings = load(file, {("api", "url"): "https://here"}, {})
    assert (settings.api.url, settings.api.region) == ("https://here", "")
    settings = load(file, {}, {"GENESYS_REGION": "eu-west-2"})
    assert settings.api.region == "eu-west-2"
    with pytest.raises(UserError, match=r"use either api\.url or api\.region"):
        load(write(tmp_path, '[api]\nregion = "us-east-1"\nurl = "https://x"\n'), {}, {})


@each("name", ["GENESYS_REGION", "GENESYS_ENV", "GENESYS_ORG_HOST"])
def test_the_names_of_the_vendor_give_the_region(name: str) -> None:
    login = resolve_login(load(None, {}, {name: "mypurecloud.de"}).api.model_copy(update={"no_auth": True}))
    assert login.api == "https://api.mypurecloud.de"


@each(
    ("text", "said"),
    [
        (
            "[delivery]\nmax_inflight = 3",
            "there is no setting delivery.max_inflight; did you mean max_in_flight?",
        ),
        ("[deliver]\nmax_in_flight = 3", "there is no setting deliver; did you mean delivery?"),
        ("[ingest]\nmax_depth = 64", "there is no setting ingest.max_depth: it is schema.max_depth now"),
        ("[schemata]", "there is no setting schemata; did you mean schema?"),
        ("[audit]\nqqq = 1", "there is no setting audit.qqq; there are: file, key_file, max_bytes, keep"),
        ("[delivery]\nbackoff_base = '10s'\nbackoff_cap = '1s'", "backoff_base is longer than"),
        ("[batch]\nmax_bytes = -1", "batch.max_bytes"),
        ("[batch]\nmax_bytes = true", "batch.max_bytes"),
        ("[spool]\nballast = '8MB'", "spool.ballast: 8000000 bytes are too few to drain a full disk"),
        ("[spool]\nballast = 1", "give at least 8MiB, or 0 for none"),
        ("[spool]\nballast = -1", "spool.ballast"),
        ("[window]\nmax_age = 'nan'", "window.max_age: 'nan' is not a duration"),
        ("[ingest.tls]\ncert = 'x'", "there is no setting ingest.tls.cert; did you mean cert_file?"),
        (
            "[ingest.producers.crm]\ntokn_file = 'x'",
            "there is no setting ingest.producers.crm.tokn_file; did you mean token_file?",
        ),
        (
            "[sinks.crm]\ntyp = 'webhook'\nurl = 'http://127.0.0.1:9/'",
            "sinks.crm: there is no setting typ; did you mean type? (there are: cloudevents, eventbridge,",
        ),
        ("[sinks.crm]\nurl = 'http://127.0.0.1:9/'", "sinks.crm.type: there are: cloudevents, eventbridge,"),
        ("[sinks.crm]\ntype = []", "sinks.crm.type: there are: cloudevents, eventbridge,"),
        ("[sinks.crm.type]", "sinks.crm.type: there are: cloudevents, eventbridge,"),
        ("[sinks.crm]\ntype = 'webhok'", "sinks.crm.type: did you mean webhook? there are: cloudevents,"),
        ("[ingest.producers.crm]\ntoken_file = 3", "ingest.producers.crm.token_file: expected"),
        ("[ingest.producers.'a;b']\ntoken_file = 'x'", "ingest.producers.a;b: String should match"),
        ("[ingest.producers.crm]", "ingest.producers.crm has no credentials: set token_file"),
        (
            "[ingest]\nlisten = '8080'",
            "ingest.listen: '8080' is not an address: write it like 127.0.0.1:8080",
        ),
        (
            "[ingest]\ntrusted_proxies = ['10.0.0.0/8', 'proxy']",
            "ingest.trusted_proxies.1: 'proxy' is neither an address nor a range: write it like 10.0.0.7 or",
        ),
        ("[ingest]\nlisten = 'h:1'\n[admin]\nlisten = '0.0.0.0:1'", "want the same port"),
        ("[ingest.tls]\ncert_file = 'x'", "ingest.tls.cert_file is given without ingest.tls.key_file"),
        ("[ingest.tls]\nkey_file = 'x'", "ingest.tls.key_file is given without ingest.tls.cert_file"),
        ("[ingest.tls]\nclient_ca_file = 'x'", "ingest.tls.client_ca_file needs ingest.tls.cert_file"),
        ("[batch]\nmax_events = 'x'", "batch.max_events: expected a whole number"),
        ("[log]\nlevel = 'loud'", "log.level: expected 'debug', 'info', 'warning' or 'error'"),
        ('"a\\nb" = 1', "there is no setting a\\nb"),
        ("x = " + "[" * 5000, "is not TOML"),
        ("x = '" + "y" * 2**20 + "'", "is over 1 MiB"),
        ("batch = 3", "batch"),
        ("[batch", "is not TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_by_name(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load(file, {}, {})
    assert said in str(caught.value)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistake_is_said_where_it_was_made(tmp_path: Path) -> None:
    file = write(tmp_path, "[batch]\nmax_events = 2\n")
    with pytest.raises(UserError, match=r"^INGESTD_BATCH_MAX_EVENTS: batch\.max_events: "):
        load(file, {}, {"INGESTD_BATCH_MAX_EVENTS": "none"})
    with pytest.raises(UserError, match=r"^batch\.max_events: "):
        load(file, {("batch", "max_events"): "none"}, {"INGESTD_BATCH_MAX_EVENTS": "3"})


def test_a_variable_that_looks_like_a_setting_and_is_none_is_found() -> None:
    environment = dict.fromkeys(
        (
            "INGESTD_BATCH_MAXBYTES",
            "INGESTD_INGEST_PRODUCERS",
            "INGESTD_PORT",
            "INGESTD_SERVICE_HOST",
            "HOME",
        ),
        "1",
    )
    assert unknown_variables(environment | {"INGESTD_BATCH_MAX_BYTES": "1"}) == [
        "INGESTD_BATCH_MAXBYTES sets nothing; did you mean INGESTD_BATCH_MAX_BYTES?",
        "INGESTD_INGEST_PRODUCERS sets nothing",
    ]


def test_a_table_that_is_none_is_said_also_where_the_environment_adds_to_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\[batch\] must be a table"):
        load(write(tmp_path, "batch = 3"), {}, {"INGESTD_BATCH_MAX_EVENTS": "2"})
    with pytest.raises(UserError, match=r"\[ingest\.tls\] must be a table"):
        load(write(tmp_path, "ingest.tls = 3"), {}, {"INGESTD_INGEST_TLS_CERT_FILE": "2"})


@given(
    st.dictionaries(
        st.sampled_from([place for place in settable() if len(place) == 2]), st.text(max_size=12), max_size=4
    )
)
def test_no_text_from_outside_comes_to_anything_but_settings_or_a_user_error(
    given: dict[Any, str],
) -> None:
    with contextlib.suppress(UserError):
        assert isinstance(load(None, given, {}), Settings)


def test_secrets_are_not_shown() -> None:
    settings = load(None, {}, {"GENESYS_CLIENT_ID": "me", "GENESYS_CLIENT_SECRET": "CANARY"})
    login = resolve_login(settings.api.model_copy(update={"region": "us-east-1"}))
    assert "CANARY" not in f"{settings!r} {settings.model_dump()} {login!r} {login}"
    assert login.client_secret.get_secret_value() == "CANARY"


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("me\n")
    (tmp_path / "secret").write_text(" shh\n")
    environment = {
        "GENESYS_CLIENT_ID_FILE": str(tmp_path / "id"),
        "GENESYS_CLIENT_SECRET_FILE": str(tmp_path / "secret"),
        "GENESYS_REGION": "us-east-1",
    }
    login = resolve_login(load(None, {}, environment).api)
    assert (login.client_id, login.client_secret.get_secret_value()) == ("me", "shh")
    assert login.token_url == "https://login.mypurecloud.com/oauth/token"
    (tmp_path / "secret").unlink()
    with pytest.raises(UserError, match="cannot read the client secret"):
        resolve_login(load(None, {}, environment).api)


@each(
    ("api", "token_url"),
    [
        ({"url": "https://api.example.com"}, "https://login.example.com/oauth/token"),
        ({"url": "https://x", "token_url": "https://y/token"}, "https://y/token"),
        ({"region": "eu-central-1"}, "https://login.mypurecloud.de/oauth/token"),
        ({"region": "eu-central-1", "token_url": "https://y/token"}, "https://y/token"),
        ({"url": "http://127.0.0.1:1", "no_auth": True}, None),
    ],
)
def test_the_login_host_follows_from_the_api(api: dict[str, Any], token_url: str | None) -> None:
    assert resolve_login(ApiConfig(**api, **LOGIN)).token_url == token_url


def test_each_api_has_a_state_directory_of_its_own() -> None:
    environment = {"XDG_STATE_HOME": "/x"}
    apis = [
        "https://api.mypurecloud.de",
        "https://api.mypurecloud.de/",
        "http://127.0.0.1:80",
        "http://h/a/b",
    ]
    found = [state_directory(Settings(), Login(api=api, token_url=None), environment) for api in apis]
    assert found[0] == found[1] == Path("/x/ingestd/api.mypurecloud.de")
    assert len(set(found)) == 3
    assert {path.parent for path in found} == {Path("/x/ingestd")}
    assert state_directory(Settings(state=StateConfig(dir="here")), None, environment) == Path("here")


# --- what run may not do, and what is doubtful ---

TOKEN = "[ingest.producers.crm]\ntoken = 'CANARY'\n"
CLIENT_CA = "[ingest.tls]\ncert_file = 'c'\nkey_file = 'k'\nclient_ca_file = 'a'\n"


@each("listen", ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "localhost:1"])
def test_anybody_may_post_on_loopback(tmp_path: Path, listen: str) -> None:
    check_run(load(write(tmp_path, f"[ingest]\nlisten = '{listen}'"), {}, {}))


@each("listen", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "host.example:1", "[::ffff:10.0.0.1]:1"])
def test_listening_to_others_wants_authentication(tmp_path: Path, listen: str) -> None:
    ingest = f"[ingest]\nlisten = '{listen}'\n"
    with pytest.raises(UserError) as caught:
        check_run(load(write(tmp_path, ingest), {}, {}))
    assert str(caught.value) == (
        f"ingest.listen {listen} is open to others: "
        "configure [ingest.producers.NAME], or allow_anonymous = true"
    )
    for instead in ("allow_anonymous = true", TOKEN, CLIENT_CA):
        check_run(load(write(tmp_path, ingest + instead), {}, {}))


def test_the_defaults_raise_no_doubt() -> None:
    assert doubts(load(None, {}, {})) == []


@each(
    ("text", "said"),
    [
        ("[batch]\nmax_bytes = '100kB'", "source.max_event_bytes (1048576) is over batch.max_bytes (100000)"),
        ("[delivery]\nrequest_timeout = '60s'", "delivery.request_timeout is longer than"),
        ("[spool]\nmax_bytes = '1MiB'", "spool.max_bytes (1048576) is under ingest.max_body (16777216)"),
    ],
)
def test_what_works_and_is_probably_not_meant_is_doubted(tmp_path: Path, text: str, said: str) -> None:
    (doubt,) = doubts(load(write(tmp_path, text), {}, {}))
    assert said in doubt


# --- showing settings ---


def test_every_value_shows_its_origin_and_no_secret(tmp_path: Path) -> None:
    file = write(tmp_path, "[batch]\nmax_events = 7\n[api]\nregion = 'us-east-1'\n" + TOKEN)
    environment = {"GENESYS_CLIENT_SECRET": "CANARY", "INGESTD_INGEST_TLS_CERT_FILE": "c"}
    environment["INGESTD_INGEST_TLS_KEY_FILE"] = "k"
    given = {("api", "url"): "https://me:CANARY@here", ("state", "dir"): None}
    shown = as_toml(*load_with_origins(file, given, environment))
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert f"max_events = 7 # file {file}" in lines
    assert 'cert_file = "c" # environment INGESTD_INGEST_TLS_CERT_FILE' in lines
    assert 'client_secret = "***" # environment GENESYS_CLIENT_SECRET' in lines
    assert 'url = "https://***@here" # command line' in lines
    assert 'region = "" # default' in lines
    assert f'token = "***" # file {file}' in lines
    assert 'webhook_secret = "" # default' in lines
    assert "[ingest.producers.crm]" in lines
    assert "# port is not set # default" in lines
    assert "CANARY" not in shown
    told = as_json(*load_with_origins(file, given, environment))
    assert told["settings"]["ingest"]["producers"]["crm"]["token"] == "***"
    assert told["origins"]["api.url"] == "command line"
    assert "CANARY" not in json.dumps(told)


NAMES = st.text("abc.@-_0", min_size=1, max_size=5)


@given(
    st.text(max_size=20),
    st.floats(0, 10**8),
    st.integers(1024, 10**15),
    st.dictionaries(NAMES, st.floats(0, 10**9), max_size=3),
    st.lists(st.text(max_size=10), max_size=3),
)
def test_what_is_shown_loads_again_as_the_same(
    text: str, duration_s: float, size_bytes: int, producers: dict[str, float], origins: list[str]
) -> None:
    tree = {
        "api": {"client_id": text},
        "window": {"max_age": duration_s},
        "source": {"max_event_bytes": size_bytes},
        "ingest": {
            "producers": {
                name: {"token_file": "t", "events_per_second": rate} for name, rate in producers.items()
            },
            "webhook_origins": origins,
        },
    }
    settings = Settings.model_validate(tree)
    assume("@" not in text)  # what looks like a password in a URL is masked
    assert Settings.model_validate(tomllib.loads(as_toml(settings, {}))) == settings


def test_the_schema_for_editors_describes_every_setting_and_takes_what_the_settings_take() -> None:
    schema = json_schema()
    for name, section in schema["$defs"].items():
        assert section["description"], name
        for field, property_ in section["properties"].items():
            assert "description" in property_ or "$ref" in property_, f"{name}.{field}"
    validator = jsonschema_rs.validator_for(schema)
    assert validator.is_valid(tomllib.loads(as_toml(Settings(), {})))
    assert validator.is_valid({"batch": {"max_bytes": "1MiB", "max_age": 0.5}, "window": {"max_age": "10m"}})
    assert validator.is_valid({"ingest": {"nats": {"stream": "S"}}})
    assert validator.is_valid({"ingest": {"nats": {"a": {"stream": "S"}}}})
    refused: list[dict[str, Any]] = [
        {"bath": {}},
        {"batch": {"max_bytes": "1 pound"}},
        {"batch": {"max_age": "soon"}},
        {"ingest": {"nats": {"streem": "S"}}},
        {"ingest": {"nats": {"a": {"streem": "S"}}}},
    ]
    for bad in refused:
        assert not validator.is_valid(bad), bad


# --- sinks ---

SINKS = """
[sinks.crm]
type = "webhook"
url = "https://hooks.example.com/api/v2/integrations/webhooks/CANARY-token/events"
when = '{"kind": ["order"]}'
max_age = "5s"
headers = {X-Api-Key = "CANARY-key"}
[sinks.partner]
type = "webhook"
url = "https://partner.example.com/CANARY-path"
secret_url = true
when = {kind = [{prefix = "or"}]}
[sinks.events]
type = "cloudevents"
on_status = {"404" = "retry"}
confirm = {url = "auto", timeout = "5m"}
auth = {type = "bearer", token = "CANARY-bearer"}
[sinks.files]
type = "lake"
url = "/var/lib/lake"
file_bytes = "64MiB"
"""


def test_sinks_are_shown_with_their_origin_and_without_what_is_secret(tmp_path: Path) -> None:
    (tmp_path / "i.toml").write_text(SINKS)
    settings, origins = load_with_origins(str(tmp_path / "i.toml"), {}, {})
    shown = as_toml(settings, origins)
    assert "CANARY" not in shown
    assert "CANARY" not in json.dumps(as_json(settings, origins))
    sinks = as_json(settings, origins)["settings"]["sinks"]
    assert sinks["crm"]["url"] == "https://hooks.example.com/***"
    assert sinks["partner"]["url"].endswith("/***")
    assert json.loads(sinks["crm"]["headers"]) == {"X-Api-Key": "***"}
    told = as_json(settings, origins)["origins"]
    assert told["sinks.partner.when"] == f"file {tmp_path / 'i.toml'}"
    assert (told["sinks.crm.body"], sinks["events"]["when"]) == ("default", "{}")
    with pytest.raises(ValidationError, match="holds the mask that `config show` prints"):
        Settings.model_validate(tomllib.loads(shown))
    again = Settings.model_validate(tomllib.loads(shown.replace("***", "real")))
    assert again.sinks["partner"].when == settings.sinks["partner"].when


@each(
    "setting",
    [
        'type = "cloudevents"\nconfirm.status = "a..b"',
        'type = "webhook"\nanswers.items = "errors[*]"',
        'type = "cloudevents"\nwrap.data = "$.rows[]"',
        'type = "eventbridge"\ndetail = "$..x"',
        'type = "lake"\ntime = "$[at]"',
    ],
)
def test_what_is_no_path_is_told_with_its_setting_and_a_hint(tmp_path: Path, setting: str) -> None:
    (tmp_path / "i.toml").write_text(f'[sinks.s]\nurl = "https://e.example/x"\n{setting}\n')
    name = setting.splitlines()[1].split(" ")[0]
    with pytest.raises(UserError, match=rf"i\.toml: sinks\.s\.{name}: .* is not a path: "):
        load_with_origins(str(tmp_path / "i.toml"), {}, {})


@each(
    ("setting", "told"),
    [
        ("""when = '{"detail":{"type":["order"]},"detail":{"amount":[1]}}'""", "'detail' stands twice"),
        ("""when = '{"a":[1],"a":[2]}'""", "'a' stands twice"),
        ("""when = '{"a":[{"prefix":"a","prefix":"b"}]}'""", "'prefix' stands twice"),
        ("""when = '{"x":{"y":{"z":[1]},"y":{"w":[2]}}}'""", "'y' stands twice"),
        (
            """when = '{"$or":[{"a":[1]},{"b":[2]}],"$or":[{"c":[1]},{"d":[2]}]}'""",
            "'$or' stands twice",
        ),
        ("""when = '{"a":[1],"\\u0061":[2]}'""", "'a' stands twice"),
        ("""when = '{"a":[NaN]}'""", "NaN is not a number"),
        ("""when = '{"a":[1]'""", "Expecting ',' delimiter"),
        ("""headers = '{"A":"CANARY","A":"CANARY"}'""", "'A' stands twice"),
        ("""on_status = '{"404":"retry","404":"permanent"}'""", "'404' stands twice"),
    ],
)
def test_a_name_twice_in_json_text_is_refused_as_toml_refuses_it(
    tmp_path: Path, setting: str, told: str
) -> None:
    (tmp_path / "i.toml").write_text(f'[sinks.s]\ntype = "webhook"\nurl = "https://e.example/x"\n{setting}\n')
    with pytest.raises(UserError) as error:
        load_with_origins(str(tmp_path / "i.toml"), {}, {})
    assert f"i.toml: sinks.s.{setting.split(' ')[0]}: " in str(error.value)
    assert told in str(error.value)
    assert "CANARY" not in str(error.value)


@each(
    ("old", "new"),
    [
        *(("taken", "accepted"), ("later", "retry"), ("too_big", "split")),
        *(("refused", "rejected"), ("forbidden", "paused"), ("dead", "permanent")),
    ],
)
@each("written", ['{{"404" = "{}"}}', '\'{{"404": "{}"}}\''], ids=["TOML", "JSON"])
def test_a_word_that_a_status_had_before_is_refused_with_the_one_it_has_now(
    tmp_path: Path, old: str, new: str, written: str
) -> None:
    file = tmp_path / "i.toml"
    for word in (old, new):
        file.write_text(f'[sinks.s]\ntype = "ingest_api"\non_status = {written.format(word)}\n')
        if word == new:
            load_with_origins(str(file), {}, {})
            continue
        with pytest.raises(UserError) as error:
            load_with_origins(str(file), {}, {})
        assert str(error.value).endswith(f"i.toml: sinks.s.on_status.404: '{old}' is called '{new}' now")


def test_the_schema_for_editors_knows_the_fields_of_each_type_of_sink() -> None:
    validator = jsonschema_rs.validator_for(json_schema())
    assert validator.is_valid(tomllib.loads(SINKS))
    assert validator.is_valid(tomllib.loads(as_toml(Settings.model_validate(tomllib.loads(SINKS)), {}))), (
        "what is shown is a configuration"
    )
    for refused in (
        "[sinks.a]\ntype = 'webhok'",
        "[sinks.a]\nurl = 'https://example.com'",
        "[sinks.a]\ntype = 'webhook'\nconfiguration_id = '1'",
        "[sinks.Uppercase]\ntype = 'webhook'",
        "[sinks.a]\ntype = 'webhook'\non_status = {'404' = 'latr'}",
        "[sinks.a]\ntype = 'lake'\nauth = {type = 'bearer'}",
    ):
        assert not validator.is_valid(tomllib.loads(refused)), refused


@each(
    ("text", "said"),
    [
        (
            "type = 'cloudevents'\nauth = {token_file = '/t'}",
            "auth.token_file is not used: auth.type = 'auto'",
        ),
        (
            "type = 'webhook'\nurl = 'https://e.com'\nmax_events = 9",
            "sinks.a.max_events is not used: one event",
        ),
        ("type = 'cloudevents'\nmax_events = 9", "sinks.a.max_events is not used"),
    ],
)
def test_what_a_sink_does_not_use_is_doubted(text: str, said: str) -> None:
    (doubt,) = doubts(Settings.model_validate(tomllib.loads(f"[sinks.a]\n{text}")))
    assert said in doubt
    assert doubts(Settings.model_validate(tomllib.loads(SINKS))) == []


def test_asking_what_became_of_an_event_needs_a_place_for_its_id(tmp_path: Path) -> None:
    path = tmp_path / "i.toml"
    path.write_text("[sinks.a]\ntype = 'cloudevents'\nconfirm = {url = 'https://example.com/events'}")
    with pytest.raises(UserError, match=r"sinks\.a\.confirm\.url: where does the event's id go"):
        load(str(path), {}, {})
