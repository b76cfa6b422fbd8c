"""AWS signatures, checked by an independent implementation of what AWS documents, and where credentials
come from: botocore's real chain, with real files and a real credential process."""

import asyncio
import hashlib
import hmac
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.errors import UserError
from ingestd.transport.auth import LoginRefused
from ingestd.transport.aws import AwsSignature, endpoint, find_region
from ingestd.transport.client import Client, Sender
from ingestd.transport.oauth import TokenUnavailable
from tests.aws import ACCESS_KEY, REGION, SECRET_KEY, clear_environment
from tests.machine import patience
from tests.receiver import Receiver, Request

pytestmark = pytest.mark.anyio

TARGET = {"X-Amz-Target": "AWSEvents.PutEvents", "Content-Type": "application/x-amz-json-1.1"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_environment(monkeypatch)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


@asynccontextmanager
async def signing(**settings: Any) -> AsyncIterator[AwsSignature]:
    before = asyncio.all_tasks()
    auth = AwsSignature("events", REGION, **settings)
    yield auth
    await auth.aclose()
    assert asyncio.all_tasks() == before


def signature_of(request: Request) -> str:
    """What AWS would compute for this request: "Create a signed AWS API request", IAM User Guide."""
    scheme, _, rest = request.headers["authorization"].partition(" ")
    assert scheme == "AWS4-HMAC-SHA256"
    fields = dict(part.strip().split("=", 1) for part in rest.split(","))
    _, date, *_ = scope = fields["Credential"].split("/")
    names = fields["SignedHeaders"].split(";")
    assert {"host", "x-amz-date", "x-amz-target", "content-type"} <= set(names)
    canonical = "\n".join(
        [
            request.method,
            request.path,
            "",
            *(f"{name}:{request.headers[name]}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    to_sign = "\n".join(
        ["AWS4-HMAC-SHA256", request.headers["x-amz-date"], "/".join(scope[1:]), _hash(canonical)]
    )
    key = f"AWS4{SECRET_KEY}".encode()
    for part in (date, REGION, "events", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    assert fields["Signature"] == hmac.digest(key, to_sign.encode(), "sha256").hex()
    return fields["Signature"]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def test_what_arrives_is_what_was_signed(keys: None) -> None:
    async with signing() as auth, Receiver() as receiver, Client() as client:
        for body in (b'{"Entries":[]}', b"\x00\xff" * 1000):
            answer, generation = await Sender(client, auth).send(receiver.url + "/", body, TARGET)
            assert (answer.status, generation) == (200, 1)
    assert len({signature_of(request) for request in receiver.requests}) == 2


async def test_temporary_credentials_send_their_token_and_it_is_masked(
    keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "CANARY/session==")
    async with signing() as auth:
        added, _ = await auth.headers("https://x/", b"{}", TARGET)
        assert added["X-Amz-Security-Token"] == "CANARY/session=="
        assert "x-amz-security-token" in added["Authorization"]
        assert auth.mask(f"CANARY/session== {SECRET_KEY}".encode()) == b"*** ***"


async def test_without_credentials_the_login_is_refused() -> None:
    async with signing() as auth:
        with pytest.raises(LoginRefused, match="no AWS credentials"):
            await auth.headers("https://x/", b"{}", TARGET)


async def test_a_profile_that_is_not_there_is_named() -> None:
    async with signing(profile="nobody") as auth:
        with pytest.raises(LoginRefused, match="nobody"):
            await auth.headers("https://x/", b"{}", TARGET)


async def test_a_refused_credential_is_looked_for_in_its_file_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))

    def write(key: str) -> None:
        path.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key=CANARY-{key}\n")

    async with signing() as auth:
        write("OLD")
        added, first = await auth.headers("https://x/", b"{}", TARGET)
        write("NEW")
        auth.drop(first - 1)
        again, same = await auth.headers("https://x/", b"{}", TARGET)
        auth.drop(first)
        newer, second = await auth.headers("https://x/", b"{}", TARGET)
    assert ["Credential=OLD" in h["Authorization"] for h in (added, again, newer)] == [True, True, False]
    assert (first, same, second) == (1, 1, 2)


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential process: waits until ``gate`` is there, notes the call in ``calls``, prints ``answer``."""
    script = tmp_path / "process.sh"
    script.write_text(
        f'#!/bin/sh\nwhile [ ! -e "{tmp_path}/gate" ]; do sleep 0.01; done\n'
        f'echo x >> "{tmp_path}/calls"\ncat "{tmp_path}/answer"\n'
    )
    script.chmod(0o700)
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    (tmp_path / "gate").touch()
    return tmp_path


def give(process: Path, key: str, *, lasts_s: float) -> None:
    end = (datetime.now(UTC) + timedelta(seconds=lasts_s)).isoformat()
    answer = {"Version": 1, "AccessKeyId": key, "SecretAccessKey": "CANARY", "Expiration": end}
    (process / "answer").write_text(json.dumps(answer))


def calls(process: Path) -> int:
    path = process / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


async def key_of(auth: AwsSignature) -> str:
    added, _ = await auth.headers("https://x/", b"{}", TARGET)
    return added["Authorization"].partition("Credential=")[2].partition("/")[0]


async def test_however_many_wait_credentials_are_looked_for_once(process: Path) -> None:
    give(process, "ONE", lasts_s=3600)
    async with signing() as auth:
        assert set(await asyncio.gather(*(key_of(auth) for _ in range(20)))) == {"ONE"}
        assert await key_of(auth) == "ONE"
    assert calls(process) == 1


async def test_credentials_near_their_end_are_renewed_while_they_go_on_being_used(process: Path) -> None:
    give(process, "ONE", lasts_s=700)  # botocore renews 15 minutes ahead, and insists 10 minutes ahead
    async with signing() as auth:
        assert await key_of(auth) == "ONE"
        give(process, "TWO", lasts_s=3600)
        auth._renew_at = 0.0  # half a minute later
        (process / "gate").unlink()
        assert await key_of(auth) == "ONE", "nobody waits for the renewal"
        (process / "gate").touch()
        async with asyncio.timeout(patience(5)):
            while await key_of(auth) != "TWO":  # noqa: ASYNC110 - a thread's work has no event
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("answer", ["not JSON CANARY", '{"Version": 1}', '{"Version": 7}'])
async def test_a_credential_process_that_fails_is_no_refusal_and_is_not_quoted(
    process: Path, answer: str
) -> None:
    (process / "answer").write_text(answer)
    async with signing() as auth:
        with pytest.raises(TokenUnavailable, match="no AWS credentials") as error:
            await auth.headers("https://x/", b"{}", TARGET)
    assert "CANARY" not in str(error.value)


async def test_credentials_that_have_ended_already_are_none(process: Path) -> None:
    give(process, "OLD", lasts_s=-5)
    async with signing() as auth:
        with pytest.raises(TokenUnavailable):
            await auth.headers("https://x/", b"{}", TARGET)


async def test_credentials_that_do_not_come_do_not_stop_the_process(process: Path) -> None:
    (process / "gate").unlink()
    give(process, "ONE", lasts_s=3600)
    async with signing(timeout_s=0.05) as auth:
        with pytest.raises(TokenUnavailable, match="in time"):
            await auth.headers("https://x/", b"{}", TARGET)
        (process / "gate").touch()
        async with asyncio.timeout(patience(5)):
            while calls(process) == 0:  # noqa: ASYNC110 - another process's work has no event
                await asyncio.sleep(0.01)
        auth._timeout_s = 5.0
        assert await key_of(auth) == "ONE"
    assert calls(process) == 1, "the one look went on"


def test_the_region_comes_from_the_setting_or_the_aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_region("eu-west-1") == "eu-west-1"
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(UserError, match="which AWS region"):
        find_region("")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-2")
    assert find_region("") == "us-east-2"
    with pytest.raises(UserError, match="nobody"):
        find_region("", profile="nobody")


def test_endpoints_are_those_of_aws() -> None:
    assert endpoint("events", "eu-central-1") == "https://events.eu-central-1.amazonaws.com/"
    assert endpoint("events", "cn-north-1") == "https://events.cn-north-1.amazonaws.com.cn/"
    with pytest.raises(UserError, match="aws_region"):
        endpoint("events", "no such region")


def test_without_the_extra_a_person_is_told_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(UserError, match=r"pip install 'ingestd\[aws\]'"):
        AwsSignature("events", REGION)
