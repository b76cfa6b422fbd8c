"""What ``ingestd check`` says of a NATS server's settings. It makes and changes nothing there."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from ingestd.app.checks.run import Report, check_all
from tests.event_api import EventApi
from tests.nats_server import nats_servers
from tests.process.sources.nats.support import NatsServer, Stream, nats_server, stream

pytestmark = pytest.mark.anyio


async def found(
    tmp_path: Path, source: str, *, online: bool = True, more: str = "", kind: str = "nats"
) -> list[tuple[str, str]]:
    """(level, text) of what is said of the source."""
    (tmp_path / "c.toml").write_text(f"{more}\n[ingest.{kind}]\n{source}\n")
    report = Report()
    async with EventApi() as api:
        given = {
            ("api", "url"): api.url,
            ("api", "no_auth"): True,
            ("state", "dir"): str(tmp_path / "state"),
            ("ingest", "listen"): "127.0.0.1:0",
            ("admin", "listen"): "127.0.0.1:0",
        }
        async for _finding in check_all(report, str(tmp_path / "c.toml"), given, online=online, environ={}):
            pass
    return [(str(one.level), one.text) for one in report.findings if one.check.startswith(kind)]


def told(findings: list[tuple[str, str]], level: str, words: str) -> bool:
    return any(one == level and words in text for one, text in findings)


async def consumer(made: Stream, **config: Any) -> None:
    body = {
        "stream_name": made.name,
        "action": "create",
        "config": {"durable_name": "ingestd", "name": "ingestd", "ack_policy": "explicit", **config},
    }
    answer = await made.ask(f"CONSUMER.CREATE.{made.name}.ingestd", body)
    assert "error" not in answer, answer


async def test_what_a_stream_may_lose_is_told(tmp_path: Path, shared_nats: NatsServer) -> None:
    hour = 3600 * 10**9
    async with stream(shared_nats.url, max_age=6 * hour, max_bytes=10_000_000, retention="interest") as made:
        source = f'servers = "{shared_nats.url}"\nstream = "{made.name}"'
        findings = await found(tmp_path, source)
        assert told(findings, "ok", "0 messages, interest retention")
        assert told(findings, "warn", "has one replica: unless its server has sync_interval: always")
        assert told(findings, "warn", "deletes messages after 6 h, also those that nobody has read")
        assert told(findings, "warn", "deletes its oldest messages, read or not, when it is full (max_bytes)")
        assert told(findings, "warn", "a message may have 1048576 bytes, and a request has room for 500000")
        assert told(findings, "warn", "is acknowledged and not kept")
        assert (await made.ask(f"CONSUMER.NAMES.{made.name}"))["consumers"] == []
        assert not told(await found(tmp_path, source, online=False), "warn", "")
    async with stream(shared_nats.url, storage="memory", max_msg_size=1000) as made:
        findings = await found(tmp_path, f'servers = "{shared_nats.url}"\nstream = "{made.name}"')
        assert [text for level, text in findings if level == "warn"] == [
            f"stream {made.name} is in memory: it is gone with its server"
        ]
        assert told(findings, "ok", "it is made at the first start, and begins with all messages")


async def test_a_consumer_that_would_lose_messages_fails(tmp_path: Path, shared_nats: NatsServer) -> None:
    async with stream(shared_nats.url, retention="workqueue") as made:
        await consumer(made, max_deliver=1, ack_wait=10**8, max_ack_pending=100)
        await made.publish(b"1")
        sub = await made.client.jetstream().pull_subscribe_bind("ingestd", made.name)
        assert len(await sub.fetch(1)) == 1
        source = f'servers = "{shared_nats.url}"\nstream = "{made.name}"\nsubjects = "a.>"\nack_wait = "1m"'
        findings = await found(tmp_path, source)
        while not told(findings, "warn", "has 1 messages that consumer ingestd never gives"):
            findings = await found(tmp_path, source)  # until ack_wait is over
        assert told(findings, "FAIL", "its max_deliver is 1: a message that was given so often stays")
        assert told(findings, "warn", "reads the subjects all, and the configuration says a.>: it stays so")
        assert told(findings, "warn", "has an ack_wait of 0.1 s, and the configuration says 1 min")
        assert told(findings, "warn", "lets 100 messages be on their way (max_ack_pending), fewer than")


async def test_a_consumer_whose_pulls_are_short_is_told(tmp_path: Path, shared_nats: NatsServer) -> None:
    async with stream(shared_nats.url) as made:
        await consumer(made, max_expires=5 * 10**6, ack_policy="all")
        findings = await found(tmp_path, f'servers = "{shared_nats.url}"\nstream = "{made.name}"')
    assert told(findings, "warn", "ends a pull after 0.005 s (max_expires): one that brings nothing")


async def test_servers_with_a_stream_each_fail_and_one_that_is_down_is_told(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    """With a JetStream domain they may be leaf nodes: the stream is elsewhere then."""
    with nats_server(tmp_path / "other") as other:
        async with stream(shared_nats.url) as made:
            both = f'servers = ["{shared_nats.url}", "{other.url}"]\nstream = "{made.name}"'
            findings = await found(tmp_path, both)
            assert told(findings, "FAIL", f"{shared_nats.url} and {other.url} are of no cluster, so each of")
            assert told(findings, "FAIL", f"has a stream {made.name} of its own, or none")
            leaf = await found(tmp_path, f'{both}\ndomain = "hub"')
            assert not told(leaf, "FAIL", "of no cluster")
            other.kill()
            findings = await found(tmp_path, both)
            assert told(findings, "warn", f"{other.url} is down: Connection refused")
            assert not told(findings, "FAIL", "")


async def test_servers_of_one_cluster_are_not_told_of(tmp_path: Path) -> None:
    with nats_servers(tmp_path / "nats", 3) as servers:
        urls = ", ".join(f'"{one.url}"' for one in servers)
        findings = await found(tmp_path, f'servers = [{urls}]\nstream = "S"')
    assert not any("cluster" in text or "is down" in text for _, text in findings), findings


async def test_what_is_not_there_is_told(
    tmp_path: Path, shared_nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = await found(tmp_path, f'servers = "{shared_nats.url}"\nstream = "NONE"')
    assert told(findings, "FAIL", "there is no stream NONE")
    findings = await found(tmp_path, 'servers = "127.0.0.1:9"\nstream = "S"')
    assert told(findings, "FAIL", "cannot connect to NATS at nats://127.0.0.1:9")
    findings = await found(tmp_path, 'servers = "nats.example.com:4222"\nstream = "S"', online=False)
    assert told(findings, "warn", "events come unencrypted: give servers as tls://")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    findings = await found(tmp_path, 'stream = "S"', online=False)
    assert findings == [("FAIL", "[ingest.nats] needs nats-py: pip install 'ingestd[nats]'")]
