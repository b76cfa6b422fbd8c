"""Fault 55 of the tutorial on topic subscriptions: what asking proves, and where it is not done."""

from dataclasses import replace
from typing import Any

import pytest

from ingestd.control.subscription.subscription import SubscriptionKind
from ingestd.core.errors import UserError
from tests.each import each
from tests.integration.control.world import World
from tests.receiver import Hang, Receiver, Reply

pytestmark = pytest.mark.anyio

KIND = SubscriptionKind()
TABLE = {
    "topic_arn": "arn:aws:events:us-east-1:123456789012:topic/cx",
    "filter_policy": {"a": ["b"]},
}


async def reach(url: str, method: str = "HEAD", *, allow_private: bool = True, **options: Any) -> Any:
    """A subscription's create in a world of its own, and what was noted of it."""
    world = World()
    context = replace(world.context(**options), allow_private=allow_private)
    table = TABLE | {"destination_url": url, "check_destination": method}
    await KIND.create(context, KIND.parse("cx", table), {})
    return world.notes[0].fields


async def test_the_url_itself_is_asked_and_nothing_is_made_of_it() -> None:  # fault 55
    async with Receiver(lambda request: Reply(body=b"")) as there:
        fields = await reach(f"{there.url}/genesys/events?key=a%20b&x=1")
        await reach(f"{there.url}/events/")
    assert [(one.method, one.path) for one in there.requests] == [
        ("HEAD", "/genesys/events?key=a%20b&x=1"),
        ("HEAD", "/events/"),
    ]
    assert fields["destination_status"] == 200
    assert "whether it takes POST is not known" in fields["destination_proved"]


@each(
    ("method", "status", "proved"),
    [
        ("HEAD", 405, "but not to HEAD; whether it takes POST is not known"),
        ("HEAD", 404, "but not to HEAD; whether it takes POST is not known"),
        ("HEAD", 401, "wants credentials"),
        ("POST", 204, "it takes a POST of JSON"),
        ("POST", 403, "wants credentials"),
    ],
)
async def test_no_more_is_said_than_was_proved(method: str, status: int, proved: str) -> None:  # fault 55
    async with Receiver(lambda request: Reply(status, body=b"")) as there:
        fields = await reach(f"{there.url}/events", method)
    assert proved in fields["destination_proved"]
    assert fields["destination_status"] == status
    assert "what a role allows" in fields["not_proved"]


@each(
    ("method", "status", "told"),
    [
        ("HEAD", 503, "answers HEAD with 503"),
        ("HEAD", 302, "a redirect, which is not followed"),
        ("POST", 404, "answers POST with 404"),
        ("POST", 405, "answers POST with 405"),
    ],
)
async def test_what_cannot_be_a_receiver_is_told_and_nothing_made(
    method: str, status: int, told: str
) -> None:
    async with Receiver(lambda request: Reply(status, {"Location": "/elsewhere"}, b"")) as there:
        with pytest.raises(UserError, match=told):
            await reach(f"{there.url}/events", method)
        assert len(there.requests) == 1


async def test_where_nobody_answers_nothing_is_made() -> None:
    async with Receiver(lambda request: Hang()) as there:
        with pytest.raises(UserError, match="cannot connect to it from this machine"):
            await reach(f"{there.url}/events", deadline_s=0.2)


async def test_our_own_network_is_not_asked_unless_allowed() -> None:  # fault 55
    async with Receiver() as there:
        with pytest.raises(UserError, match="destination_url"):
            await reach(f"{there.url}/events", allow_private=False)
        with pytest.raises(UserError, match="internal address"):
            await reach(there.url.replace("http:", "https:"), "NONE", allow_private=False)
        assert not there.requests
    with pytest.raises(UserError, match="metadata"):
        await reach("https://169.254.169.254/latest/meta-data")


async def test_nobody_is_asked_where_that_is_wished() -> None:
    async with Receiver(lambda request: Reply(body=b"")) as there:
        fields = await reach(f"{there.url}/events", "NONE")
        assert not there.requests
    assert fields["destination_proved"] == "nothing: no request was made"
