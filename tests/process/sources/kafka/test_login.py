"""TLS with a client's certificate, and tokens of an OAuth server, against a real broker."""

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.errors import UserError
from ingestd.sources.kafka.admin import Admin
from ingestd.sources.kafka.settings import KafkaConfig
from tests.certificates import self_signed
from tests.event_api import EventApi, events
from tests.process.sources.kafka.support import IN_TURN, KafkaServer, running, settings, topic
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio


def _token() -> str:
    """A JWT that nobody signed: what Kafka's broker takes without a validator."""
    now = int(time.time())
    parts = {"alg": "none"}, {"sub": "ingestd", "iat": now, "exp": now + 300}
    head, claims = (base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in parts)
    return f"{head}.{claims}."


async def test_events_come_over_tls_to_who_has_the_certificate(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    made = topic(shared_kafka)
    made.produce(*events(20))
    cert, key = shared_kafka.client_files
    tls: dict[str, Any] = {
        "bootstrap_servers": [f"127.0.0.1:{shared_kafka.tls_port}"],
        "ca_file": shared_kafka.ca_file,
        "cert_file": cert,
        "key_file": key,
    }
    async with EventApi() as api:
        async with running(settings(tmp_path, api.url, made, tls, delivery=IN_TURN)) as service:
            await service.settled(20)
            await made.settled(20, made.name)
        assert api.events == events(20)

    def cluster(**more: object) -> object:
        return Admin(KafkaConfig.model_validate(tls | {"topics": made.name} | more)).cluster()

    other, other_key = self_signed(tmp_path)
    strange = (
        {"ca_file": other},
        {"cert_file": "", "key_file": ""},
        {"cert_file": other, "key_file": other_key},
    )
    for wrong in strange:
        with pytest.raises(UserError, match="cannot connect to Kafka at 127"):
            await asyncio.to_thread(cluster, **wrong)


async def test_events_come_to_who_has_a_token_of_the_oauth_server(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    made = topic(shared_kafka)
    made.produce(*events(20))
    asked: list[Request] = []

    def answer(request: Request) -> Reply:
        asked.append(request)
        return Reply(
            body=json.dumps({"access_token": _token(), "token_type": "Bearer", "expires_in": 300}).encode()
        )

    async with EventApi() as api, Receiver(answer) as oauth:
        source = {
            "bootstrap_servers": [f"127.0.0.1:{shared_kafka.sasl_port}"],
            "oauth_token_url": f"{oauth.url}/token",
            "oauth_client_id": "ingestd",
            "oauth_client_secret": "SEKRIT-oauth",
            "oauth_scope": "events",
        }
        async with running(settings(tmp_path, api.url, made, source, delivery=IN_TURN)) as service:
            await service.settled(20)
            await made.settled(20, made.name)
        assert api.events == events(20)
    assert b"scope=events" in asked[0].body
    login = base64.b64decode(asked[0].headers["authorization"].removeprefix("Basic "))
    assert login == b"ingestd:SEKRIT-oauth"
