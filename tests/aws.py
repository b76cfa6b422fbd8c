"""AWS on loopback: one moto server for all tests of a run, in a process of its own.

    @pytest.fixture
    def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
        return start_aws(monkeypatch)

    def test_x(aws: Aws) -> None:
        queue = aws.client("sqs").create_queue(QueueName=aws.name())["QueueUrl"]

Others use it at the same time: name what you create by ``aws.name()``. Where no run has one
(``tests/moto_of_run.py``) it starts with the first test that asks, and ends with the process.
"""

import atexit
import os
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import botocore.session
import pytest

from tests.moto_of_run import VARIABLE, start

REGION = "eu-central-1"
ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "CANARY-aws-secret-key"
ACCOUNT = "123456789012"


@dataclass(frozen=True)
class Aws:
    """``url``: the endpoint of every service."""

    url: str
    region: str = REGION

    def client(self, service: str) -> Any:
        """botocore's synchronous client of a service, as ``events``, ``sqs`` or ``s3``."""
        return _client(self.url, service)

    def name(self) -> str:
        """For a bucket, a queue or a bus that nobody else uses."""
        return f"t-{uuid.uuid4().hex[:20]}"


@lru_cache(maxsize=16)
def _client(url: str, service: str) -> Any:
    session = botocore.session.Session()
    return session.create_client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


def start_aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    """The server, and credentials in the environment."""
    clear_environment(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    return _server()


def clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A region, and no credentials: not from files, profiles or a metadata service."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "DEFAULT_PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", REGION)


@lru_cache(maxsize=1)
def _server() -> Aws:
    port = os.environ.get(VARIABLE)
    if port is None:
        port, close = start()
        atexit.register(close)
    return Aws(f"http://127.0.0.1:{port}")
