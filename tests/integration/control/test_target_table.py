"""Tables ``[target.NAME]``: what is taken, what is refused, in words that tell no value."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.control.target.target import Target
from ingestd.core.errors import UserError
from tests.each import each
from tests.integration.control.target_support import BASIC, parse, table

SECRET = "s3cr3t-that-must-not-show"
OAUTH2 = {
    "type": "OAUTH2",
    "token_url": "https://login.example.com/token",
    "client_id": "relay",
    "client_secret": "env:CLIENT_SECRET",
    "scope": "events",
}
JWT = {"type": "JWT", "issuer": "ingestd", "audience": "gateway", "key": "file:/run/secrets/key"}


def refusal(**changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        parse(**changes)
    words = str(caught.value)
    assert words.startswith("target orders: ")
    assert "\n" not in words
    return words


def test_the_seeds_example_becomes_canonical_fields() -> None:
    wanted = parse(protected=True, after=["integration.bus"])
    assert wanted.key == wanted.name == "orders"
    assert wanted.protected
    assert wanted.after == {("integration", "bus")}
    assert wanted.fields == {
        "name": "orders",
        "endpoint_url": "https://api.gateway.example.com/v1/genesys/events",
        "auth": {"type": "BASIC"},
        "retry": {"max_retries": 5, "strategy": "EXPONENTIAL", "delay": 2},
        "headers": {"x-source-system": "GenesysCloud"},
        "event_types": ["CONVERSATION_STARTED", "QUEUE_MEMBER_ADDED"],
    }


def test_tables_that_mean_the_same_are_equal() -> None:
    other = parse(
        endpoint_url="HTTPS://API.gateway.Example.com:443/v1/genesys/events",
        retry={},
        headers={"x-source-system": "GenesysCloud"},
        event_types=["CONVERSATION_STARTED", "QUEUE_MEMBER_ADDED", "CONVERSATION_STARTED"],
        name="orders",
        auth=BASIC | {"type": "basic"},
    )
    assert other == parse()


@each(
    ("changes", "field"),
    [
        ({"endpoint_url": 5}, "endpoint_url: "),  # fault 9: AttributeError in the seed
        ({"endpoint_url": None}, "endpoint_url: "),
        ({"endpoint_url": "http://example.com/events"}, "endpoint_url: it must begin with https://"),
        ({"endpoint_url": f"https://me:{SECRET}@example.com/"}, "endpoint_url: it has a user"),
        ({"endpoint_url": f"https://example.com/?token={SECRET}"}, "endpoint_url: there is a secret in it"),
        ({"endpoint_url": "https://169.254.169.254/latest"}, "endpoint_url: 169.254.169.254 is a metadata"),
        ({"endpoint_url": "https://0x7f000001/"}, "endpoint_url: "),
        ({"endpoint_url": "https://example.com/\n"}, "endpoint_url: "),
        ({"endpoint_url": "https://example.com/" + 3000 * "x"}, "endpoint_url: "),
        ({"endpoint_url": "https://example.com/#part"}, "endpoint_url: a fragment"),
        ({"name": ""}, "name: "),
        ({"name": 101 * "x"}, "name: "),
        ({"name": "orders\n"}, "name: "),
        ({"retry": {"max_retries": 11}}, "retry.max_retries: "),
        ({"retry": {"max_retries": -1}}, "retry.max_retries: "),
        ({"retry": {"max_retries": True}}, "retry.max_retries: "),
        ({"retry": {"max_retries": "5"}}, "retry.max_retries: "),
        ({"retry": {"strategy": "RANDOM"}}, "retry.strategy: "),
        ({"retry": {"delay": 0}}, "retry.delay: "),
        ({"retry": {"delay": "31s"}}, "retry.delay: "),
        ({"retry": {"delay": 1.5}}, "retry.delay: "),
        ({"retry": {"delay": True}}, "retry.delay: "),
        ({"retry": {"delay": SECRET}}, "retry.delay: "),
        ({"retry": {"delays": 2}}, "retry.delays: no such field"),
        ({"event_types": []}, "event_types: "),
        ({"event_types": [""]}, "event_types.0: "),
        ({"event_types": ["QUEUE ADDED"]}, "event_types.0: "),
        ({"event_types": ["ADDED\n"]}, "event_types.0: "),
        ({"event_types": "ADDED"}, "event_types: "),
        ({"event_types": [f"T{number}" for number in range(1001)]}, "event_types: "),
        ({"headers": {"x": 5}}, "headers.x: "),
        ({"headers": {"Host": "example.com"}}, "headers.Host: not a header that can be set"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "headers.Transfer-Encoding: "),
        ({"headers": {"x y": "1"}}, "headers.x y: "),
        ({"headers": {"x": "a\r\nb: c"}}, "headers.x: "),
        ({"headers": {"x": "1", "X": "2"}}, "twice"),
        ({"headers": {"Authorization": "env:TOKEN"}}, "headers.authorization: auth sets it already"),
        ({"headers": {"X-Api-Key": SECRET}}, "headers.X-Api-Key: give a reference"),  # fault 10
        ({"headers": {"X-Note": f"Bearer {SECRET}"}}, "headers.X-Note: give a reference"),
        ({"headers": {"X-Note": "env:NOTE"}}, "headers.X-Note: a reference is for headers"),
        ({"headers": {f"x-{number}": "1" for number in range(51)}}, "headers: "),
        ({"auth": {"type": SECRET}}, "auth: type NONE, BASIC, OAUTH2 or JWT expected"),
        ({"auth": {}}, "auth: type NONE, BASIC, OAUTH2 or JWT expected"),
        ({"auth": "BASIC"}, "auth: "),
        ({"auth": BASIC | {"password": SECRET}}, "auth.password: "),  # fault 10
        ({"auth": {"type": "BASIC", "password": SECRET}}, "auth.username: required"),
        ({"auth": BASIC | {"password": 12345}}, "auth.password: "),
        ({"auth": BASIC | {"username": ""}}, "auth.username"),
        ({"auth": {"type": "NONE", "password": SECRET}}, "auth.password: no such field"),  # fault 11
        ({"auth": {"type": "JWT"}}, "auth.issuer: required"),  # fault 11
        ({"auth": JWT | {"key": SECRET}}, "auth.key: "),
        ({"auth": JWT | {"username": "x"}}, "auth.username: no such field"),
        ({"auth": OAUTH2 | {"token_url": "http://login.example.com/"}}, "auth.token_url: it must begin"),
        ({"auth": {**OAUTH2, "client_secret": None}}, "auth.client_secret: "),
        ({"webhook": {"url": "https://example.com/hook"}}, "webhook.secret: required"),  # fault 18
        ({"webhook": {"url": "http://example.com/hook", "secret": "env:HOOK"}}, "webhook.url: "),
        ({"endpoint": "https://example.com/"}, "did you mean endpoint_url?"),
    ],
)
def test_what_is_wrong_is_named_and_no_value_is_told(changes: dict[str, Any], field: str) -> None:
    words = refusal(**changes)
    assert field in words
    assert SECRET not in words


@each(
    ("auth", "secrets"),
    [
        ({"type": "NONE"}, {}),
        (BASIC, {"auth.password": "env:PASSWORD"}),
        (OAUTH2, {"auth.client_secret": "env:CLIENT_SECRET"}),
        (JWT, {"auth.key": "file:/run/secrets/key"}),
    ],
)
def test_each_kind_of_login_takes_exactly_its_fields(auth: dict[str, str], secrets: dict[str, str]) -> None:
    wanted = parse(auth=auth)
    assert wanted.fields["auth"] == {"type": auth["type"]}
    assert {path: ref.text for path, ref in wanted.secrets.items() if path != "auth"} == secrets
    stated = {name: value for name, value in auth.items() if name != "type" and f"auth.{name}" not in secrets}
    assert json.loads(wanted.secrets["auth"].read() if stated else "{}") == stated


def test_a_changed_user_name_shows_where_only_hashes_are_compared() -> None:
    """Fault 17: the API gives nothing of authConfig back, so these go the way of secrets."""
    one, other = parse(), parse(auth=BASIC | {"username": "somebody-else"})
    assert one.fields == other.fields
    assert one.secrets["auth"].read() != other.secrets["auth"].read()
    assert parse(auth=BASIC | {"username": "env:USER_NAME"}).secrets["auth.username"].text == "env:USER_NAME"


def test_a_header_by_reference_is_a_secret_and_its_place_is_compared() -> None:
    wanted = parse(headers={"X-Api-Key": "env:API_KEY", "X-Author": "me"})
    assert wanted.fields["headers"] == {"x-api-key": "***", "x-author": "me"}
    assert wanted.secrets["headers.x-api-key"].text == "env:API_KEY"


words = st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*table(), "name", "webhook", "protected", "after"]) | words, values))
def test_any_table_is_taken_or_refused_in_one_line(changes: dict[str, Any]) -> None:
    said = ""
    try:
        Target().parse("orders", table(**changes))
    except UserError as error:
        said = str(error)
    assert said.isprintable()
