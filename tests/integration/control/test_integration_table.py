from collections.abc import Mapping
from typing import Any

import pytest

from ingestd.core.errors import UserError
from tests.each import each
from tests.integration.control.integration_support import KIND, TABLE, TOPICS, parse


def test_a_table_becomes_what_is_wanted_with_its_defaults() -> None:
    wanted = KIND.parse("main", TABLE | {"name": "Orders", "after": ["target.a"], "protected": True})
    assert (wanted.kind, wanted.name, wanted.key) == ("integration", "main", "Orders")
    assert wanted.after == {("target", "a")}
    assert wanted.protected
    assert wanted.fields == {**TABLE, "event_filter": sorted(TOPICS), "notes": "", "enabled": True}


def test_an_account_may_be_given_as_a_number() -> None:
    assert parse(aws_account_id=123456789012).fields["aws_account_id"] == "123456789012"


def test_topics_are_a_set() -> None:
    assert parse(event_filter=TOPICS).fields == parse(event_filter=[*reversed(TOPICS), TOPICS[0]]).fields


@each(
    ("changes", "said"),
    [
        ({"aws_account_id": "12345678901"}, "aws_account_id: "),
        ({"aws_account_id": "123456789012\n"}, "aws_account_id: "),
        ({"aws_account_id": "١٢٣٤٥٦٧٨٩٠١٢"}, "aws_account_id: "),
        ({"aws_account_id": 12345678901}, "aws_account_id: expected a valid string"),
        ({"aws_region": "frankfurt"}, "aws_region: "),
        ({"suffix": "x" * 65}, "suffix: "),
        ({"suffix": "a/b"}, "suffix: "),
        ({"suffix": ""}, "suffix: "),
        ({"event_filter": []}, "event_filter: "),
        ({"event_filter": "v2.users.{id}.presence"}, "event_filter: "),
        ({"event_filter": ["conversation"]}, r"event_filter.0: "),
        ({"event_filter": ["v2.users.{id}.presence\n"]}, r"event_filter.0: "),
        ({"notes": 1}, "notes: "),
        ({"enabled": "yes"}, "enabled: "),
        ({"after": ["target"]}, 'after.0: expected "kind.NAME"'),
        ({"name": "two\nlines"}, "name: "),
        ({"name": ""}, "name: "),
        ({"suffx": "a"}, "suffx: there is no such field: did you mean suffix"),
    ],
)
def test_what_is_wrong_in_a_table_is_said_with_kind_name_and_field(
    changes: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=f"^integration main: {said}"):
        parse(**changes)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(UserError, match=r"^integration main: suffix: required, but missing$"):
        KIND.parse("main", {name: value for name, value in TABLE.items() if name != "suffix"})


@each("region", ["us-east-1", "us-gov-west-1", "cn-north-1", "us-iso-east-1", "eusc-de-east-1"])
def test_regions_of_all_partitions_are_accepted(region: str) -> None:
    assert parse(aws_region=region).fields["aws_region"] == region
