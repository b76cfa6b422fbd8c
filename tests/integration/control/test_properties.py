"""A plan says which properties of an integration its type does not take."""

from dataclasses import replace
from typing import Any

import pytest

from ingestd.control.engine.document import make_document
from ingestd.control.integration.properties import find_wrong_properties
from ingestd.core.errors import Unreachable
from tests.each import each
from tests.integration.control.target_support import open_sandbox
from tests.integration.control.test_converge import table
from tests.integration.control.world import World

pytestmark = pytest.mark.anyio
WEBHOOK = {"properties": {"invocationRatePerMinute": 0, "invocationRate": 7}}
TREE = {"integration": {"main": table("integration", 1)}, "webhook": {"hook": WEBHOOK, "good": {}}}


async def test_each_property_is_told_with_what_is_allowed() -> None:
    async with open_sandbox() as session:
        lines = await find_wrong_properties(session.context(), make_document(TREE).wanted)
    assert sorted(lines) == [
        "webhook hook: the platform does not take invocationRatePerMinute: 0 is less than the minimum of 1",
        "webhook hook: the platform has no property invocationRate: did you mean invocationRatePerMinute?",
    ]


class Tells:
    """An API that answers with any schema."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema

    async def get(self, path: str, **_: Any) -> Any:
        if isinstance(self.schema, Exception):
            raise self.schema
        return self.schema


@each(
    ("schema", "said"),
    [
        (
            {"properties": {"awsAccountRegion": {"enum": ["us-east-1", "us-west-2"]}}},
            '"us-east-1" or "us-west-2"',
        ),
        ({"properties": {"awsAccountId": {"type": "integer"}}}, 'is not of type "integer"'),
        ({"required": ["roleArn"], "properties": {}}, '"roleArn" is a required property'),
        ({"properties": {}, "additionalProperties": False}, "no property awsAccountId: there are none"),
        ({"properties": {"awsAccountId": {"$ref": "https://elsewhere.example/x"}}}, ""),
        ({"properties": {"awsAccountId": {"type": "strin"}}}, ""),
        ({"required": [], "properties": None}, ""),
        ([], ""),
        (Unreachable("x"), ""),
    ],
)
async def test_the_schema_of_the_moment_counts_and_what_is_none_says_nothing(schema: Any, said: str) -> None:
    context = replace(World().context(), api=Tells(schema))  # type: ignore[arg-type]
    lines = await find_wrong_properties(context, make_document({"integration": TREE["integration"]}).wanted)
    assert bool(lines) is bool(said)
    assert said in "".join(lines)
