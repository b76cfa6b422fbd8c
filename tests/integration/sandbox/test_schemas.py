"""The sandbox with the schemas that it has in service, and the sample input that they judge."""

import gzip
import json
from pathlib import Path

import pytest

from ingestd.sandbox import sample
from ingestd.schemas.interaction import InteractionSchema
from tests.integration.sandbox.conftest import Start, batch

CLOUD_EVENT = b'{"specversion":"1.0","id":"1","source":"/s","type":"t"}'


def test_the_sample_has_as_many_invalid_events_as_it_says(tmp_path: Path) -> None:
    counts = sample.write_sample(tmp_path / "s.gz", 5_000)
    content = gzip.decompress((tmp_path / "s.gz").read_bytes())[3:]
    events = [line.rstrip(b"\r") for line in content.split(b"\n") if line]
    schema = InteractionSchema()
    refusals = [refusal for event in events if (refusal := schema.explain(event)) is not None]
    assert len(refusals) == counts.invalid
    # One of each kind, and the one that is said is the one that was made.
    fields = {error.field for refusal in refusals for error in refusal.errors}
    assert {"routingMetadata.actionType", "eventTime", "routingMetadata", "schemaVersion"} <= fields
    assert {str(refusal.reason) for refusal in refusals} == {"invalid", "unparsable"}


@pytest.mark.anyio
async def test_interaction_events_are_checked(start: Start) -> None:
    client = await start(schema="interaction")
    good, other = list(sample.sample_events(2, duplicates=0, invalid=0))
    assert (await client.send(batch(good, other))).status_code == 200
    bad = other.replace(b'"actionType":"', b'"actionType":"X')
    answer = await client.send(batch(good, bad))
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert (error["index"], error["field"]) == (1, "routingMetadata.actionType")
    assert error["eventId"] == json.loads(other)["interactionId"]
    assert await client.events() == [good, other]


@pytest.mark.anyio
async def test_cloud_events_are_checked(start: Start) -> None:
    client = await start(schema="cloudevent")
    assert (await client.send(batch(CLOUD_EVENT))).status_code == 200
    answer = await client.send(batch(CLOUD_EVENT.replace(b'"1.0"', b'"9"')))
    assert [error["eventId"] for error in answer.json()["errors"]] == ["1"]
