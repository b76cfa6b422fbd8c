"""Credentials: what each way adds to a request, how files are followed, and what never is shown."""

import base64
import hashlib
import hmac
import os
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.errors import UserError
from ingestd.transport.auth import NoAuth, basic, bearer, header
from ingestd.transport.auth_config import AuthConfig
from ingestd.transport.client import Client, SecretMask, Sender
from ingestd.transport.oauth import TokenSource
from ingestd.transport.webhook_signature import StandardWebhooks
from ingestd.wiring.http_clients import make_auth
from tests.each import each
from tests.integration.transport.support import FakeClock
from tests.receiver import Action, Receiver, Reply, Request

pytestmark = pytest.mark.anyio

KEYS = [b"k" * 24, b"\x00\xff" * 32]
SECRETS = ["whsec_" + base64.b64encode(key).decode() for key in KEYS]


def replace_file(path: Path, text: str) -> None:
    """As a person or Kubernetes does it: the new one in the place of the old."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


async def added(auth: Any, headers: dict[str, str] | None = None, body: bytes = b"{}") -> dict[str, str]:
    got, _ = await auth.headers("https://x/", body, headers or {})
    return dict(got)


# --- static credentials ---


async def test_what_each_way_adds() -> None:
    clock = FakeClock()
    assert await added(NoAuth()) == {}
    assert await added(bearer("abc.def", "", clock=clock)) == {"Authorization": "Bearer abc.def"}
    assert await added(basic("Aladdin", "open sesame", "", clock=clock)) == {
        "Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # of RFC 7617 2
    }
    assert await added(header("X-Api-Key", "k 1", "", clock=clock)) == {"X-Api-Key": "k 1"}


async def test_a_file_is_read_again_when_it_changes_but_looked_at_once_a_second(tmp_path: Path) -> None:
    path, clock = tmp_path / "token", FakeClock()
    path.write_text("one\n")
    auth = bearer("", str(path), clock=clock)
    assert await auth.headers("", b"", {}) == ({"Authorization": "Bearer one"}, 1)
    replace_file(path, "two\n")
    assert (await added(auth))["Authorization"] == "Bearer one"
    clock.now += 1
    assert await auth.headers("", b"", {}) == ({"Authorization": "Bearer two"}, 2)
    assert auth.mask(b"one two two") == b"one two two", "too short to be masked"


async def test_a_refused_credential_is_looked_for_at_once(tmp_path: Path) -> None:
    path, clock = tmp_path / "token", FakeClock()
    path.write_text("first")
    auth = bearer("", str(path), clock=clock)
    replace_file(path, "other")
    auth.drop(0)  # an older one
    assert (await added(auth))["Authorization"] == "Bearer first"
    auth.drop(1)
    assert (await added(auth))["Authorization"] == "Bearer other"
    assert auth.mask(b"first and other") == b"*** and ***"


@each("broken", ["", "two words", "x" * 70_000, None], ids=["empty", "words", "long", "gone"])
async def test_what_cannot_be_used_leaves_the_last_good_one(tmp_path: Path, broken: str | None) -> None:
    path, clock = tmp_path / "token", FakeClock()
    path.write_text("good")
    auth = bearer("", str(path), clock=clock)
    path.unlink() if broken is None else replace_file(path, broken)
    clock.now += 5
    assert (await added(auth))["Authorization"] == "Bearer good"
    replace_file(path, "better")
    clock.now += 5
    assert await auth.headers("", b"", {}) == ({"Authorization": "Bearer better"}, 2)


async def test_a_file_changed_in_place_is_noticed(tmp_path: Path) -> None:
    path, clock = tmp_path / "token", FakeClock()
    path.write_text("aaaa")
    auth = bearer("", str(path), clock=clock)
    path.write_text("bbbb")
    os.utime(path, ns=(1, 1))  # the same size and inode: its time alone tells
    clock.now += 1
    assert (await added(auth))["Authorization"] == "Bearer bbbb"


@each(
    ("make", "words"),
    [
        (lambda path, clock: bearer("", "", clock=clock), "give token or token_file"),
        (lambda path, clock: bearer("t", str(path), clock=clock), "one of the two"),
        (lambda path, clock: bearer("CANARY two", "", clock=clock), "token: a token is one word"),
        (lambda path, clock: bearer("CANARY\r\nX: y", "", clock=clock), "one word"),
        (lambda path, clock: bearer("", str(path) + "-missing", clock=clock), "No such file"),
        (lambda path, clock: bearer("", str(path), clock=clock), "one word"),
        (lambda path, clock: basic("", "CANARY", "", clock=clock), "username"),
        (lambda path, clock: basic("a:b", "CANARY", "", clock=clock), "username"),
        (lambda path, clock: basic("a", "CANARY\n", "", clock=clock), "password is one line"),
        (lambda path, clock: header("X Y", "CANARY", "", clock=clock), "cannot carry credentials"),
        (lambda path, clock: header("Content-Length", "CANARY", "", clock=clock), "cannot carry credentials"),
        (lambda path, clock: header("X-Key", "CANARY\x00", "", clock=clock), "one line"),
        (lambda path, clock: StandardWebhooks("CANARY", clock=clock), "secret: a signing secret has 4 bytes"),
        (
            lambda path, clock: StandardWebhooks("whsec_CANARY!", clock=clock),
            "has characters that base64 has not",
        ),
        (lambda path, clock: StandardWebhooks("whsec_" + "CANARY==", clock=clock), "16 to 64"),
        (lambda path, clock: StandardWebhooks(" ".join(SECRETS * 5), clock=clock), "1 to 8 secrets"),
    ],
)
def test_what_does_not_serve_is_told_in_one_line_without_the_secret(
    make: Any, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    path.write_text("CANARY in several\nlines")
    with pytest.raises(UserError, match=words) as error:
        make(path, FakeClock())
    assert "CANARY" not in str(error.value)
    assert "\n" not in str(error.value)


# --- Standard Webhooks ---


def test_the_signature_is_that_of_the_specification() -> None:
    # of the specification's own example: github.com/standard-webhooks, "Signature scheme"
    from ingestd.transport.webhook_secret import decode_secret
    from ingestd.transport.webhook_signature import sign

    key = decode_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_every_secret_signs_and_every_attempt_is_signed_anew(tmp_path: Path) -> None:
    path, clock = tmp_path / "secrets", FakeClock()
    path.write_text("\n".join(SECRETS) + "\n")
    auth = StandardWebhooks("", str(path), clock=clock)

    def expected(timestamp: str) -> str:
        signed = b"batch-1." + timestamp.encode() + b".the body"
        made = [hmac.new(key, signed, hashlib.sha256).digest() for key in KEYS]
        return " ".join(f"v1,{base64.b64encode(one).decode()}" for one in made)

    for at in ("1800000000", "1800000060"):
        clock.wall_now = float(at) + 0.9
        got = await added(auth, {"Webhook-Id": "batch-1"}, b"the body")
        assert got == {"webhook-timestamp": at, "webhook-signature": expected(at)}
    replace_file(path, SECRETS[1])
    clock.now += 1
    assert (await added(auth, {"webhook-id": "x"}))["webhook-signature"].count("v1,") == 1


async def test_a_request_without_an_id_gets_one_that_stays() -> None:
    clock = FakeClock()
    auth = StandardWebhooks(SECRETS[0], clock=clock)
    first = await added(auth, {"Idempotency-Key": "a.b"}, b"1")
    clock.wall_now += 60
    again = await added(auth, {"idempotency-key": "a.b"}, b"1")
    other = await added(auth, {"idempotency-key": "c"}, b"1")
    assert first["webhook-id"] == again["webhook-id"] != other["webhook-id"]
    assert first["webhook-signature"] != again["webhook-signature"]
    assert "." not in first["webhook-id"]


# --- on the wire ---


async def test_a_sender_adds_them_to_each_attempt_and_masks_what_comes_back(tmp_path: Path) -> None:
    path, clock = tmp_path / "token", FakeClock()
    path.write_text("CANARY/1")

    def echo(request: Request) -> Action:
        token = request.headers["authorization"]
        said = token.encode() + b" " + token.replace("/", "\\/").encode()
        return Reply(401, {"Location": f"/x?{token}"}, said)

    async with Receiver(echo) as receiver, Client() as client:
        sender = Sender(client, bearer("", str(path), clock=clock))
        headers = {"X-A": "1"}
        answer, generation = await sender.send(receiver.url, b"{}", headers)
        replace_file(path, "CANARY/2")
        sender.drop_token(generation)
        again, newer = await sender.send(receiver.url, b"{}", headers)
    assert (generation, newer, headers) == (1, 2, {"X-A": "1"})
    assert answer.body == again.body == b"Bearer *** Bearer ***"
    assert answer.headers["location"] == "/x?Bearer ***"
    assert [r.headers["authorization"] for r in receiver.requests] == ["Bearer CANARY/1", "Bearer CANARY/2"]


async def test_a_basic_password_is_masked_in_both_its_forms() -> None:
    auth = basic("user", "hunter2", "", clock=FakeClock())
    pair = base64.b64encode(b"user:hunter2")
    assert auth.mask(b"<" + pair + b"|hunter2>") == b"<***|***>"


def test_a_mask_remembers_a_bounded_number() -> None:
    mask = SecretMask()
    for number in range(100):
        mask.add(f"secret-{number:03}")
    assert mask(b"secret-099 secret-098") == b"*** ***"
    assert mask(b"secret-000") == b"secret-000"
    text = b"nothing"
    assert mask(text) is text


# --- by name ---


async def test_each_kind_is_made_from_its_section(tmp_path: Path) -> None:
    clock, file = FakeClock(), tmp_path / "secret"
    file.write_text("from-file\n")
    async with Client() as client:

        def make(kind: str, **values: Any) -> Any:
            return make_auth(AuthConfig.model_validate({"type": kind} | values), client, clock=clock)

        assert isinstance(make("none"), NoAuth)
        assert (await added(make("bearer", token_file=str(file)))) == {"Authorization": "Bearer from-file"}
        assert "Authorization" in await added(make("basic", username="u", password="p"))
        assert await added(make("header", header="X-Key", token="k")) == {"X-Key": "k"}
        assert "webhook-signature" in await added(make("standard_webhooks", secret=SECRETS[0]))
        oauth = make("oauth2", token_url="https://x/", client_id="i", client_secret_file=str(file), scope="s")
        assert isinstance(oauth, TokenSource)
        for kind, values, words in (
            ("oauth2", {"client_id": "i", "client_secret": "s"}, "token_url"),
            ("oauth2", {"client_id": "i", "token_url": "https://x/"}, "client_secret"),
        ):
            with pytest.raises(UserError, match=words):
                make(kind, **values)
