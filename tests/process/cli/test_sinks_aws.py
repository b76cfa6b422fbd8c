"""EventBridge and S3 through the whole pipeline, against moto."""

import asyncio
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import event_api
from tests.aws import REGION, SECRET_KEY, Aws, start_aws
from tests.integration.lake.support import lines_of
from tests.process.cli.sink_support import replay
from tests.process.cli.support import Place
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio

EVENTS = event_api.events(30)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    return start_aws(monkeypatch)


def bus_with_queue(aws: Aws) -> tuple[str, str]:
    """A bus whose events all go to a queue: its name and the queue's URL."""
    events, sqs, name = aws.client("events"), aws.client("sqs"), aws.name()
    events.create_event_bus(Name=name)
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name=name, EventBusName=name, EventPattern='{"source":["ingestd"]}')
    events.put_targets(Rule=name, EventBusName=name, Targets=[{"Id": "1", "Arn": arn}])
    return name, queue


def received(aws: Aws, queue: str) -> list[str]:
    """The interaction ids of what arrived, in order."""
    sqs, found = aws.client("sqs"), []
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        found += [json.loads(message["Body"])["detail"]["interactionId"] for message in messages]
        for message in messages:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return sorted(found)


class Gate:
    """Stands before moto and refuses entries by their number: every ninth for good, others once."""

    def __init__(self, aws: Aws) -> None:
        self._events = aws.client("events")
        self._seen: set[int] = set()
        self.largest = 0

    async def answer(self, request: Request) -> Reply:
        assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 ")
        entries = request.json()["Entries"]
        self.largest = max(self.largest, len(entries))
        codes = [self._refuse(json.loads(entry["Detail"])["interactionId"]) for entry in entries]
        good = [entry for entry, code in zip(entries, codes, strict=True) if not code]
        if good:
            await asyncio.to_thread(self._events.put_events, Entries=good)
        results: list[dict[str, str]] = [
            {"ErrorCode": code, "ErrorMessage": "said by AWS"} if code else {"EventId": "x"} for code in codes
        ]
        body = {"FailedEntryCount": len(entries) - len(good), "Entries": results}
        return Reply(200, body=json.dumps(body).encode())

    def _refuse(self, name: str) -> str:
        number = int(name.removeprefix("i-"))
        if number % 9 == 4:
            return "MalformedDetail"
        if number % 5 == 0 and number not in self._seen:
            self._seen.add(number)
            return "ThrottlingException" if number % 2 else "InternalFailure"
        return ""


async def test_failed_entries_alone_are_sent_again_and_refused_ones_are_dead_letters(
    place: Place, aws: Aws
) -> None:
    bus, queue = bus_with_queue(aws)
    gate = Gate(aws)
    async with Receiver(gate.answer) as receiver:
        sink = {"type": "eventbridge", "url": receiver.url + "/", "bus": bus, "aws_region": REGION}
        done = await replay(place, EVENTS, {"bus": sink}, batch={"max_events": 100})
    refused = EVENTS[4::9]
    assert sorted(done.refused) == refused
    assert {letter["detail"] for letter in done.letters} == {"MalformedDetail: said by AWS"}
    assert received(aws, queue) == [f"i-{n:06}" for n in range(30) if n % 9 != 4]
    assert gate.largest == 10
    assert SECRET_KEY not in json.dumps([done.report, done.warnings, place.audit()], default=str)


async def test_events_reach_a_bus_of_moto_and_the_lakes_on_s3(place: Place, aws: Aws) -> None:
    bus, queue = bus_with_queue(aws)
    s3, bucket = aws.client("s3"), aws.name()
    await asyncio.to_thread(
        s3.create_bucket, Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    s3_url = {"type": "lake", "aws_region": REGION, "endpoint_url": aws.url}
    sinks = {
        "bus": {"type": "eventbridge", "url": aws.url + "/", "bus": bus, "aws_region": REGION},
        "lines": {**s3_url, "url": f"s3://{bucket}/lines", "of": "accepted"},
        "columns": {**s3_url, "url": f"s3://{bucket}/columns", "of": "bus", "format": "parquet"},
    }
    done = await replay(place, EVENTS, sinks)
    assert done.report["exit_code"] == 0, done
    assert received(aws, queue) == [f"i-{n:06}" for n in range(30)]
    found = files(s3, bucket)
    lines = [line for key, body in found.items() if key.startswith("lines/") for line in lines_of(body)]
    assert sorted(lines) == EVENTS
    tables = [
        pq.read_table(pa.BufferReader(body)) for key, body in found.items() if key.startswith("columns/")
    ]
    rows = pa.concat_tables(tables).to_pylist()
    assert sorted(row["event"].encode() for row in rows) == EVENTS
    assert all(row["request_id"] and row["latency_ms"] > 0 for row in rows)


def files(s3: Any, bucket: str) -> dict[str, bytes]:
    """Those that hold events; all objects lie in folders by date, hour and type."""
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert all("/date=2026-01-01/hour=09/type=routing.interaction.queue/" in key for key in keys)
    return {
        key: s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        for key in keys
        if not key.endswith(".manifest.json")
    }
