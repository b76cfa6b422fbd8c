import base64
import hashlib
import hmac
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ingestd.httpd.response import Response
from ingestd.sources.http.auth import Authenticator, ProducerKeys
from tests.each import each
from tests.integration.sources.http.support import (
    EVENT,
    JSON,
    PRODUCERS,
    SECRETS,
    TOKENS,
    Scene,
    assert_well_formed,
    header,
)

SIGNED = frozenset({"webhook-id", "webhook-timestamp", "webhook-signature"})


def bearer(token: str) -> dict[str, str]:
    return {**JSON, "authorization": f"Bearer {token}"}


def signature(secret: bytes, body: bytes, *, moment: str, name: str = "msg_1") -> str:
    """By the letter of Standard Webhooks, independent of the code under test."""
    signed = name.encode() + b"." + moment.encode() + b"." + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def webhook(scene: Scene, body: bytes = EVENT, secret: bytes = SECRETS[0], **changed: str) -> dict[str, str]:
    moment = changed.get("webhook_timestamp", str(int(scene.clock.epoch)))
    headers = {
        "webhook_id": "msg_1",
        "webhook_timestamp": moment,
        "webhook_signature": signature(secret, body, moment=moment),
        **changed,
    }
    return {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}


def assert_unauthorized(answer: Response | None, *, secrets: tuple[str, ...] = TOKENS) -> None:
    assert answer is not None
    assert_well_formed(answer)
    assert answer.status == 401
    challenge = header(answer, "www-authenticate")
    assert challenge is not None
    assert challenge.startswith('Bearer realm="ingestd"')
    assert not any(secret.encode() in answer.body for secret in secrets)


@each(("token", "producer"), [(TOKENS[0], "web"), (TOKENS[1], "web"), (TOKENS[2], "crm")])
@each("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_each_token_is_its_producers(token: str, producer: str, scheme: str) -> None:
    scene = Scene(PRODUCERS)
    assert scene.status(EVENT, {**JSON, "authorization": scheme + token}) == 202
    assert scene.desk.submissions[0].producer == producer


@each(
    "value",
    [
        *("", "Bearer", "Bearer ", "Bearer wrong", "Basic " + TOKENS[0], TOKENS[0], "Bearer" + TOKENS[0]),
        *(
            "Bearer " + TOKENS[0][:-1],
            "Bearer " + TOKENS[0] + "x",
            "Bearer " + TOKENS[0].upper(),
            "Bearer \xff",
        ),
        f"Bearer {TOKENS[0]}, Bearer {TOKENS[0]}",
    ],
)
def test_without_a_known_token_no_body_is_read(value: str) -> None:
    scene = Scene(PRODUCERS)
    assert_unauthorized(scene.send(EVENT, {**JSON, "authorization": value}))
    assert not scene.bodies_read
    assert not scene.desk.submissions


def test_a_token_that_came_twice_is_no_token() -> None:
    assert_unauthorized(
        Scene(PRODUCERS).send(EVENT, bearer(TOKENS[0]), repeated=frozenset({"authorization"}))
    )


def test_without_producers_everybody_may_post() -> None:
    scene = Scene()
    assert scene.status(EVENT, bearer("whatever")) == 202
    assert scene.desk.submissions[0].producer == ""


def test_every_token_is_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    genuine = hmac.compare_digest

    def count(one: bytes, other: bytes) -> bool:
        compared.append(len(one))
        return genuine(one, other)

    monkeypatch.setattr(hmac, "compare_digest", count)
    scene = Scene(PRODUCERS)
    for token in (*TOKENS, "unknown"):
        compared.clear()
        scene.send(EVENT, bearer(token))
        assert set(compared) == {32}
        assert len(compared) % len(TOKENS) == 0


def test_a_token_in_the_query_counts_only_where_allowed() -> None:
    target = f"/v1/events?access_token={TOKENS[2]}&atomic=true".replace("-", "%2D")
    scene = Scene(PRODUCERS, access_token_in_query=True)
    assert scene.status(EVENT, target=target) == 202
    assert scene.desk.submissions[0].producer == "crm"
    assert_unauthorized(scene.send(EVENT, target="/v1/events?access_token=wrong"))
    assert_unauthorized(scene.send(EVENT, target="/v1/events?access_token="))
    assert scene.status(EVENT, bearer(TOKENS[2]), target=target) == 400
    assert scene.status(EVENT, target=f"{target}&access_token=x") == 400
    refused = Scene(PRODUCERS).send(EVENT, target=target)
    assert refused is not None
    assert refused.status == 400
    assert TOKENS[2][:8].encode() not in refused.body


def test_a_verified_certificate_is_its_producers() -> None:
    scene = Scene(PRODUCERS)
    assert scene.status(EVENT, certificate_name="web") == 202
    assert scene.desk.submissions[0].producer == "web"
    assert_unauthorized(scene.send(EVENT, certificate_name="stranger"))
    assert_unauthorized(scene.send(EVENT, bearer("wrong"), certificate_name="web"))
    assert scene.status(EVENT, bearer(TOKENS[2]), certificate_name="web") == 202
    assert scene.desk.submissions[1].producer == "crm"


@each("secret", SECRETS)
@each("body", [EVENT, b"[" + EVENT + b"]"])
def test_a_signed_request_is_its_producers(secret: bytes, body: bytes) -> None:
    scene = Scene(PRODUCERS)
    assert scene.status(body, webhook(scene, body, secret)) == 202
    assert scene.desk.submissions[0].producer == ("web" if secret == SECRETS[0] else "hook")


def test_one_good_signature_among_several_is_enough() -> None:
    scene = Scene(PRODUCERS)
    good = webhook(scene)["webhook-signature"]
    for several in (f"v1,x {good}", f"{good} v1a,{good[3:]}", f"v1a,x  {good} v2,y"):
        assert scene.status(EVENT, webhook(scene, webhook_signature=several)) == 202
    for bad in (good.replace("v1,", "v1a,"), good.replace("v1,", ""), good[:-1], good + "=", "\xff", "v1,"):
        assert_unauthorized(scene.send(EVENT, webhook(scene, webhook_signature=bad)))


def test_the_example_of_the_specification_verifies() -> None:
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    scene = Scene({"spec": ProducerKeys(webhook_secrets=(secret,))})
    scene.clock.epoch = 1614265330.0
    body = b'{"test": 2432232314}'
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert scene.status(body, {**JSON, **headers}) == 422
    assert scene.desk.submissions[0].producer == "spec"


@each(("off_s", "good"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_a_signature_is_good_for_five_minutes(off_s: int, good: bool) -> None:
    scene = Scene(PRODUCERS)
    headers = webhook(scene, webhook_timestamp=str(int(scene.clock.epoch) + off_s))
    answer = scene.send(EVENT, headers)
    assert answer is not None
    assert answer.status == (202 if good else 401)
    assert scene.bodies_read == good


@each("moment", ["", "x", "-1", "1e9", "9" * 5000, " 1800000000", "1800000000.0", "\u0661", "+1"])
def test_a_time_that_is_none_is_refused_before_the_body_is_read(moment: str) -> None:
    scene = Scene(PRODUCERS)
    headers = {**webhook(scene), "webhook-timestamp": moment.encode().decode("latin-1")}
    assert_unauthorized(scene.send(EVENT, headers))
    assert not scene.bodies_read


@each("name", sorted(SIGNED))
def test_each_header_of_a_signature_is_needed_once(name: str) -> None:
    scene = Scene(PRODUCERS)
    headers = webhook(scene)
    assert_unauthorized(scene.send(EVENT, headers, repeated=frozenset({name})))
    del headers[name]
    assert_unauthorized(scene.send(EVENT, headers))
    assert not scene.bodies_read


@given(st.binary(max_size=50), st.binary(max_size=50), st.text("ab.", min_size=1, max_size=5))
def test_a_signature_is_good_for_what_was_signed_alone(body: bytes, other: bytes, name: str) -> None:
    assume(body != other)
    scene = Scene(PRODUCERS)
    moment = str(int(scene.clock.epoch))
    good = signature(SECRETS[0], body, moment=moment, name=name)
    headers = webhook(scene, webhook_id=name, webhook_signature=good)
    assert scene.status(body, headers) != 401
    assert scene.status(other, headers) == 401
    assert scene.status(body, {**headers, "webhook-id": name + "c"}) == 401
    assert scene.status(body, {**headers, "webhook-timestamp": str(int(moment) + 1)}) == 401
    stranger = signature(b"x" * 24, body, moment=moment, name=name)
    assert scene.status(body, {**headers, "webhook-signature": stranger}) == 401


def test_the_signature_is_checked_before_the_body_is_decoded() -> None:
    scene = Scene(PRODUCERS)
    headers = {**webhook(scene, b"no gzip"), "content-encoding": "gzip"}
    assert scene.status(b"no gzip", headers) == 400
    assert scene.status(b"no gzi!", headers) == 401


def test_tokens_can_be_replaced_while_running() -> None:
    scene = Scene(PRODUCERS)
    new = Authenticator({"web": ProducerKeys(tokens=("a-new-token-of-some-length",))}, clock=scene.clock)
    scene.endpoint.authenticator = new
    assert_unauthorized(scene.send(EVENT, bearer(TOKENS[0])))
    assert scene.status(EVENT, bearer("a-new-token-of-some-length")) == 202


def test_keys_do_not_show_what_they_are() -> None:
    shown = repr(ProducerKeys(tokens=TOKENS, webhook_secrets=SECRETS, events_per_second=math.pi))
    assert "3.14" in shown
    assert not any(token in shown for token in TOKENS)
    assert "secret" not in shown
