"""Fault 56 of the tutorial on topic subscriptions: what a Lambda callback proves, and what it tells."""

import io
import json
import zipfile
from typing import Any

import httpx
import pytest

from ingestd.control.engine.resource import RemoteResource
from ingestd.control.subscription.lambda_callback import MAX_PAYLOAD_BYTES, call_back, change_id
from ingestd.control.subscription.subscription import SubscriptionKind
from ingestd.core.errors import Unreachable, UserError
from ingestd.telemetry.audit_entry import AuditEntry
from tests.aws import ACCOUNT, SECRET_KEY, Aws, clear_environment, start_aws
from tests.integration.control.world import World
from tests.machine import patience
from tests.receiver import Receiver, Reply, in_turn

pytestmark = pytest.mark.anyio

FOUND = RemoteResource("subscription", "cx", "id-1", {"name": "cx", "enabled": True}, state="ACTIVE")
QUEUED = Reply(202, body=b"")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    aws = start_aws(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    httpx.post(
        f"{aws.url}/moto-api/config",
        json={"lambda": {"use_docker": False}},
        trust_env=False,
        verify=False,
        timeout=patience(30),
    )
    return aws


def make_function(aws: Aws) -> str:
    """Its ARN."""
    name = aws.name()
    policy = {"Version": "2012-10-17", "Statement": []}
    role = aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(policy))
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("main.py", "def handle(event, context): return event")
    made = aws.client("lambda").create_function(
        FunctionName=name,
        Role=role["Role"]["Arn"],
        Runtime="python3.12",
        Handler="main.handle",
        Code={"ZipFile": code.getvalue()},
    )
    return str(made["FunctionArn"])


def function_at(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, region: str = "eu-central-1") -> str:
    clear_environment(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", receiver.url)
    return f"arn:aws:lambda:{region}:{ACCOUNT}:function:sync:live"


async def test_a_callback_is_queued_and_never_called_done(aws: Aws) -> None:
    world = World()
    arn = make_function(aws)
    its_change = await call_back(world.context(), FOUND, function_arn=arn, action="register_subscription")
    [note] = world.notes
    assert AuditEntry(note.entry) is AuditEntry.CALLBACK_QUEUED
    assert (note.fields["status"], note.fields["change_id"]) == ("queued", its_change)
    assert "done" not in str(note).lower()


async def test_the_invocation_is_an_event_to_the_region_of_the_arn(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver(in_turn(QUEUED)) as aws:
        arn = function_at(aws, monkeypatch, region="ap-south-1")  # the environment says eu-central-1
        for _ in range(2):
            await call_back(World().context(), FOUND, function_arn=arn, action="register_subscription")
    first, second = aws.requests
    assert first.headers["x-amz-invocation-type"] == "Event"
    assert "/ap-south-1/lambda/aws4_request" in first.headers["authorization"]
    assert first.json() == {
        "action": "register_subscription",
        "changeId": change_id("register_subscription", FOUND),
        "data": {"id": "id-1", "kind": "subscription", "status": "ACTIVE", "name": "cx", "enabled": True},
    }
    assert first.body == second.body  # a repetition is to be known as one


async def test_another_change_has_another_id() -> None:
    changed = RemoteResource("subscription", "cx", "id-1", {"name": "cx", "enabled": False}, state="INACTIVE")
    ids = {change_id("a", FOUND), change_id("b", FOUND), change_id("a", changed)}
    assert len(ids) == 3
    assert change_id("a", FOUND) in ids


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(200), "answered 200, which is not 202"),
        (
            Reply(
                404, {"x-amzn-errortype": "ResourceNotFoundException"}, b'{"Message": "Function not found"}'
            ),
            "404 ResourceNotFoundException: Function not found",
        ),
        (
            Reply(
                403, {"x-amzn-errortype": "AccessDeniedException"}, b'{"Message": "no lambda:InvokeFunction"}'
            ),
            "403 AccessDeniedException: no lambda:InvokeFunction",
        ),
    ],
)
async def test_what_is_not_202_is_a_failure(monkeypatch: pytest.MonkeyPatch, reply: Reply, told: str) -> None:
    world = World()
    async with Receiver(in_turn(reply)) as aws:
        with pytest.raises(UserError, match=told):
            await call_back(world.context(), FOUND, function_arn=function_at(aws, monkeypatch), action="a")
    assert [note.entry for note in world.notes] == ["CALLBACK_FAILED"]
    assert told in str(world.notes[0].fields["error"])
    assert SECRET_KEY not in str(world.notes)


async def test_a_busy_lambda_is_asked_again_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Reply(429, {"x-amzn-errortype": "TooManyRequestsException"}, b'{"Message": "Rate Exceeded."}')
    async with Receiver(in_turn(busy, QUEUED)) as aws:
        await call_back(World().context(), FOUND, function_arn=function_at(aws, monkeypatch), action="a")
    assert len(aws.requests) == 2
    assert aws.requests[0].body == aws.requests[1].body


async def test_a_payload_that_is_too_large_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    fields: dict[str, Any] = {"name": "x" * MAX_PAYLOAD_BYTES}
    async with Receiver(in_turn(QUEUED)) as aws:
        arn = function_at(aws, monkeypatch)
        with pytest.raises(UserError, match="262144 are possible"):
            await call_back(
                World().context(), RemoteResource("s", "k", "i", fields), function_arn=arn, action="a"
            )
        assert not aws.requests


async def test_without_credentials_nothing_is_sent_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver(in_turn(QUEUED)) as aws:
        arn = function_at(aws, monkeypatch)
        clear_environment(monkeypatch)
        with pytest.raises(Unreachable, match="was not queued: Unable to locate credentials"):
            await call_back(World().context(), FOUND, function_arn=arn, action="a")
        assert not aws.requests


async def test_where_nobody_listens_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as aws:
        arn = function_at(aws, monkeypatch)
    with pytest.raises(Unreachable, match="was not queued: Could not connect"):
        await call_back(World().context(), FOUND, function_arn=arn, action="a", attempts=1)


async def test_a_subscription_stays_and_is_known_though_its_callback_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, world = SubscriptionKind(), World()
    async with Receiver(in_turn(Reply(400), QUEUED)) as aws:
        table = {
            "topic_arn": f"arn:aws:events:eu-central-1:{ACCOUNT}:topic/cx",
            "filter_policy": {"a": ["b"]},
            "role_arn": f"arn:aws:iam::{ACCOUNT}:role/cx",
            "callback": function_at(aws, monkeypatch),
        }
        wanted = kind.parse("cx", table)
        made = await kind.create(world.context(), wanted, {})
        assert made.id
        assert not made.settled  # its callback is owed
        with pytest.raises(UserError, match="was refused"):
            await kind.settle(world.context(), made, wanted)
        again = await kind.create(world.context(), wanted, {})
        assert again.id == made.id
        await kind.settle(world.context(), again, wanted)
    assert [note.entry for note in world.notes] == [
        "SUBSCRIPTION_CREATED",
        "CALLBACK_FAILED",
        "CALLBACK_QUEUED",
    ]
