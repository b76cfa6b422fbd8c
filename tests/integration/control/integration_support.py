"""What the tests of integrations share."""

from typing import Any

from ingestd.control.engine.resource import RemoteResource, Wanted
from ingestd.control.integration.integration import Integration
from tests.integration.control.target_support import Session
from tests.integration.control.world import World

KIND = Integration()
TOPICS = ["v2.users.{id}.presence", "v2.detail.events.conversation.{id}.acd.start"]
TABLE = {
    "aws_account_id": "123456789012",
    "aws_region": "eu-central-1",
    "suffix": "orders-1",
    "event_filter": TOPICS,
}
PROPERTIES = {
    "awsAccountId": "123456789012",
    "awsAccountRegion": "eu-central-1",
    "eventSourceSuffix": "orders-1",
    "eventFilter": TOPICS,
}


def parse(**changes: Any) -> Wanted:
    return KIND.parse("main", TABLE | changes)


async def make(world: World | Session, wanted: Wanted) -> RemoteResource:
    context = world.context()
    return await KIND.settle(context, await KIND.create(context, wanted, {}), wanted)


async def only(world: World) -> RemoteResource:
    [found] = await KIND.read(world.context())
    return found


def config(world: World) -> dict[str, Any]:
    return world.thing("integrations", "main").config
