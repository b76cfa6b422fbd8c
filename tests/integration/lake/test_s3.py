from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.session
import pyarrow.parquet as pq
import pytest

from ingestd.core.errors import UserError
from ingestd.sinks.lake import LakeLayout, words
from ingestd.transport.auth import LoginRefused
from ingestd.transport.client import Client
from ingestd.transport.s3 import S3Transport, _base_url
from tests.aws import SECRET_KEY, Aws, start_aws
from tests.each import each
from tests.integration.lake.support import add, event, lake_in, lines_of, opened, running, until
from tests.receiver import Receiver, Reply

pytestmark = pytest.mark.anyio


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    aws = start_aws(monkeypatch)
    monkeypatch.setenv("AWS_DEFAULT_REGION", aws.region)
    return aws


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Client() as client:
        yield client


def make_bucket(aws: Aws) -> str:
    name = aws.name()
    aws.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": aws.region})
    return name


def objects(aws: Aws, bucket: str) -> dict[str, bytes]:
    s3 = aws.client("s3")
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


async def test_a_lake_on_s3_has_every_event_once_under_its_prefix(
    aws: Aws, client: Client, tmp_path: Path
) -> None:
    bucket = make_bucket(aws)
    store = S3Transport(client, bucket=bucket, prefix="/events/", endpoint_url=aws.url)
    assert store.shown_url == f"s3://{bucket}/events"
    async with (
        opened(tmp_path) as database,
        lake_in(database, store, file_age_s=0.01) as lake,
        running(lake),
    ):
        await add(database, lake, [event(n, kind=f"kind of {n % 2}") for n in range(6)])
        await until(lambda: not lake.outbox.rows)
    found = objects(aws, bucket)
    assert all(key.startswith("events/date=2026-11-21/hour=09/type=kind_of_") for key in found)
    assert len(found) == 4
    files = [body for key, body in found.items() if not key.endswith(".json")]
    lines = [line for body in files for line in lines_of(body)]
    assert sorted(lines) == sorted(event(n, kind=f"kind of {n % 2}") for n in range(6))


async def test_parquet_on_s3_is_read_back(aws: Aws, client: Client, tmp_path: Path) -> None:
    bucket = make_bucket(aws)
    store = S3Transport(client, bucket=bucket, region=aws.region, endpoint_url=aws.url)
    layout = LakeLayout(format="parquet", partition="")
    async with opened(tmp_path) as database, lake_in(database, store, layout=layout) as lake:
        await add(database, lake, [event(n) for n in range(3)], request_id="r-1")
        assert await lake.drain(10) == (0, 0, 0)
    (name,) = [key for key in objects(aws, bucket) if key.endswith(".parquet")]
    path = tmp_path / name
    path.write_bytes(objects(aws, bucket)[name])
    assert pq.read_table(path)["event"].to_pylist() == [event(n).decode() for n in range(3)]


async def test_an_object_that_is_there_is_not_written_again(aws: Aws, client: Client) -> None:
    bucket = make_bucket(aws)
    store = S3Transport(client, bucket=bucket, endpoint_url=aws.url)
    key = "date=2026-11-21/type=a b+c/ü"
    answers = [(await store.send(key, body, {}))[0].status for body in (b"first", b"second")]
    assert answers == [200, 412]
    assert objects(aws, bucket) == {key: b"first"}


async def test_a_bucket_that_is_not_there_is_told(aws: Aws, client: Client) -> None:
    store = S3Transport(client, bucket="no-such-bucket-here", endpoint_url=aws.url)
    answer, _ = await store.send("k", b"x", {})
    assert answer.status == 404
    assert "NoSuchBucket" in words(answer)


async def test_every_put_is_signed_with_its_hash_and_asks_for_nothing_to_be_there(
    aws: Aws, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "CANARY-session")
    async with Receiver(lambda request: Reply(400, body=b"<Token-0>CANARY-session</Token-0>")) as receiver:
        store = S3Transport(client, bucket="bucket", prefix="p", endpoint_url=receiver.url)
        answer, generation = await store.send("a=1/f", b"body", {"Content-Type": "application/zstd"})
        store.drop_token(generation)
    (request,) = receiver.requests
    assert (request.method, request.path, request.body) == ("PUT", "/bucket/p/a%3D1/f", b"body")
    headers = request.headers
    assert headers["if-none-match"] == "*"
    assert (
        headers["x-amz-content-sha256"] == "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5"
    )
    assert headers["x-amz-security-token"] == "CANARY-session"
    signed = headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    assert {"host", "if-none-match", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"} <= set(
        signed
    )
    assert "/s3/aws4_request" in headers["authorization"]
    assert b"CANARY" not in answer.body
    assert SECRET_KEY not in str(headers)


async def test_the_signature_is_the_one_that_the_sdk_makes(aws: Aws, client: Client) -> None:
    async with Receiver() as receiver:
        store = S3Transport(client, bucket="bucket", endpoint_url=receiver.url)
        await store.send("type=a b/f", b"body", {"Content-Type": "x/y"})
    (sent,) = receiver.requests
    names = sent.headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    request: Any = botocore.awsrequest.AWSRequest(
        method="PUT",
        url=receiver.url + sent.path,
        data=sent.body,
        headers={name: sent.headers[name] for name in names},
    )
    request.context["timestamp"] = sent.headers["x-amz-date"]
    credentials = botocore.session.Session().get_credentials()
    signer = botocore.auth.S3SigV4Auth(credentials, "s3", aws.region)
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert sent.headers["authorization"].endswith(f"Signature={signature}")


async def test_without_credentials_the_lake_waits_and_says_why(
    aws: Aws, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = S3Transport(client, bucket="bucket", endpoint_url=aws.url)
    with pytest.raises(LoginRefused):
        await store.send("k", b"", {})
    async with opened(tmp_path) as database, lake_in(database, store) as lake:
        await add(database, lake, [event(1)])
        assert (await lake.drain(10)).events == 1
        assert "no AWS credentials" in lake.problem


@each(
    ("bucket", "endpoint", "hosted", "expected"),
    [
        ("b-1", "https://s3.eu-central-1.amazonaws.com/", True, "https://b-1.s3.eu-central-1.amazonaws.com/"),
        ("b.1", "https://s3.eu-central-1.amazonaws.com/", True, "https://s3.eu-central-1.amazonaws.com/b.1/"),
        ("b-1", "http://minio:9000/s3", False, "http://minio:9000/s3/b-1/"),
    ],
)
def test_where_a_bucket_is(bucket: str, endpoint: str, hosted: bool, expected: str) -> None:
    assert _base_url(bucket, endpoint, hosted=hosted) == expected


async def test_names_that_cannot_be_are_refused_in_one_line(aws: Aws, client: Client) -> None:
    for wrong in ("Upper", "a/b", "", "x" * 64):
        with pytest.raises(UserError, match="bucket"):
            S3Transport(client, bucket=wrong)
    with pytest.raises(UserError, match="endpoint_url") as raised:
        S3Transport(client, bucket="bucket", endpoint_url="https://me:CANARY@host/")
    assert "CANARY" not in str(raised.value)
    with pytest.raises(UserError, match="aws_region"):
        S3Transport(client, bucket="bucket", region="nowhere at all")
