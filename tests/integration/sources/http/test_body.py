import json
import tracemalloc
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.httpd.problem import RefusedRequest
from ingestd.sources.files.arrays import JsonArray
from ingestd.sources.http import body as module
from ingestd.sources.http import sequence
from ingestd.sources.http.body import Format, take_apart
from tests.each import each
from tests.integration.sources.http.support import EVENT, JSON, LINES, PATH, Scene, content
from tests.unit.sources.files.memory import Memory, events_of, regions_of

BATCH = {"content-type": "application/cloudevents-batch+json"}
STRUCTURED = {"content-type": "application/cloudevents+json"}

tricky = st.lists(st.sampled_from(['"', "\\", "[", "]", "{", "}", ",", "a", "é", "\n", "😀"])).map("".join)
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), tricky
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(tricky, inner, max_size=3)),
    max_leaves=8,
)
objects = st.dictionaries(tricky, values, max_size=3)


def texts_of(of: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return st.tuples(of, st.sampled_from([None, 2]), st.booleans()).map(
        lambda drawn: json.dumps(drawn[0], indent=drawn[1], ensure_ascii=drawn[2]).encode()
    )


texts = texts_of(values)
gaps = st.sampled_from([b"", b" ", b"\n", b"\r\n\t"])
near_json = st.one_of(
    st.binary(max_size=40),
    st.text('[]{}:,"\\ud8090aef1.-+ \t\n\r\x00ntrls', max_size=25).map(str.encode),
    texts.flatmap(
        lambda text: st.tuples(st.integers(0, len(text)), st.binary(max_size=2)).map(
            lambda cut: text[: cut[0]] + cut[1] + text[cut[0] + 1 :]
        )
    ),
)


def parts(body: bytes, format_: Format, *, max_events: int = 1000) -> list[bytes]:
    return take_apart(body, format_, max_events=max_events)


def parts_or_status(body: bytes, format_: Format, *, max_events: int = 1000) -> list[bytes] | int:
    """Anything but Refused that is raised fails the test."""
    try:
        return parts(body, format_, max_events=max_events)
    except RefusedRequest as refused:
        return refused.response.status


def is_json(text: bytes) -> bool:
    """The opinion of the json module, made strict: UTF-8, no NaN, no lone surrogates."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        value = json.loads(text.decode(), parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


@given(st.lists(st.tuples(gaps, texts, gaps), max_size=6), gaps, st.booleans())
def test_the_elements_of_an_array_are_the_bytes_between_its_commas(
    elements: list[tuple[bytes, bytes, bytes]], gap: bytes, bom: bool
) -> None:
    array = gap + b"[" + (b",".join(b"".join(element) for element in elements) or gap) + b"]" + gap
    body = b"\xef\xbb\xbf" * bom + array
    expected = [text for _, text, _ in elements]
    assert parts(body, Format.JSON) == expected
    assert parts(body, Format.BATCH) == expected


@given(near_json)
@example(b'"\\ud800"')
@example(b'"\\udc00"')
@example(b'"\\ud83d\\ude00"')
@example(b"[NaN]")
@example(b"-Infinity")
@example(b"\xc0\xa0")
@example(b'["\xed\xa0\x80"]')
@example(b"[1,]")
@example(b"[1][2]")
@example(b"[][]\0")
@example(b'{"a":1}{"b":2}')
@example(b'{"a":1}\n\0{"b":2}')
@example(b"[" * 100_000)
@example(b"[" * 100_000 + b"]" * 100_000)
@example(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
def test_a_body_that_is_json_is_taken_as_it_is_and_of_others_no_byte_is_lost(body: bytes) -> None:
    whole = body.removeprefix(b"\xef\xbb\xbf")
    valid = is_json(whole)
    for format_, first in ((Format.JSON, b""), (Format.EVENT, b"{"), (Format.BATCH, b"[")):
        events = parts_or_status(body, format_)
        if isinstance(events, int):
            assert events == 400
            assert not (valid and whole.strip().startswith(first))
        elif valid:
            value = json.loads(whole)
            assert [json.loads(event) for event in events] == (value if isinstance(value, list) else [value])
        else:
            assert_all_of_it(events, whole)


def assert_all_of_it(events: list[bytes], body: bytes) -> None:
    """The events stand in the body in their order, and between them nothing but what joins them."""
    at = 0
    for event in events:
        assert event.strip() == event != b""
        found = body.find(event, at)
        assert found >= 0
        assert not body[at:found].strip(b" \t\r\n[],")
        at = found + len(event)
    assert not body[at:].strip(b" \t\r\n[],")


@each("kind", ["application/json; charset=utf-8", "application/x-json-stream"])
@each(
    "body",
    [
        b"%b\n%b\n",
        b"%b\r\n%b",
        b"\xef\xbb\xbf%b\n\n\n%b\n",
        b"%b%b",
        b"%b \t %b",
        b'{\n"a": {\n"b": "}"\n}\n}\n{\n"a": 1\n}\n%b\n%b',
        b"[%b]\n[%b]",
        b"[%b,1]%b",
        b'{"a":"}{"}\n%b%b',
    ],
)
def test_a_body_that_goes_on_after_its_first_value_is_a_sequence(kind: str, body: bytes) -> None:
    events = [EVENT.replace(b'"1"', b'"a"'), EVENT.replace(b'"1"', b'"b"')]
    scene = Scene()
    answer = scene.send(body % tuple(events), {"content-type": kind})
    assert answer is not None
    assert answer.status == 202
    assert [event for event in scene.desk.events if event in events] == events
    assert_all_of_it(scene.desk.events, (body % tuple(events)).removeprefix(b"\xef\xbb\xbf"))
    rejected = {one["index"] for one in content(answer)["rejected"]}
    assert rejected == {i for i, event in enumerate(scene.desk.events) if event not in events}


BROKEN = {
    "half a pair": (b'{"a":"caf\\ud83d"}', "half a surrogate pair: \\ud83d without its other half"),
    "half a pair in a word": (b'{"a":"\\ud83d and on, [{"}', "half a surrogate pair: \\ud83d"),
    "not UTF-8": (b'{"a":"caf\xe9"}', "not UTF-8: the byte 0xe9"),
    "NULs": (b"\0\0\0" + EVENT, "3 NUL bytes stand before the value"),
    "a mark": (b"\xef\xbb\xbf" + EVENT, "a byte order mark stands before the value"),
    "a byte too many": (b"\xff" + EVENT, "invalid character 0xff (byte 0)"),
    "a separator": (b"\x1e" + EVENT, "invalid character 0x1e (byte 0)"),
    "too deep": (b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", "nested deeper than 64"),
    "far too deep": (b"[" * 5_000 + b"]" * 5_000, "nested deeper than 64"),
    "a literal": (b'{"a":NaN}', "NaN is not a JSON value"),
    "a comma": (b'{"a":1,}', "trailing comma"),
    "quotes": (b"{'a':[1,2]}", "expected '\"'"),
}


@each("name", BROKEN)
@each("query", ["", "?atomic=true"])
def test_one_broken_event_costs_itself_in_whatever_it_comes(name: str, query: str) -> None:
    broken, words = BROKEN[name]
    array = b" [ %b ,\n%b , %b ] "
    shapes = [(array, JSON), (array, BATCH), (b"%b\n%b\n%b\n", LINES), (b"%b\n%b\n%b\n", JSON)]
    if name != "far too deep":  # an array there is a batch of its own
        shapes.append((b"%b%b%b", JSON))
    for shape, headers in shapes:
        answer = Scene().send(shape % (EVENT, broken, EVENT), headers, target=PATH + query)
        assert answer is not None
        assert answer.status == (422 if query else 202), answer
        assert content(answer)["accepted"] == (0 if query else 2)
        [rejected] = content(answer)["rejected"]
        assert rejected["index"] == 1
        assert words in rejected["errors"][0]["message"]


@each("headers", [JSON, STRUCTURED, LINES])
@each("name", ["half a pair", "not UTF-8", "too deep", "a comma", "quotes"])
def test_a_single_broken_event_is_rejected_by_index_too(name: str, headers: dict[str, str]) -> None:
    broken, words = BROKEN[name]
    answer = Scene().send(broken, headers)
    assert answer is not None
    assert answer.status == 422
    [rejected] = content(answer)["rejected"]
    assert (rejected["index"], words in rejected["errors"][0]["message"]) == (0, True)


@given(
    st.sampled_from(["lines", "back to back", "pretty", "spaced"]),
    st.lists(texts_of(objects), min_size=2, max_size=6),
)
def test_a_sequence_in_any_shape_is_its_values(shape: str, events: list[bytes]) -> None:
    if shape == "lines":
        events = [json.dumps(json.loads(event)).encode() for event in events]
    elif shape == "pretty":
        events = [json.dumps(json.loads(event), indent=1).encode() for event in events]
    gap = {"lines": b"\n", "back to back": b"", "pretty": b"\n", "spaced": b" \n \t"}[shape]
    assert parts(gap.join(events), Format.JSON) == events


@each(
    "body",
    [
        *(
            b"[1,,2]",
            b"[,]",
            b"[,1]",
            b"[1,,]",
            b"[1,2",
            b'[{"a":"\\ud800"}, {"b":1}',
            b'["\\ud800", "b]',
            b"[1]]",
        ),
        *(EVENT + b"}", EVENT + b"x", b'{"a":"x}', b'{"a":[1}', b"null null", b"[1] x", b'"a" "b"', b"\0\0"),
    ],
)
def test_where_borders_are_not_certain_nothing_is_guessed(body: bytes) -> None:
    scene = Scene()
    assert scene.status(body, JSON) == 400
    assert not scene.desk.submissions


@each("end", [b",]", b" ,\n ] \n", b",]\n" + EVENT])
@each("headers", [JSON, BATCH])
@each("broken", [b"", b'{"a":"\\ud800"}'])
def test_a_comma_behind_the_last_element_is_passed_over_as_in_a_file(
    end: bytes, headers: dict[str, str], broken: bytes
) -> None:
    body = b"[" + b",".join([EVENT, *([broken] if broken else []), EVENT]) + end
    if headers is BATCH and end.endswith(EVENT):
        assert Scene().status(body, headers) == 400, "a batch is one array"
        return
    scene = Scene()
    answer = scene.send(body, headers)
    assert answer is not None
    assert answer.status == 202
    assert [one["index"] for one in content(answer)["rejected"]] == ([1] if broken else [])
    if not end.endswith(EVENT):
        assert events_of_file(body) == scene.desk.events


def events_of_file(content: bytes) -> list[bytes]:
    array = JsonArray(Memory(content, [1000]), start=0, line=1, chunk_bytes=1000, max_event_bytes=1000)
    regions, damage = regions_of(array)
    assert not damage
    return events_of(regions)


def test_a_sequence_that_is_cut_off_costs_its_last_event() -> None:
    for cut in (EVENT + b"\n" + EVENT[:-9], EVENT + EVENT[:-9], EVENT + EVENT + b"\0"):
        answer = Scene().send(cut, JSON)
        good = cut.count(EVENT)
        assert content(answer)["accepted"] == good
        assert [one["index"] for one in content(answer)["rejected"]] == [good]


def test_what_has_too_many_brackets_is_not_taken_apart() -> None:
    many = b"[]," * (sequence.MAX_TOKENS // 3)
    assert Scene().status(b'["\\ud800",[%b1]]' % many, JSON) == 400
    assert Scene().status(b'["\\ud800",' + b"[]," * 5 + b"1]", JSON) == 422


@each("most, dense", [(15, True), (20, False)])
def test_as_many_brackets_are_counted_in_an_array_as_in_a_sequence(most: int, dense: bool) -> None:
    for read in (sequence.elements, sequence.values):
        with pytest.raises(sequence.SequenceTooDense) if dense else nullcontext():
            read(b"[%b1]" % (b"[]," * 5), 9, most_tokens=most)


def test_too_many_events_are_noticed_in_every_shape_of_a_sequence() -> None:
    for body in (
        EVENT * 4,
        (EVENT + b"\n") * 4,
        b"[1]" * 4,
        b'["\\ud800"' + b",1" * 4 + b"]",
        b"[1,1]" * 3,
    ):
        assert Scene(max_events=3).status(body, JSON) == 413


@given(
    st.lists(st.one_of(texts.filter(lambda text: b"\n" not in text), st.just(b""), st.just(b" \t"))),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_each_line_that_is_not_blank_is_an_event(
    lines: list[bytes], end: bytes, ended: bool, bom: bool, few: bool
) -> None:
    body = b"\xef\xbb\xbf" * bom + end.join(lines) + end * ended
    expected = [line for line in lines if line.strip()]
    max_events = max(1, len(expected)) if few else 1000
    assert parts(body, Format.LINES, max_events=max_events) == expected


@given(st.binary(), st.integers(1, 5))
def test_lines_are_never_refused_for_what_is_in_them(body: bytes, max_events: int) -> None:
    whole = body.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")
    kept = [line for line in (line.strip(b" \t\r") for line in whole.split(b"\n")) if line]
    expected = 413 if len(kept) > max_events else kept
    assert parts_or_status(body, Format.LINES, max_events=max_events) == expected


def test_a_broken_line_is_rejected_alone_and_by_its_index() -> None:
    scene = Scene()
    body = b"\n".join([EVENT, b"", b'{"id":', b'{"a":NaN}', b'{"a":"\xff"}', b'{"a":"\\ud800"}', EVENT])
    answer = scene.send(body, LINES)
    assert answer is not None
    assert answer.status == 202
    assert content(answer)["accepted"] == 2
    assert [rejection["index"] for rejection in content(answer)["rejected"]] == [1, 2, 3, 4]


@each(
    ("body", "headers"),
    [(b"[]", JSON), (b" [ ] ", BATCH), (b"", LINES), (b"\r\n \n", LINES), (b"\xef\xbb\xbf", LINES)],
)
def test_a_body_without_events_is_accepted_and_stores_nothing(body: bytes, headers: dict[str, str]) -> None:
    scene = Scene()
    answer = scene.send(body, headers)
    assert answer is not None
    assert answer.status == 202
    assert content(answer) == {"accepted": 0, "duplicates": 0, "rejected": []}
    assert not scene.desk.submissions


@each("headers", [JSON, BATCH, STRUCTURED])
@each("body", [b"", b" \n", b"\xef\xbb\xbf", b"no", EVENT[:-1], b"[" + EVENT, b"\xff\xfe"])
def test_a_body_that_is_not_json_is_refused(body: bytes, headers: dict[str, str]) -> None:
    scene = Scene()
    assert scene.status(body, headers) == 400
    assert not scene.desk.submissions


def test_a_batch_is_an_array_and_a_structured_event_is_an_object() -> None:
    assert Scene().status(EVENT, BATCH) == 400
    assert Scene().status(b"[" + EVENT + b"]", STRUCTURED) == 400
    assert Scene().status(b"[" + EVENT + b"]", BATCH) == 202
    assert Scene().status(EVENT, STRUCTURED) == 202


@each(("count", "status"), [(3, 202), (4, 413), (50, 413)])
def test_more_events_than_allowed_are_refused_in_every_format(count: int, status: int) -> None:
    lines = b"\n".join([EVENT] * count)
    for body, headers in (
        (lines, LINES),
        (lines.replace(b"\n", b"\r\n\n \n" * 20), LINES),
        (b"[" + b",".join([EVENT] * count) + b"]", JSON),
        (b"[" + b",".join([EVENT] * count) + b"]", BATCH),
    ):
        scene = Scene(max_events=3)
        assert scene.status(body, headers) == status
        assert len(scene.desk.events) == (count if status == 202 else 0)


@each(
    "body",
    [
        b"\n" * 8_000_000,
        b"1\n" * 4_000_000,
        b"[" + b"1," * 4_000_000 + b"1]",
        b"[[]" + b",[]" * 2_600_000 + b"]",
    ],
    ids=["blank lines", "lines", "elements", "arrays"],
)
def test_masses_of_tiny_events_cost_no_more_memory_than_their_body(body: bytes) -> None:
    headers = JSON if body.startswith(b"[") else LINES
    scene = Scene(max_events=1000)
    tracemalloc.start()
    try:
        assert scene.status(body, headers) == (413 if body.strip() else 202)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(body)
    finally:
        tracemalloc.stop()


def test_a_dense_array_within_the_limits_is_taken() -> None:
    dense = b"[" + b"1," * module._DENSE_COMMAS + b"1]"
    array = b'[%b,{"a":"]],\\"[","b":[5,6]},7]' % dense
    assert parts(array, Format.JSON, max_events=3) == [dense, b'{"a":"]],\\"[","b":[5,6]}', b"7"]
    for bad, max_events, status in (
        (array, 2, 413),
        (b"[%b,[]" % dense, 9, 400),
        (b"[" * 2000 + b"," * module._DENSE_COMMAS, 9, 400),
    ):
        with pytest.raises(RefusedRequest) as caught:
            parts(bad, Format.JSON, max_events=max_events)
        assert caught.value.response.status == status


@each("depth", [63, 64, 65, 200, 400])
@each("shape", ["array", "object"])
def test_an_event_that_is_nested_too_deeply_costs_itself(depth: int, shape: str) -> None:
    inner = b"[" * (depth - 1) + b"]" * (depth - 1)
    if shape == "object":
        inner = b'{"a":' * (depth - 1) + b"1" + b"}" * (depth - 1)
    event = EVENT[:-1] + b',"data":' + inner + b"}"
    for body, headers in ((b"[%b,%b,%b]" % (EVENT, event, EVENT), JSON), (EVENT + b"\n" + event, LINES)):
        answer = Scene().send(body, headers)
        assert answer is not None
        assert answer.status == 202
        told = [(one["index"], one["errors"][0]["message"]) for one in content(answer)["rejected"]]
        assert told == ([(1, "arrays and objects are nested deeper than 64")] if depth > 64 else [])


def test_a_line_that_is_broken_is_not_too_deep_but_broken() -> None:
    answer = Scene().send(EVENT + b"\n" + b"[]]" * 100 + b'"', LINES)
    message = content(answer)["rejected"][0]["errors"][0]["message"]
    assert message == "not JSON: something follows its value (byte 2)"
