"""What API destinations of EventBridge do: Basic, a key in a header, OAuth client credentials, envelopes."""

import base64
import json
from typing import Any
from urllib.parse import urlencode

from ingestd.core.unwrap import UnwrapSection
from ingestd.sources.http.access_tokens import TOKEN_PATH
from ingestd.sources.http.auth import Authenticator, ProducerKeys
from tests.each import each
from tests.integration.sources.http.support import EVENT, JSON, Scene, content, header

PASSWORD, KEY = "a-password:with a colon", "key-of-the-shop-0123456789"
UMLAUT = "p\u00e4ssword-of-the-bridge"
SECRET, OLD = "client/secret+of=the~org", "the-one-before-it-0123456789"
PRODUCERS = {
    "basic": ProducerKeys(username="bridge", passwords=(PASSWORD, OLD)),
    "umlaut": ProducerKeys(username="br\u00fccke", passwords=(UMLAUT,)),
    "key": ProducerKeys(api_key_header="X-Shop-Key", api_keys=(KEY,)),
    "oauth": ProducerKeys(client_id="client-1", client_secrets=(SECRET, OLD)),
}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def basic(name: str, password: str, *, charset: str = "utf-8") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode(charset)).decode()}


def posted_by(scene: Scene, headers: dict[str, str], **more: Any) -> str | int:
    """The producer, or the status of the refusal."""
    count = len(scene.desk.submissions)
    status = scene.status(EVENT, JSON | headers, **more)
    return scene.desk.submissions[-1].producer if len(scene.desk.submissions) > count else status


def token_of(scene: Scene, body: dict[str, str] | bytes, headers: dict[str, str] = FORM) -> Any:
    text = body if isinstance(body, bytes) else urlencode(body).encode()
    return scene.send(text, headers, target=TOKEN_PATH)


@each(
    "headers, who",
    [
        (basic("bridge", PASSWORD), "basic"),
        (basic("bridge", OLD), "basic"),
        (basic("bridge", PASSWORD[:-1]), 401),
        (basic("br\u00fccke", UMLAUT), "umlaut"),
        (basic("br\u00fccke", UMLAUT, charset="latin-1"), "umlaut"),  # as requests and authlib send a text
        (basic("br\u00fccke", "password-of-the-bridge", charset="latin-1"), 401),
        (basic("client-1", SECRET), 401),
        ({"authorization": "Basic !!"}, 401),
        ({"authorization": "Basic " + base64.b64encode(b"no colon").decode()}, 401),
        ({"x-shop-key": KEY}, "key"),
        ({"x-shop-key": KEY + "x"}, 401),
        ({"x-shop-key": f"{KEY}, {KEY}"}, 401),
        ({"x-api-key": KEY}, 401),
        ({"authorization": f"Bearer {KEY}"}, 401),
        ({"authorization": f"Bearer {SECRET}"}, 401),
        ({}, 401),
    ],
)
def test_a_producer_is_known_by_a_password_or_a_key(headers: dict[str, str], who: str | int) -> None:
    assert posted_by(Scene(PRODUCERS), headers) == who


def test_a_refused_password_is_told_how_to_log_in() -> None:
    answer = Scene(PRODUCERS).send(EVENT, JSON | basic("bridge", "wrong"))
    assert (
        header(answer, "WWW-Authenticate") == 'Basic realm="ingestd", charset="UTF-8", Bearer realm="ingestd"'
    )


@each(
    "body, headers",
    [
        ({"grant_type": "client_credentials", "client_id": "client-1", "client_secret": SECRET}, {}),
        ({"grant_type": "client_credentials", "client_id": "client-1", "client_secret": OLD}, {}),
        ({"grant_type": "client_credentials", "scope": "x"}, basic("client-1", SECRET)),
        (
            {"grant_type": "client_credentials"},
            basic("client-1", SECRET.replace("+", "%2B").replace("/", "%2F")),
        ),
    ],
)
def test_client_credentials_give_a_token_that_is_good_for_an_hour(
    body: dict[str, str], headers: dict[str, str]
) -> None:
    scene = Scene(PRODUCERS)
    for as_json in (False, True):
        sent = json.dumps(body).encode() if as_json else urlencode(body).encode()
        answer = token_of(scene, sent, (JSON if as_json else FORM) | headers)
        assert answer.status == 200
        assert header(answer, "Cache-Control") == "no-store"
        told = content(answer)
        assert (told["token_type"], told["expires_in"]) == ("Bearer", 3600)
        bearer = {"authorization": f"Bearer {told['access_token']}"}
        assert posted_by(scene, bearer) == "oauth"
        restarted = Authenticator(PRODUCERS, clock=scene.clock)
        assert restarted.tokens.producer_of(told["access_token"].encode()) == "oauth"
        assert all(secret not in told["access_token"] for secret in (SECRET, OLD))
        scene.clock.move(3599)
        assert posted_by(scene, bearer) == "oauth"
        scene.clock.move(1)
        assert posted_by(scene, bearer) == 401


def test_no_token_but_ours_is_taken() -> None:
    scene = Scene(PRODUCERS)
    form = {"grant_type": "client_credentials", "client_id": "client-1", "client_secret": SECRET}
    good = content(token_of(scene, form))["access_token"]
    prefix, name, until, signature = good.split(".")
    other = base64.urlsafe_b64encode(b"client-2").decode().rstrip("=")
    for forged in (
        f"{prefix}.{name}.{int(until) + 1}.{signature}",
        f"{prefix}.{other}.{until}.{signature}",
        f"{prefix}.{name}.{until}.",
        f"{prefix}.{name}.{until}",
        f"{prefix}.{name}.{'9' * 5000}.{signature}",
        f"{prefix}.{name}.²{until[1:]}.{signature}",
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        good + "A",
    ):
        assert scene.endpoint.authenticator.tokens.producer_of(forged.encode("latin-1")) is None
    rotated = {"oauth": ProducerKeys(client_id="client-1", client_secrets=(OLD,))}
    scene.endpoint.authenticator = Authenticator(rotated, clock=scene.clock)
    assert posted_by(scene, {"authorization": f"Bearer {good}"}) == 401, "its secret was taken away"


@each(
    "body, headers, status, error",
    [
        (b"client_id=client-1&client_secret=x", FORM, 400, "unsupported_grant_type"),
        (b"grant_type=password&client_id=client-1", FORM, 400, "unsupported_grant_type"),
        (b"grant_type=client_credentials&client_id=client-1&client_secret=x", FORM, 401, "invalid_client"),
        (b"grant_type=client_credentials&client_id=nobody&client_secret=x", FORM, 401, "invalid_client"),
        (b"grant_type=client_credentials", FORM, 401, "invalid_client"),
        (b"grant_type=client_credentials&client_secret=x", FORM | basic("a", "b"), 400, "invalid_request"),
        (b"grant_type=client_credentials&grant_type=x", FORM, 400, "invalid_request"),
        (b"&".join(b"%d=1" % n for n in range(50)), FORM, 400, "invalid_request"),
        (b"\xff", FORM, 400, "invalid_request|unsupported_grant_type"),
        (b'{"grant_type":1}', JSON, 400, "invalid_request"),
        (b"[" * 5000, JSON, 400, "invalid_request"),
        (b"grant_type=client_credentials", {"content-type": "text/plain"}, 400, "invalid_request"),
    ],
)
def test_who_gets_no_token_is_told_why(body: bytes, headers: dict[str, str], status: int, error: str) -> None:
    answer = token_of(Scene(PRODUCERS), body, headers)
    assert (answer.status, content(answer)["error"] in error.split("|")) == (status, True)
    assert (header(answer, "WWW-Authenticate") is not None) == (status == 401)


def test_the_endpoint_for_tokens_is_bounded_and_only_there_where_it_is_configured() -> None:
    scene = Scene(PRODUCERS)
    assert scene.status(b"x" * 9000, FORM, target=TOKEN_PATH) == 413
    unknown = FORM | {"transfer-encoding": "chunked"}
    assert (
        content(scene.send(b"x" * 9000, unknown, target=TOKEN_PATH, length=False))["error"]
        == "invalid_request"
    )
    assert scene.status(b"x", FORM | {"content-encoding": "gzip"}, target=TOKEN_PATH) == 415
    assert scene.status(b"", FORM, target=TOKEN_PATH, method="GET") == 405
    assert Scene({"key": PRODUCERS["key"]}).status(b"", FORM, target=TOKEN_PATH) == 404


def test_who_tries_many_secrets_has_to_wait_and_nobody_else() -> None:
    scene = Scene(PRODUCERS)
    form = {"grant_type": "client_credentials", "client_id": "client-1"}
    wrong, right = form | {"client_secret": "wrong"}, form | {"client_secret": SECRET}
    assert [token_of(scene, wrong).status for _ in range(12)] == [401] * 10 + [429] * 2
    held = token_of(scene, right)
    assert (held.status, header(held, "Retry-After")) == (429, "6")
    assert posted_by(scene, basic("bridge", PASSWORD)) == "basic"
    scene.clock.move(6)
    assert token_of(scene, right).status == 200
    tried = [posted_by(scene, basic("bridge", "wrong")) for _ in range(11)]
    assert tried == [401] * 10 + [429]
    assert posted_by(scene, basic("bridge", PASSWORD)) == 429
    scene.endpoint.authenticator = Authenticator(
        PRODUCERS, clock=scene.clock, attempts=scene.endpoint.authenticator.attempts
    )
    assert posted_by(scene, basic("bridge", PASSWORD)) == 429, "a reload forgets nothing"


def test_events_come_out_of_their_envelopes_by_the_setting_of_their_producer_or_of_all() -> None:
    mine = UnwrapSection(unwrap="detail", unwrap_fields={"id": "id"}).unwrapper
    all_ = UnwrapSection(unwrap="Message").unwrapper
    scene = Scene(
        {"a": ProducerKeys(tokens=(KEY,), unwrap=mine), "b": ProducerKeys(tokens=(OLD,))}, unwrap=all_
    )
    rule = b'{"version":"0","id":"e-7","detail-type":"x","source":"s","detail":{"n": 1}}'
    batch = b"[" + rule + b',{"version":"0"},' + rule + b"]"
    scene.send(batch, JSON | {"authorization": f"Bearer {KEY}"})
    scene.send(b'{"Message":"{\\"n\\":2}"}', JSON | {"authorization": f"Bearer {OLD}"})
    first, second = scene.desk.submissions
    assert first.events == [b'{"id":"e-7","n": 1}', b'{"version":"0"}', b'{"id":"e-7","n": 1}']
    assert list(first.unreadable) == [1]
    assert "nothing is at detail" in first.unreadable[1]
    assert first.size_bytes == sum(map(len, first.events))
    assert (second.events, second.unreadable) == ([b'{"n":2}'], {})


def test_of_a_list_in_an_envelope_each_element_is_an_event() -> None:
    unwrap = UnwrapSection(unwrap="order.items", unwrap_fields={"order": "order.id"}).unwrapper
    scene = Scene({"a": ProducerKeys(tokens=(KEY,), unwrap=unwrap)}, max_events=3000)
    login = JSON | {"authorization": f"Bearer {KEY}"}
    bodies = [
        b'[{"order":{"id":7,"items":[{"n":1}, {"order":2}, 3]}},{"order":{}}]',
        b'{"order":{"items":[]}}',
        b'{"order":{"items":[%b]}}' % b",".join([b"1"] * 3001),
        b'{"order":{"id":"%b","items":[%b]}}' % (b"x" * 10_000, b",".join([b"{}"] * 2000)),
    ]
    statuses = [answer.status for body in bodies if (answer := scene.send(body, login))]
    first, *others = scene.desk.submissions
    assert first.events == [b'{"order":7,"n":1}', b'{"order":2}', b"3", b'{"order":{}}']
    assert list(first.unreadable) == [3]
    assert statuses == [422, 202, 413, 422]
    assert [one.unreadable[0] for one in others] == ["unwrap_fields would make 2000 events too long together"]


def test_a_list_on_the_way_is_gone_through_as_otlp_has_three() -> None:
    unwrap = UnwrapSection(
        unwrap="resourceLogs.scopeLogs.logRecords.body.stringValue",
        unwrap_fields={"env": "resourceLogs.0.env"},
    ).unwrapper
    scene = Scene({"a": ProducerKeys(tokens=(KEY,), unwrap=unwrap)}, max_events=5)
    login = JSON | {"authorization": f"Bearer {KEY}"}

    def scopes(*texts: str) -> dict[str, Any]:
        records = [{"body": {"stringValue": text}} if text else {"body": {"intValue": "1"}} for text in texts]
        return {"scopeLogs": [{"logRecords": records}, {"logRecords": []}]}

    def export(*resources: dict[str, Any]) -> bytes:
        return json.dumps({"resourceLogs": [{"env": "x", **one} for one in resources]}).encode()

    mixed = export(scopes('{"n": 1}', ""), scopes('{"n":2}'), {"scopeLogs": [7]})
    assert scene.status(mixed + b"\n{}", login) == 422
    (first,) = scene.desk.submissions
    assert first.events[::2] == [b'{"env":"x","n": 1}', b'{"env":"x","n":2}', b"{}"]
    assert first.events[1::2] == [b'{"body": {"intValue": "1"}}', b"7"]
    assert list(first.unreadable) == [1, 3, 4]
    assert all("nothing is at resourceLogs.scopeLogs.log" in why for why in first.unreadable.values())
    many = [scopes(*["{}"] * 2)] * 3
    assert [scene.status(export(*count), login) for count in (many[:2], many, [scopes(*["{}"] * 6)])] == [
        *(422, 413, 413)
    ]
    assert scene.status(export(), login) == 202
