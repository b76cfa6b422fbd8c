"""Queues of SQS under ``ingestd run``; moto stands for AWS."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ingestd.app.checks.run import Report, check_all
from ingestd.app.outside import Outside
from ingestd.config import Settings
from ingestd.core.bounds import Bounds
from ingestd.core.clock import SystemClock
from ingestd.sources.source import Source
from ingestd.sources.sqs.queue import SqsQueue
from ingestd.sources.sqs.settings import SqsConfig
from ingestd.sources.sqs.source import SqsSource
from ingestd.wiring.http_clients import make_client
from tests.aws import REGION, Aws, start_aws
from tests.contract import test_sources as contract
from tests.effort import FUZZ
from tests.event_api import INVALID, EventApi, event, events, once_each
from tests.machine import patience, patience_of_test
from tests.process.cli.run_support import Keeper, serve
from tests.process.cli.support import Place
from tests.process.sources.nats.support import Running, letters, running, until
from tests.process.sources.support import producers_of
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio

IMPATIENT = Outside(bounds=Bounds(sqs_wait_s=1))
"""A queue that stays empty is not waited for long."""


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    return start_aws(monkeypatch)


def make_queue(aws: Aws, **attributes: str) -> str:
    fifo = "FifoQueue" in attributes
    made = aws.client("sqs").create_queue(
        QueueName=aws.name() + (".fifo" if fifo else ""), Attributes=attributes
    )
    return str(made["QueueUrl"])


def send(aws: Aws, queue: str, bodies: list[bytes], **more: Any) -> None:
    for start in range(0, len(bodies), 10):
        entries = [
            {"Id": str(n), "MessageBody": body.decode(), **more}
            for n, body in enumerate(bodies[start : start + 10])
        ]
        answer = aws.client("sqs").send_message_batch(QueueUrl=queue, Entries=entries)
        assert not answer.get("Failed")


def left(aws: Aws, queue: str) -> int:
    """Messages that are in the queue, given out or not."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = aws.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


async def empty(aws: Aws, queue: str, service: Running | None = None) -> None:
    while left(aws, queue):
        assert service is None or not service.task.done()
        await asyncio.sleep(0.2)  # each look is a request of botocore, answered by Python


def settings(directory: Path, api: str, queue: str, source: dict[str, Any], **sections: Any) -> Settings:
    tree: dict[str, Any] = {
        "api": {"url": api, "no_auth": True},
        "state": {"dir": str(directory / "state")},
        "ingest": {"listen": "127.0.0.1:0", "sqs": {"queue_url": queue, "aws_region": REGION, **source}},
        "admin": {"listen": "127.0.0.1:0"},
        "batch": {"max_age": 0.05},
        "delivery": {"backoff_base": 0.01, "backoff_cap": 0.05, "shutdown_timeout": 5},
    }
    return Settings.model_validate(tree | sections)


# --- the contract of sources ---


@contract.without_places
@asynccontextmanager
async def sqs(directory: Path) -> AsyncIterator[Source]:
    """Of one after the other: several that ask at once get messages in any order."""
    with pytest.MonkeyPatch.context() as patch:
        aws = start_aws(patch)
        kept = directory / "queue"
        if not kept.exists():
            kept.write_text(make_queue(aws))
            send(aws, kept.read_text(), contract.EVENTS)
        section = SqsConfig(queue_url=kept.read_text(), aws_region=REGION, pollers=1)
        async with (
            contract.journal(directory) as journal,
            make_client(Settings(), max_connections=8) as client,
        ):
            source = SqsSource(
                "events",
                section,
                SqsQueue(section, client, SystemClock(), wait_s=1),
                journal,
                clock=SystemClock(),
                rng=random.Random(0),
                warn=print,
                chunk_messages=7,
            )
            await source.open()
            try:
                yield source
            finally:
                await source.close()


async def test_it_keeps_the_contract_of_sources(tmp_path: Path) -> None:
    for number, test in enumerate(
        (
            contract.test_events_come_in_order_and_each_chunk_has_a_receipt_that_counts_them,
            contract.test_a_restart_goes_on_at_the_first_chunk_with_an_unresolved_event,
            contract.test_what_is_resolved_after_it_was_stopped_is_acknowledged,
            contract.test_stop_ends_it_also_while_it_waits_for_more,
        )
    ):
        directory = tmp_path / str(number)
        directory.mkdir()
        await test(tmp_path=directory, opened=sqs)


# --- the service ---


async def test_events_of_a_rule_of_eventbridge_come_out_of_their_envelopes(tmp_path: Path, aws: Aws) -> None:
    """The envelope's id is the event's; what is none is a dead letter with its message, and deleted."""
    queue = make_queue(aws)
    arn = aws.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    bridge, bus = aws.client("events"), aws.name()
    bridge.create_event_bus(Name=bus)
    bridge.put_rule(Name="all", EventBusName=bus, EventPattern='{"source":["genesys"]}')
    target = {"Id": "1", "Arn": arn["Attributes"]["QueueArn"]}
    bridge.put_targets(Rule="all", EventBusName=bus, Targets=[target])
    for one in events(12):
        entry = {"Source": "genesys", "DetailType": "v2.x", "Detail": one.decode(), "EventBusName": bus}
        assert not bridge.put_events(Entries=[entry])["FailedEntryCount"]
    send(aws, queue, [b"no envelope", b'{"detail":{"x":1}}'])
    source = {"pollers": 1, "unwrap": "detail", "unwrap_fields": {"eventId": "id", "eventSource": "source"}}
    async with EventApi() as api:
        more = {"schema": {"name": _schema(tmp_path)}, "sinks": {"a": {"type": "ingest_api"}}}
        given = settings(tmp_path, api.url, queue, source, **more)
        async with running(given, IMPATIENT) as service:
            await service.settled(14)
            await empty(aws, queue, service)
            read_s = service.service.brokers.feeds[0].source._queue._client._timeout.read  # type: ignore[attr-defined]
            assert read_s > 20, "SQS says nothing for so long while a request waits"
            found = (await _status(service))["sources"]
            assert [(one["name"], one["connected"], one["messages"]) for one in found] == [
                ("sqs.sqs", True, 14)
            ]
            assert await service.metric("ingestd_source_messages_total") == 14
            assert [(one["name"], one["accepted"]) for one in producers_of(service)] == [("sqs.sqs", 12)]
        got = [json.loads(one) for one in api.events]
        assert sorted(one["interactionId"] for one in got) == sorted(f"i-{n:06}" for n in range(12))
        assert len({one["eventId"] for one in got}) == 12
        assert {one["eventSource"] for one in got} == {"genesys"}
    buried = sorted(letters(tmp_path), key=lambda one: len(one["payload"]))
    assert [one["payload"] for one in buried] == [b"no envelope", b'{"x":1}'][::-1]
    assert f"of {queue}" in buried[0]["detail"]
    assert "unwrap" in buried[1]["detail"]
    assert "message " in buried[1]["detail"]


def _schema(directory: Path) -> str:
    path = directory / "schema.json"
    path.write_text('{"type":"object","required":["interactionId"]}')
    return str(path)


async def _status(service: Running) -> dict[str, Any]:
    from ingestd.app.status import describe

    return json.loads(json.dumps(describe(service.service)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("spool", [False, True])
async def test_a_message_is_deleted_when_its_events_are_settled_or_in_the_spool(
    tmp_path: Path, aws: Aws, spool: bool
) -> None:
    gate = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    queue = make_queue(aws)
    send(aws, queue, [*events(20), INVALID, event(0)])
    send(aws, queue, [b"\n".join(events(3, first=20))])
    async with EventApi(answer) as api:
        given = settings(tmp_path, api.url, queue, {"spool": spool, "format": "ndjson"})
        async with running(given, IMPATIENT) as service:
            await until(lambda: service.ledger["accepted"] == 25 and api.batches, service.task)
            if spool:
                await empty(aws, queue, service)
            else:
                await asyncio.sleep(0.2)  # time to do wrong in
                assert 1 < left(aws, queue) <= 23
            gate.set()
            await service.settled(25)
            await empty(aws, queue, service)
            assert (service.ledger["rejected"], service.ledger["duplicate"]) == (1, 1)
        assert sorted(api.events) == events(23)
        once_each(api.batches)


async def test_a_fifo_queue_keeps_the_order_of_its_groups(tmp_path: Path, aws: Aws) -> None:
    queue = make_queue(aws, FifoQueue="true", ContentBasedDeduplication="true")
    for number in range(24):
        send(aws, queue, [event(number, note=f"g{number % 2}")], MessageGroupId=f"g{number % 2}")
    async with EventApi() as api:
        more = {"delivery": {"order_by": "attributes.note"}, "batch": {"max_events": 3}}
        async with running(settings(tmp_path, api.url, queue, {"spool": True}, **more), IMPATIENT) as service:
            await service.settled(24)
            await empty(aws, queue, service)
        for group in (b"g0", b"g1"):
            mine = [one for one in api.events if group in one]
            assert mine == sorted(mine)


@pytest.mark.slow(
    "tests/process/sources/sqs/test_sqs.py::test_it_keeps_the_contract_of_sources",
    "tests/process/sources/sqs/test_sqs.py::test_a_message_is_deleted_when_its_events_are_settled_or_in_the_spool",
    "tests/process/sources/nats/test_kill.py::test_every_message_arrives_once_and_in_order_whoever_is_killed",
)
@pytest.mark.timeout(patience_of_test(120))
async def test_every_event_arrives_once_however_often_it_is_killed(tmp_path: Path, aws: Aws) -> None:
    """What was on its way comes again after its visibility, and is known by its events' keys. The second life
    deletes what is in the spool, the others what is delivered."""
    rng, place, queue = random.Random(4), Place(tmp_path), make_queue(aws)
    place.env = {"INGESTD_BATCH_MAX_EVENTS": "20", "INGESTD_DELIVERY_MAX_IN_FLIGHT": "3"}
    path = place / "ingestd.toml"
    source = f'[ingest.sqs]\nqueue_url = "{queue}"\naws_region = "{REGION}"\nvisibility = 2\n'
    sent: list[bytes] = []
    async with Keeper(most_s=0.02) as api:
        for life in range(6 if FUZZ else 3):
            more = events(60, first=len(sent))
            sent += more
            path.write_text(f"{source}spool = {str(life % 2 == 1).lower()}\n")
            enough = len(api.taken) + rng.randrange(2, 6)
            async with serve(place, api, "--config", path) as serving:
                await asyncio.to_thread(send, aws, queue, more)
                async with asyncio.timeout(patience(30)):
                    while len(api.taken) < enough:  # noqa: ASYNC110
                        await asyncio.sleep(0.005)
                await serving.kill()
            api.life = life + 2
        async with serve(place, api, "--config", path) as serving, asyncio.timeout(patience(60)):
            await empty(aws, queue)
            final = await serving.until_empty()
            await serving.stop()
    arrived = [one for batch in once_each([r for _, r in api.taken]).values() for one in batch]
    assert Counter(arrived) == Counter(sent)
    assert final["ledger"]["in_flight"] == 0


# --- ingestd check ---


async def found(tmp_path: Path, aws: Aws, url: str, more: str = "") -> list[tuple[str, str]]:
    (tmp_path / "c.toml").write_text(
        f'{more}\n[ingest.sqs]\nqueue_url = "{url}"\naws_region = "{REGION}"\nvisibility = "10m"\n'
    )
    report = Report()
    async with EventApi() as api:
        given = {
            ("api", "url"): api.url,
            ("api", "no_auth"): True,
            ("state", "dir"): str(tmp_path / "state"),
            ("ingest", "listen"): "127.0.0.1:0",
            ("admin", "listen"): "127.0.0.1:0",
        }
        async for _finding in check_all(report, str(tmp_path / "c.toml"), given, online=True, environ={}):
            pass
    return [(str(one.level), one.text) for one in report.findings if one.check.startswith("sqs")]


def told(findings: list[tuple[str, str]], level: str, words: str) -> bool:
    return any(one == level and words in text for one, text in findings)


async def test_what_a_queue_may_lose_is_told(tmp_path: Path, aws: Aws) -> None:
    aside = make_queue(aws)
    arn = aws.client("sqs").get_queue_attributes(QueueUrl=aside, AttributeNames=["QueueArn"])
    policy = {"deadLetterTargetArn": arn["Attributes"]["QueueArn"], "maxReceiveCount": 2}
    queue = make_queue(aws, MessageRetentionPeriod="3600", RedrivePolicy=json.dumps(policy))
    send(aws, queue, events(3))
    findings = await found(tmp_path, aws, queue)
    assert told(findings, "ok", "3 messages to come, 0 on their way, in any order")
    assert told(findings, "warn", "deletes messages after 1h")
    assert told(findings, "FAIL", "SQS moves a message away that was given 2 times")
    assert told(findings, "warn", "window.max_age (10m) is shorter than twice the visibility (10m)")
    assert told(findings, "warn", "a request has room for 500000")
    policy["maxReceiveCount"] = 50
    aws.client("sqs").set_queue_attributes(
        QueueUrl=queue, Attributes={"RedrivePolicy": json.dumps(policy), "MessageRetentionPeriod": "345600"}
    )
    findings = await found(tmp_path, aws, queue, '[window]\nmax_age = "1h"')
    assert [level for level, _ in findings] == ["ok", "ok", "ok", "warn", "warn"]
    assert told(findings, "warn", "given 50 times")
    taken = aws.client("sqs").receive_message(QueueUrl=queue, AttributeNames=["ApproximateReceiveCount"])
    assert taken["Messages"][0]["Attributes"]["ApproximateReceiveCount"] == "1", "the check takes no message"
    assert told(await found(tmp_path, aws, queue + "x"), "FAIL", "there is no queue")
    assert told(await found(tmp_path, aws, "http://127.0.0.1:9/1/q"), "FAIL", "http://127.0.0.1:9/1/q: ")
