import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.reasons import Reason
from ingestd.schemas.grammar import find_fault, find_refusal
from tests.each import each

EVENT = b'{"id":"1","note":"caf"}'
HALF = "half a surrogate pair: %s without its other half (byte %d)"

any_text = st.text(st.one_of(st.characters(exclude_categories=[]), st.sampled_from('\ud83d\ude00\udc00\\"u')))
values = st.recursive(
    st.one_of(st.integers(), any_text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(any_text, inner, max_size=3)),
    max_leaves=6,
)


def is_whole(value: object) -> bool:
    """Whether it holds no half of a surrogate pair (JSON puts neighbouring halves together)."""
    joined = json.dumps(json.loads(json.dumps(value)), ensure_ascii=False)
    return not any("\ud800" <= character <= "\udfff" for character in joined)


@given(values)
def test_half_a_surrogate_pair_and_nothing_else_is_called_so(value: object) -> None:
    fault = find_fault(json.dumps(value).encode())
    assert (fault is None) == is_whole(value)
    assert fault is None or fault.startswith("half a surrogate pair: \\u")


@given(values, st.data())
def test_what_is_said_of_a_broken_event_is_short_and_printable(value: object, data: st.DataObject) -> None:
    event = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    at, cut = data.draw(st.integers(0, len(event))), data.draw(st.integers(0, 3))
    event = event[:at] + data.draw(st.binary(max_size=4)) + event[at + cut :]
    fault = find_fault(event)
    assert fault is None or (fault.isprintable() and len(fault) < 120)
    if fault and "ends before" in fault:
        with pytest.raises(json.JSONDecodeError):
            json.loads(event.decode(errors="replace"), strict=False)


@each(
    ("event", "words"),
    [
        (b'{"a":"caf\\ud83d"}', HALF % ("\\ud83d", 9)),
        (b'{"a":"caf\\uD83D and on"}', HALF % ("\\uD83D", 9)),
        (b'{"a":"\\ud83d\\u0041"}', HALF % ("\\ud83d", 6)),
        (b'{"a":"\\ude00\\ud83d"}', HALF % ("\\ude00", 6)),
        (b'{"a":"\\ud83d\\ude00","b":"\\udc00"}', HALF % ("\\udc00", 25)),
        (b'{"\\ud800":1}', HALF % ("\\ud800", 2)),
        (b'"\\ud800"', HALF % ("\\ud800", 1)),
        (b'{"a":"\\\\ud800", "b":tru}', "not JSON: tru is not a JSON value (byte 20)"),
        (b'{"a":tru,"b":"\\ud800"}', "not JSON: tru is not a JSON value (byte 5)"),
        (b'{"a":"\xed\xa0\xbd"}', "not UTF-8: the byte 0xed (byte 6)"),
        (b'{"a":"caf\xe9"}', "not UTF-8: the byte 0xe9 (byte 9)"),
        (b"", "not JSON: there is nothing in it"),
        (b" \t", "not JSON: there is nothing in it"),
        (b"\0" + EVENT, "not JSON: a NUL byte stands before the value"),
        (b"\0" * 4096 + EVENT, "not JSON: 4096 NUL bytes stand before the value"),
        (b'{"id":\0"1"}', "not JSON: a NUL byte (byte 6)"),
        (b'{"id":"a\0b"}', "not JSON: a NUL byte (byte 8)"),
        (b"\xef\xbb\xbf" + EVENT, "not JSON: a byte order mark stands before the value"),
        (b'{"id":\xef\xbb\xbf1}', "not JSON: a byte order mark (byte 6)"),
        (EVENT.decode().encode("utf-16"), "not JSON: UTF-16, not UTF-8"),
        (b"\x1e" + EVENT, "not JSON: invalid character 0x1e (byte 0)"),
        (b"x" + EVENT, "not JSON: x is not a JSON value (byte 0)"),
        (b"\xff" + EVENT, "not JSON: invalid character 0xff (byte 0)"),
        (EVENT[:-1], "not JSON: it ends before its value does"),
        (EVENT[:-3], "not JSON: it ends before its value does"),
        (EVENT + EVENT, f"not JSON: something follows its value (byte {len(EVENT)})"),
        (b'{"id":NaN}', "not JSON: NaN is not a JSON value (byte 6)"),
        (b'{"id":-Infinity}', "not JSON: Infinity is not a JSON value (byte 7)"),
        (b"{'id':1}", "not JSON: expected '\"' (byte 1)"),
        (b'{"id":1,}', "not JSON: trailing comma in object (byte 8)"),
    ],
)
def test_each_fault_has_words_that_are_true(event: bytes, words: str) -> None:
    refusal = find_refusal(event)
    assert refusal is not None
    assert refusal == (Reason.UNPARSABLE, [("", words)])


@each("size", [100_000, 500_000])
def test_looking_for_half_a_pair_takes_no_stack_and_finds_the_last(size: int) -> None:
    escapes = b"\\ud83d\\ude00\\u0041\\n\\\\" * (size // 22)
    assert find_fault(b'"' + escapes + b'"') is None
    assert find_fault(b'"' + escapes + b'\\ud83d"') == HALF % ("\\ud83d", 1 + len(escapes))
