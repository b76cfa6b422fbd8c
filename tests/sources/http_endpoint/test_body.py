import json
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.sources.http import body as module
from ingestd.sources.http.answers import Refused
from ingestd.sources.http.body import take_apart
from ingestd.sources.http.media_type import Format
from tests.sources.http_endpoint.support import EVENT, JSON, LINES, Scene, content

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
texts = st.tuples(values, st.sampled_from([None, 2]), st.booleans()).map(
    lambda drawn: json.dumps(drawn[0], indent=drawn[1], ensure_ascii=drawn[2]).encode()
)
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
    except Refused as refused:
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
@example(b"[" * 100_000)
@example(b"[" * 100_000 + b"]" * 100_000)
@example(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
def test_a_body_is_taken_exactly_if_it_is_json(body: bytes) -> None:
    whole = body.removeprefix(b"\xef\xbb\xbf")
    valid = is_json(whole)
    for format_, first in ((Format.JSON, b""), (Format.EVENT, b"{"), (Format.BATCH, b"[")):
        events = parts_or_status(body, format_)
        if isinstance(events, int):
            assert events == 400
            assert not (valid and whole.strip().startswith(first))
        else:
            assert valid
            value = json.loads(whole)
            assert [json.loads(event) for event in events] == (value if isinstance(value, list) else [value])


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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize("headers", [JSON, BATCH, STRUCTURED])
@pytest.mark.parametrize("body", [b"", b" \n", b"\xef\xbb\xbf", b"no", EVENT[:-1], b"[" + EVENT, b"\xff\xfe"])
def test_a_body_that_is_not_json_is_refused(body: bytes, headers: dict[str, str]) -> None:
    scene = Scene()
    assert scene.status(body, headers) == 400
    assert not scene.desk.submissions


def test_a_batch_is_an_array_and_a_structured_event_is_an_object() -> None:
    assert Scene().status(EVENT, BATCH) == 400
    assert Scene().status(b"[" + EVENT + b"]", STRUCTURED) == 400
    assert Scene().status(b"[" + EVENT + b"]", BATCH) == 202
    assert Scene().status(EVENT, STRUCTURED) == 202


@pytest.mark.parametrize(("count", "status"), [(3, 202), (4, 413), (50, 413)])
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


@pytest.mark.parametrize(
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


def test_a_dense_array_within_the_limits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DENSE_COMMAS", 2)
    array = b'[[1,2,[3,4]],{"a":"]],\\"[","b":[5,6]},7]'
    assert parts(array, Format.JSON, max_events=3) == [b"[1,2,[3,4]]", b'{"a":"]],\\"[","b":[5,6]}', b"7"]
    for bad, max_events, status in (
        (array, 2, 413),
        (b"[1,2,3,[]", 9, 400),
        (b"[" * 2000 + b",,,", 9, 400),
    ):
        with pytest.raises(Refused) as caught:
            parts(bad, Format.JSON, max_events=max_events)
        assert caught.value.response.status == status


@pytest.mark.parametrize("depth", [63, 64, 65, 200, 400])
@pytest.mark.parametrize("shape", ["array", "object"])
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
