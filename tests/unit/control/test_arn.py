import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.control.engine.arn import (
    Arn,
    parse_bus_arn,
    parse_function_arn,
    parse_role_arn,
    parse_topic_arn,
    source_of,
)
from ingestd.core.errors import UserError
from tests.each import each

ORG = "a1b2c3d4-1111-2222-3333-444455556666"
NAME = f"aws.partner/genesys.com/cloud/{ORG}/prod-events"
BUS = f"arn:aws:events:us-east-1:123456789012:event-bus/{NAME}"
SEED_BUS = "arn:aws:events:us-east-1:123456789012:partner-event-bus/aws.partner/genesys.com/123456789012/x"
ROLE = "arn:aws:iam::123456789012:role/genesys"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:sync"
TOPIC = "arn:aws:events:us-east-1:123456789012:topic/genesys-cx-events"

PLACES = [
    ("aws", "us-east-1"),
    ("aws-us-gov", "us-gov-west-1"),
    ("aws-cn", "cn-northwest-1"),
    ("aws-iso", "us-iso-east-1"),
    ("aws-iso-b", "us-isob-east-1"),
    ("aws-iso-e", "eu-isoe-west-1"),
    ("aws-iso-f", "us-isof-south-1"),
    ("aws-eusc", "eusc-de-east-1"),
]


def test_a_genuine_partner_bus_is_taken_apart_with_its_name_whole() -> None:  # fault 19
    arn = parse_bus_arn(BUS, where="destination x", partner=True)
    assert arn == Arn("aws", "events", "us-east-1", "123456789012", "event-bus", NAME)
    assert arn.is_partner
    assert source_of(arn) == f"arn:aws:events:us-east-1::event-source/{NAME}"


def test_the_test_events_of_genesys_come_from_a_partner_of_another_name() -> None:
    name = NAME.replace("genesys.com", "genesys.com.test")
    assert parse_bus_arn(BUS.replace(NAME, name), where="x", partner=True).name == name


def test_the_shape_that_the_tutorial_asks_for_is_refused_by_its_resource() -> None:  # fault 19
    with pytest.raises(UserError, match=r"destination x: the resource .* expected event-bus/NAME"):
        parse_bus_arn(SEED_BUS, where="destination x")


@each(("partition", "region"), PLACES)
def test_every_partition_of_aws_is_accepted(partition: str, region: str) -> None:  # fault 52
    for text, parse in (
        (BUS, parse_bus_arn),
        (TOPIC, parse_topic_arn),
        (BUS, parse_topic_arn),
        (FUNCTION, parse_function_arn),
        (ROLE, parse_role_arn),
    ):
        there = text.replace("arn:aws:", f"arn:{partition}:").replace("us-east-1", region)
        assert parse(there, where="x").partition == partition


@each("name", ["r", "service-role/team/r", "a+=,.@_-b", "x/" * 200 + "r", "r" * 64])
def test_roles_have_paths_and_more_than_letters(name: str) -> None:  # fault 52
    assert parse_role_arn(f"arn:aws:iam::123456789012:role/{name}", where="x").name == name


@each("qualifier", ["", ":$LATEST", ":7", ":live_2", ":$LATEST.PUBLISHED"])
def test_functions_have_qualifiers(qualifier: str) -> None:
    assert parse_function_arn(FUNCTION + qualifier, where="x").name == f"sync{qualifier}"


PARSERS = [
    (parse_bus_arn, BUS),
    (parse_topic_arn, TOPIC),
    (parse_role_arn, ROLE),
    (parse_function_arn, FUNCTION),
]


@each(("parse", "good"), PARSERS)
@each("wrong", ["{}\n", "{}\r", " {}", "{}\x00", "{}é", "{}\u2028", "{} "])
def test_line_ends_blanks_and_foreign_letters_are_refused(parse, good: str, wrong: str) -> None:  # type: ignore[no-untyped-def]  # fault 52
    parse(good, where="x")
    with pytest.raises(UserError, match="no ARN has"):
        parse(wrong.format(good), where="x")


@each(
    ("parse", "text", "part"),
    [
        (parse_bus_arn, BUS.replace(":aws:", ":amazon:"), "partition"),
        (parse_bus_arn, BUS.replace(":events:", ":sns:"), "service"),
        (parse_bus_arn, BUS.replace("us-east-1", "useast"), "region"),
        (parse_bus_arn, BUS.replace("us-east-1", ""), "region"),
        (parse_bus_arn, BUS.replace("123456789012", "12345678901"), "account"),
        (parse_bus_arn, BUS.replace("123456789012", "١٢٣٤٥٦٧٨٩٠١٢"), "no ARN has"),
        (parse_bus_arn, BUS.replace("event-bus/", "event-bus"), "resource"),
        (parse_bus_arn, "arn:aws:events:us-east-1:123456789012:event-bus/", "name"),
        (parse_bus_arn, "arn:aws:events:us-east-1:123456789012:event-bus/aws.partner/genesys.com", "name"),
        (parse_bus_arn, "arn:aws:events:us-east-1:123456789012:event-bus/aws.partner//x/y", "name"),
        (parse_bus_arn, "arn:aws:events:us-east-1:123456789012:event-bus/a:b", "name"),
        (parse_role_arn, ROLE.replace("iam::", "iam:us-east-1:"), "region"),
        (parse_role_arn, ROLE.replace("role/", "user/"), "resource"),
        (parse_role_arn, f"{ROLE}/", "name"),
        (parse_role_arn, f"{ROLE}!", "name"),
        (parse_role_arn, f"{ROLE}{'x' * 64}", "name"),
        (parse_function_arn, f"{FUNCTION}:", "name"),
        (parse_function_arn, FUNCTION.replace(":aws:", ":aws-9:"), "partition"),
        (parse_role_arn, ROLE.replace(":aws:", ":aws-9:"), "partition"),
        (parse_function_arn, FUNCTION.replace("us-east-1", "usx-east-1"), "region"),
        (parse_function_arn, FUNCTION.replace("us-east-1", "us-east-12"), "region"),
        (parse_function_arn, FUNCTION.replace("us-east-1", "us-gov-iso-east-1"), "region"),
        (parse_function_arn, FUNCTION.replace("us-east-1", "us-north-east-1"), "region"),
        (parse_function_arn, FUNCTION.replace("us-east-1", "us-e-ast-1"), "region"),
        (parse_function_arn, f"{FUNCTION}:1:2", "name"),
        (parse_function_arn, FUNCTION.replace("function:", "layer:"), "resource"),
        (parse_topic_arn, TOPIC.replace("topic/", "rule/"), "topic/NAME or event-bus/NAME"),
        (parse_topic_arn, f"{TOPIC}/x", "name"),
        (parse_topic_arn, f"arn:aws:events:us-east-1:123456789012:topic/{'x' * 2000}", "at most 1600"),
        (parse_bus_arn, "genesys-bus", "is not a valid ARN"),
        (parse_bus_arn, 7, "as text"),
        (parse_bus_arn, None, "as text"),
    ],
)
def test_what_is_wrong_is_told_by_its_part(parse, text: object, part: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=r"^subscription s: ") as told:
        parse(text, where="subscription s")
    assert part in str(told.value)
    assert len(str(told.value)) < 400


def test_a_bus_of_ones_own_is_no_partners_bus() -> None:
    mine = "arn:aws:events:us-east-1:123456789012:event-bus/default"
    assert not parse_bus_arn(mine, where="x").is_partner
    with pytest.raises(UserError, match="partner event source"):
        parse_bus_arn(mine, where="x", partner=True)


# As the API models of AWS write them, to compare with (botocore: events, iam, lambda).
MODELS = [
    (
        parse_bus_arn,
        re.compile(r"arn:aws[\w-]*:events:[a-z]+-[a-z]+-[\w-]+:[0-9]{12}:event-bus/[/.\-_A-Za-z0-9]+"),
    ),
    (parse_role_arn, re.compile(r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+", re.ASCII)),
    (
        parse_function_arn,
        re.compile(
            r"arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:function:"
            r"[a-zA-Z0-9-_]+(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?",
            re.ASCII,
        ),
    ),
]


LETTERS = st.text("aZ9:/$.-_@+=,\n\x00é ", max_size=4)
PARTITIONS = st.from_regex(r"aws(-[a-z0-9]{1,4}){0,3}", fullmatch=True)
REGIONS = st.from_regex(r"[a-z]{1,4}(-(gov|iso[a-z]?|[a-z]{1,6})){0,3}-[0-9]{1,2}", fullmatch=True)


def assert_the_model_accepts_it_too(which: int, text: str) -> None:
    parse, model = MODELS[which]
    try:
        parse(text, where="x")
    except UserError:
        return
    assert model.fullmatch(text)


@given(which=st.sampled_from(range(3)), data=st.data())
def test_what_is_accepted_the_models_of_aws_accept_too(which: int, data: st.DataObject) -> None:
    good = (BUS, ROLE, FUNCTION)[which]
    at = data.draw(st.integers(0, len(good)))
    to = data.draw(st.integers(at, min(len(good), at + 4)))
    assert_the_model_accepts_it_too(which, good[:at] + data.draw(LETTERS) + good[to:])


@given(which=st.sampled_from(range(3)), partition=PARTITIONS, region=REGIONS)
def test_no_partition_and_region_are_accepted_that_the_models_of_aws_refuse(
    which: int, partition: str, region: str
) -> None:
    _, _, service, there, rest = (BUS, ROLE, FUNCTION)[which].split(":", 4)
    assert_the_model_accepts_it_too(which, f"arn:{partition}:{service}:{there and region}:{rest}")


@given(text=st.one_of(st.text(), st.text(":/arnws.-0123456789")))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    for parse in (parse_bus_arn, parse_topic_arn, parse_role_arn, parse_function_arn):
        with pytest.raises(UserError):
            parse(text, where="x")
