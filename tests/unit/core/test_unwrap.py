import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.unwrap import NotWrapped, UnwrapSection
from tests.each import each

RULE = b'{"id":"e-1", "detail-type":"v2.x","detail": {"a": 1.50 ,"eventId":"own"}}'
SNS = b'{"Type":"Notification","Message":"{\\"a\\": \\"\\u00e9\\", \\"n\\":[1]}"}'


def unwrap(envelope: bytes, path: str, **fields: str) -> bytes:
    unwrapper = UnwrapSection(unwrap=path, unwrap_fields=fields).unwrapper
    assert unwrapper
    return unwrapper(envelope)


@each(
    "envelope, path, fields, event",
    [
        (RULE, "detail", {}, b'{"a": 1.50 ,"eventId":"own"}'),
        (RULE, "$.detail", {"eventId": "id", "type": "['detail-type']"},
         b'{"type":"v2.x","a": 1.50 ,"eventId":"own"}'),
        (b'{"id":7,"detail":{ }}', "detail", {"k": "id", "none": "x.y"}, b'{"k":7}'),
        (SNS, "Message", {}, '{"a": "é", "n":[1]}'.encode()),
        (SNS, "Message.n.0", {}, b"1"),
        (json.dumps({"Message": json.dumps({"detail": {"b": 2}})}).encode(), "/Message/detail", {"t": "Type"},
         b'{"b": 2}'),
        (b'{"Records":[{"x":1}]}', "Records[0]", {}, b'{"x":1}'),
        (b'{"detail":[1,2]}', "detail", {"id": "detail.0"}, b"[1,2]"),
    ],
)  # fmt: skip
def test_the_event_comes_out_as_it_was_written(
    envelope: bytes, path: str, fields: dict[str, str], event: bytes
) -> None:
    assert unwrap(envelope, path, **fields) == event


@each(
    "envelope, words",
    [
        (b'{"a":1}', "nothing is at detail"),
        (b'"text"', "nothing is at detail"),
        (b"7", "nothing is at detail"),
        (b'{"detail":', "no JSON on the way"),
        (b"", "nothing is at detail"),
        (b"[" * 100_000, "on the way|nothing"),
        (b'{"detail":"\\ud800"}', "no JSON on the way"),
        (b"\xff\xfe", "nothing is at detail"),
    ],
)
def test_what_is_no_envelope_is_told_as_such(envelope: bytes, words: str) -> None:
    with pytest.raises(NotWrapped, match=words):
        unwrap(envelope, "detail", id="id")


@given(st.binary(max_size=60), st.sampled_from(["a", "a.b", "a[0].b"]))
def test_hostile_bytes_raise_nothing_else(envelope: bytes, path: str) -> None:
    for text in (
        envelope,
        b'{"a":' + envelope + b"}",
        json.dumps({"a": envelope.decode("latin-1")}).encode(),
    ):
        with suppress(NotWrapped):
            assert isinstance(unwrap(text, path, x="y"), bytes)
        unwrapper = UnwrapSection(unwrap=path).unwrapper
        assert unwrapper
        with suppress(NotWrapped):
            assert all(
                isinstance(event, bytes) for event, _ in unwrapper.each(text, lambda array: [array[1:]])
            )


def test_a_path_that_cannot_be_is_refused_with_the_settings() -> None:
    assert UnwrapSection().unwrapper is None
    for wrong in ({"unwrap": "a..b"}, {"unwrap": "a", "unwrap_fields": {"id": "x[*]"}}):
        with pytest.raises(ValueError, match="is not a path"):
            UnwrapSection.model_validate(wrong)


def test_no_depth_of_lists_is_too_much() -> None:
    unwrapper = UnwrapSection(unwrap=".".join("a" * 50)).unwrapper
    assert unwrapper
    deep = b"1"
    for _ in range(50):
        deep = b'{"a":[%b]}' % deep
    assert unwrapper.each(deep, json_elements) == [(b"1", "")]
    ((event, why),) = unwrapper.each(b'{"a":' + b"[" * 500 + b"]" * 500 + b"}", json_elements)
    assert (event, "nothing is at" in why) == (b"[" * 499 + b"]" * 499, True)


def test_text_is_opened_once_whether_a_list_comes_after_it_or_not() -> None:
    unwrapper = UnwrapSection(unwrap="a.b.c").unwrapper
    assert unwrapper
    inside = b'{"b":{"c":{"n":1}}}'
    for times, found in ((1, [(b'{"n":1}', "")]), (2, None)):
        for listed in (inside, b'{"b":[{"c":{"n":1}}]}'):
            text = listed.decode()
            for _ in range(times):
                text = json.dumps(text)
            envelope = b'{"a":%b}' % text.encode()
            if found:
                assert unwrapper.each(envelope, json_elements) == found
            else:
                with pytest.raises(NotWrapped, match="nothing is at"):
                    unwrapper.each(envelope, json_elements)


def json_elements(array: bytes) -> list[bytes]:
    return [array[1:-1]]
