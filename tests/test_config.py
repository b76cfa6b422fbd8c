"""Settings: four places in one order, cross-checks, suggestions, secrets."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from ingestd.config import Api, Settings, State, load, resolve_login, state_directory
from ingestd.core.errors import UserError

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


def test_each_place_goes_before_the_next(tmp_path: Path) -> None:
    file = write(tmp_path, '[batch]\nmax_events = 1\nmax_bytes = "1kB"\n[window]\nmax_age = "5m"\n')
    environment = {"INGESTD_BATCH_MAX_EVENTS": "2", "INGESTD_BATCH_MAX_BYTES": "2kB"}
    settings = load(file, {("batch", "max_events"): "3", ("batch", "max_bytes"): None}, environment)
    assert (settings.batch.max_events, settings.batch.max_bytes, settings.window.max_age) == (3, 2_000, 300.0)


def settable() -> list[tuple[str, str]]:
    return [
        (info.alias or name, field)
        for name, info in Settings.model_fields.items()
        for field in info.annotation.model_fields  # type: ignore[union-attr]
    ]


@pytest.mark.parametrize(("section", "field"), settable())
def test_every_setting_can_come_from_the_environment(section: str, field: str) -> None:
    """Text is taken as it is; where something else is wanted, it is refused by the setting's name."""
    environment = {f"INGESTD_{section}_{field}".upper(): "\x00 none"}
    default = Settings().model_dump(by_alias=True)[section][field]
    if isinstance(default, str | SecretStr):
        value = load(None, {}, environment).model_dump(by_alias=True)[section][field]
        assert getattr(value, "get_secret_value", lambda: value)() == "\x00 none"
    else:
        with pytest.raises(UserError, match=rf"{section}\.{field}: "):
            load(None, {}, environment)


def test_the_nearer_of_url_and_region_wins(tmp_path: Path) -> None:
    file = write(tmp_path, '[api]\nregion = "us-east-1"\n')
    settings = load(file, {("api", "url"): "https://here"}, {})
    assert (settings.api.url, settings.api.region) == ("https://here", "")
    settings = load(file, {}, {"GENESYS_REGION": "eu-west-2"})
    assert settings.api.region == "eu-west-2"
    with pytest.raises(UserError, match="say the same thing"):
        load(write(tmp_path, '[api]\nregion = "us-east-1"\nurl = "https://x"\n'), {}, {})


@pytest.mark.parametrize("name", ["GENESYS_REGION", "GENESYS_ENV", "GENESYS_ORG_HOST"])
def test_the_names_of_the_vendor_give_the_region(name: str) -> None:
    login = resolve_login(load(None, {}, {name: "mypurecloud.de"}).api.model_copy(update={"no_auth": True}))
    assert login.api == "https://api.mypurecloud.de"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[delivery]\nmax_inflight = 3",
            "there is no setting delivery.max_inflight; did you mean max_in_flight?",
        ),
        ("[deliver]\nmax_in_flight = 3", "there is no setting deliver; did you mean delivery?"),
        ("[schemata]", "there is no setting schemata; did you mean schema?"),
        ("[audit]\nqqq = 1", "there is no setting audit.qqq; there are: file, max_bytes, keep"),
        ("[delivery]\nbackoff_base = '10s'\nbackoff_cap = '1s'", "backoff_base is longer than"),
        ("[batch]\nmax_bytes = -1", "batch.max_bytes"),
        ("[batch]\nmax_bytes = true", "batch.max_bytes"),
        ("[window]\nmax_age = 'nan'", "window.max_age: 'nan' is not a duration"),
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


def test_a_table_that_is_none_is_said_also_where_the_environment_adds_to_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\[batch\] must be a table"):
        load(write(tmp_path, "batch = 3"), {}, {"INGESTD_BATCH_MAX_EVENTS": "2"})


@given(st.dictionaries(st.sampled_from(settable()), st.text(max_size=12), max_size=4))
def test_no_text_from_outside_comes_to_anything_but_settings_or_a_user_error(
    given: dict[tuple[str, str], str],
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


@pytest.mark.parametrize(
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
    assert resolve_login(Api(**api, **LOGIN)).token_url == token_url


def test_each_api_has_a_state_directory_of_its_own() -> None:
    environment = {"XDG_STATE_HOME": "/x"}
    apis = [
        "https://api.mypurecloud.de",
        "https://api.mypurecloud.de/",
        "http://127.0.0.1:80",
        "http://h/a/b",
    ]
    found = [state_directory(State(), api, environment) for api in apis]
    assert found[0] == found[1] == Path("/x/ingestd/api.mypurecloud.de")
    assert len(set(found)) == 3
    assert {path.parent for path in found} == {Path("/x/ingestd")}
    assert state_directory(State(dir="here"), apis[0], environment) == Path("here")
