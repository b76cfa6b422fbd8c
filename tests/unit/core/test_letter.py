from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.letter import fingerprint
from ingestd.core.reasons import Reason
from tests.each import each


@each(
    ("one", "other"),
    [
        ("line 17: bad", "line 4: bad"),
        ("'a' is not one of 'x'", "'b' is not one of 'x'"),
        ('id "1b": no', 'id "2c": no'),
        (
            "request 123e4567-e89b-12d3-a456-426614174000 refused",
            "request 00000000-0000-0000-0000-abcdefabcdef refused",
        ),
        ("same\nbody 1", "same\nanother body"),
        (
            '422 {"status":422,"code":"bad.type","message":"no type \\"a\\" at 7","contextId":"8f2a-1"}',
            '422 {"status":422,"code":"bad.type","message":"no type \\"b\\" at 9","contextId":"77","x":[1]}',
        ),
        ("", ""),
    ],
)
def test_failures_that_differ_in_variable_parts_are_one_group(one: str, other: str) -> None:
    assert fingerprint(Reason.REFUSED, one) == fingerprint(Reason.REFUSED, other)


@each(("reason", "detail"), [(Reason.INVALID, "queueId: missing"), (Reason.REFUSED, "skill: missing")])
def test_failures_of_another_reason_or_kind_are_another_group(reason: Reason, detail: str) -> None:
    assert fingerprint(reason, detail) != fingerprint(Reason.REFUSED, "queueId: missing")


@each(
    ("one", "other", "same"),
    [
        ("address1: required, but missing", "address2: required, but missing", False),
        ("items[3].id: required, but missing", "items[17].id: required, but missing", True),
        ("items/3/id: required, but missing", "items/17/id: required, but missing", True),
        ("kind: not one of 'A', found 'HOLD1'", "kind: not one of 'A', found 'RETRIEVE'", True),
        ("a1: missing; b: missing", "a2: missing; b: missing", False),
        ("not JSON at byte 17", "not JSON at byte 4", True),
    ],
)
def test_of_an_invalid_event_the_names_of_fields_tell_causes_apart(one: str, other: str, same: bool) -> None:
    assert (fingerprint(Reason.INVALID, one) == fingerprint(Reason.INVALID, other)) is same


def test_a_fingerprint_begins_with_its_reason() -> None:
    assert fingerprint(Reason.GAVE_UP, "503 after 9 attempts") == "gave_up: 503 after # attempts"


def test_the_group_of_an_answer_in_json_can_be_read() -> None:
    answer = '422 {"status":422,"code":"bad.type","message":"no such type: order-7","contextId":"8f2a-1"}'
    said = "refused: 422 code: bad.type, message: no such type: order-#"
    assert fingerprint(Reason.REFUSED, answer) == said
    other = answer.replace("bad.type", "bad.time")
    assert fingerprint(Reason.REFUSED, other) != said
    assert fingerprint(Reason.REFUSED, '500 {"a":1,"b":{"c":"x"}}') == "refused: 500 {a, b, c}"


@given(st.text())
def test_any_detail_has_a_short_fingerprint_of_one_line(detail: str) -> None:
    found = fingerprint(Reason.INVALID, detail)
    assert "\n" not in found
    assert len(found) <= 120 + len("invalid: ")
