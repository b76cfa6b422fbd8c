"""A plan says which topics the platform does not have."""

from dataclasses import replace
from typing import Any

import pytest

from ingestd.control.engine.document import make_document
from ingestd.control.trigger.topics import find_unknown
from ingestd.core.errors import Unreachable
from tests.integration.control.target_support import open_sandbox
from tests.integration.control.world import World

pytestmark = pytest.mark.anyio

GOOD, BAD = "v2.users.{id}.presence", "v2.users.{id}.presense"
TREE = {
    "trigger": {name: {"topic_name": topic, "workflow_id": "w"} for name, topic in (("a", GOOD), ("b", BAD))},
    "integration": {
        "main": {
            "aws_account_id": "123456789012",
            "aws_region": "eu-central-1",
            "suffix": "s",
            "event_filter": [GOOD, BAD],
        }
    },
}


async def test_a_topic_that_is_not_there_is_told_with_the_one_that_was_meant() -> None:
    async with open_sandbox() as session:
        lines = await find_unknown(session.context(), make_document(TREE).wanted)
    said = f"the platform has no topic {BAD}: did you mean {GOOD}?"
    assert lines == [f"trigger b: {said}", f"integration main: {said}"]


class Nobody:
    async def list(self, path: str, **_: Any) -> list[Any]:
        raise Unreachable(path)


async def test_where_nobody_can_be_asked_nothing_is_said() -> None:
    context = replace(World().context(), api=Nobody())  # type: ignore[arg-type]
    assert await find_unknown(context, make_document(TREE).wanted) == []
