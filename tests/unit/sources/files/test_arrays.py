import json
import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.sources.files.arrays import JsonArray
from tests.each import each
from tests.unit.sources.files.memory import events_of, outline, read_by, regions_of

sizes = st.lists(st.integers(1, 30), min_size=1, max_size=4)
chunk_sizes = st.integers(4, 40)
tricky = st.lists(st.sampled_from(['"', "\\", "[", "]", "{", "}", ",", "a", "é", "\n"])).map("".join)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-99, 99), tricky),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(tricky, inner, max_size=3)),
    max_leaves=6,
)
elements = st.tuples(values, st.sampled_from([None, 2]), st.booleans()).map(
    lambda drawn: json.dumps(drawn[0], indent=drawn[1], ensure_ascii=drawn[2]).encode()
)
gaps = st.sampled_from([b"", b" ", b"\n", b"\r\n\t", b" " * 50])


@st.composite
def documents(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """One array, or several one after the other, and their elements."""
    text, found = draw(gaps), []
    for array in draw(st.lists(st.lists(elements, max_size=5), min_size=1, max_size=3)):
        padded = [draw(gaps) + element + draw(gaps) for element in array]
        text += b"[" + (b",".join(padded) or draw(gaps)) + b"]" + draw(gaps)
        found += array
    return text, found


def array(
    data: bytes, sizes: list[int], chunk_bytes: int = 1000, limit: int = 100_000, **options: Any
) -> JsonArray:
    return read_by(JsonArray, data, sizes, chunk_bytes=chunk_bytes, max_event_bytes=limit, **options)


@given(documents(), sizes, chunk_sizes)
def test_every_element_is_an_event_with_its_exact_place(
    document: tuple[bytes, list[bytes]], sizes: list[int], chunk_bytes: int
) -> None:
    data, found = document
    regions, damage = regions_of(array(data, sizes, chunk_bytes))
    assert damage == ""
    assert events_of(regions) == found
    places = [region.locate(i) for region in regions for i in range(len(region.events))]
    assert [number for _, number in places] == list(range(1, len(found) + 1))
    for (offset, _), event in zip(places, found, strict=True):
        assert data[offset:].startswith(event)


noise = st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b",", b'"', b"\\", b"1", b"a ", b" "])).map(
    b"".join
)


@given(st.one_of(documents().map(lambda document: document[0]), noise), sizes, sizes, chunk_sizes)
@example(b"[1][2]", [1], [1], 4)
@example(b'["aaaaaaaaa"][[2],3]', [1], [9], 4)
@example(b"[1 2 3]", [1], [1], 4)
def test_a_restart_at_any_chunks_end_cuts_the_same_chunks(
    data: bytes, sizes: list[int], other_sizes: list[int], chunk_bytes: int
) -> None:
    regions, damage = regions_of(array(data, sizes, chunk_bytes))
    for number, region in enumerate(regions, 1):
        again = array(data, other_sizes, chunk_bytes, start=region.end, line=region.next_line)
        rest, same_damage = regions_of(again)
        assert outline(rest) == outline(regions[number:])
        assert same_damage == damage


@each(
    ("data", "found"),
    [
        (b"[1,,2]", [b"1", b"[,]", b"2"]),
        (b"[1, ,\n,2]", [b"1", b"[,]", b"[,]", b"2"]),
        (b"[,1]", [b"[,]", b"1"]),
        (b'{"x": [,1]}', [b"[,]", b"1"]),
        (b"[] [1,2,]", [b"1", b"2"]),
    ],
)
def test_an_element_that_is_missing_is_an_event_that_no_schema_takes(data: bytes, found: list[bytes]) -> None:
    """In silence it would be lost; a POST of it is refused."""
    for piece in range(1, len(data) + 1):
        regions, damage = regions_of(array(data, [piece], 4, items="x" if data[:1] == b"{" else ""))
        assert (events_of(regions), damage) == (found, "")


@given(documents(), st.data(), sizes, chunk_sizes)
def test_what_was_whole_before_a_cut_is_given_and_the_cut_element_is_not(
    document: tuple[bytes, list[bytes]], data: st.DataObject, sizes: list[int], chunk_bytes: int
) -> None:
    text, found = document
    cut = data.draw(st.integers(0, len(text)))
    whole, _ = regions_of(array(text, sizes, chunk_bytes))
    ends = [region.locate(i)[0] + len(e) for region in whole for i, e in enumerate(region.events)]
    regions, damage = regions_of(array(text[:cut], sizes, chunk_bytes, cut=True))
    given_ = events_of(regions)
    assert given_ == found[: len(given_)]
    assert len(given_) >= sum(end < cut for end in ends)
    assert len(given_) <= sum(end <= cut for end in ends)
    assert bool(damage) == ("[" in _skeleton(text[:cut]))


def _skeleton(text: bytes) -> str:
    """What is left without strings and without arrays and objects that are closed."""
    left = re.sub(r'"(?:[^"\\]|\\.)*("|\\?$)', "", text.decode(errors="replace"), flags=re.DOTALL)
    while left != (less := re.sub(r"\[[^][{}]*\]|\{[^][{}]*\}", "", left)):
        left = less
    return left


@given(noise, sizes, chunk_sizes)
def test_nonsense_ends_the_reading_and_nothing_else(data: bytes, sizes: list[int], chunk_bytes: int) -> None:
    regions, _ = regions_of(array(data, sizes, chunk_bytes, limit=50))
    assert all(region.events for region in regions)


@each("chunk_bytes", [4, 1000])
@each("rest", [b" x", b", [3]", b"]"])
def test_what_came_before_nonsense_is_given(rest: bytes, chunk_bytes: int) -> None:
    regions, damage = regions_of(array(b'[{"a":1}, 2]' + rest, [3], chunk_bytes))
    assert events_of(regions) == [b'{"a":1}', b"2"]
    assert damage.startswith("expected a JSON array at byte 1")


def test_an_escaped_quote_before_a_chunks_end_does_not_end_the_string() -> None:
    text = b'["a\\"\\", 1", 2]'
    for chunk_bytes in range(1, len(text) + 1):
        regions, damage = regions_of(array(text, [1], chunk_bytes))
        assert (events_of(regions), damage) == ([b'"a\\"\\", 1"', b"2"], "")


def test_a_broken_element_costs_itself_alone_as_long_as_its_brackets_match() -> None:
    regions, damage = regions_of(array(b'[{"a":1},{nonsense},{"b" 2},nil,{"c":3}]', [100]))
    assert events_of(regions) == [b'{"a":1}', b"{nonsense}", b'{"b" 2}', b"nil", b'{"c":3}']
    assert damage == ""


def test_an_element_over_the_limit_costs_itself_alone() -> None:
    long = b"{" + b'"a":"]\\\\\\"}",' * 100 + b'"b":1}'
    for size in (1, 7, 64, 1000):
        regions, damage = regions_of(array(b"[1,2," + long + b" ,3]", [size], 16, limit=64))
        events = events_of(regions)
        assert [event[:60] for event in events] == [b"1", b"2", long[:60], b"3"]
        assert long.startswith(events[2])
        (region,) = [region for region in regions if region.too_long]
        assert (region.too_long, region.locate(0)) == ({0: len(long)}, (5, 3))
        assert damage == ""
        rest, _ = regions_of(
            array(b"[1,2," + long + b" ,3]", [9], 16, limit=64, start=region.end, line=region.next_line)
        )
        assert outline(rest) == outline(regions[regions.index(region) + 1 :])


def test_an_endless_element_is_told() -> None:
    regions, damage = regions_of(array(b'[1,{"a":' + b"2" * 500, [7], 16, limit=64))
    assert events_of(regions) == [b"1"]
    assert damage == "the JSON array has no end: cut off at byte 508"


@each("before", [b"\0\0", b"\xef\xbb\xbf", b"\x1e"])
def test_what_writers_leave_between_elements_and_arrays_costs_nothing(before: bytes) -> None:
    data = b"[1," + before + b'{"a":2}' + before + b"," + before + b"3]\n" + before + b"[4]"
    regions, damage = regions_of(array(data, [5]))
    assert (events_of(regions), damage) == ([b"1", b'{"a":2}', b"3", b"4"], "")


@each("broken", [b'\xff{"x":[1],"y":"],"}', b'oh{"x":1,"y":2}', b"}", b'{"x":1}}'])
def test_a_broken_byte_before_or_behind_an_element_costs_no_other(broken: bytes) -> None:
    regions, damage = regions_of(array(b'[{"a":1},' + broken + b',{"b":2}]', [100]))
    events = events_of(regions)
    assert (events[0], events[-1], damage) == (b'{"a":1}', b'{"b":2}', "")
    assert b"".join(events[1:-1]) == broken


# --- values on several lines, and lists in envelopes ---


def test_values_on_several_lines_are_cut_and_a_half_one_is_left() -> None:
    data = b'{\n "a": 1\n}\n\x1e{\n "b": "}"\n},\n{\n "c": '
    splitter = array(data, [5], loose=True, leave_half=True)
    regions, damage = regions_of(splitter)
    assert (events_of(regions), damage) == ([b'{\n "a": 1\n}', b'{\n "b": "}"\n}'], "")
    assert splitter.half == (data.rindex(b"{"), 3, 8)
    whole = data + b"3}\n"
    rest, _ = regions_of(array(whole, [5], loose=True, leave_half=True, start=regions[-1].end, line=3))
    assert events_of(rest) == [b'{\n "c": 3}']


envelopes = st.lists(
    st.tuples(
        st.sampled_from([b"", b'"n": 7, ', b'"x": {"items": [9], "y": "{"}, ', b'"z": "\\"items\\": [", ']),
        st.lists(st.sampled_from([b'{"a":1}', b"[2]", b"3", b'"]"'])),
        st.sampled_from([b"", b', "next": null', b', "m": [{"items": [8]}]']),
    ),
    min_size=1,
)


@given(
    envelopes, st.sampled_from([b"", b"\n"]), st.lists(st.integers(1, 30), min_size=1), st.integers(60, 200)
)
def test_the_elements_of_lists_in_envelopes_are_the_events(
    written: list[tuple[bytes, list[bytes], bytes]], between: bytes, sizes: list[int], chunk_bytes: int
) -> None:
    data = between.join(
        b"{" + before + b'"items" : [' + b", ".join(items) + b"]" + behind + b"}"
        for before, items, behind in written
    )
    regions, damage = regions_of(array(data, sizes, chunk_bytes, items="items"))
    assert events_of(regions) == [item for _, items, _ in written for item in items]
    assert damage == ""
    for number, region in enumerate(regions, 1):
        again = array(data, [13], chunk_bytes, items="items", start=region.end, line=region.next_line)
        assert outline(regions_of(again)[0]) == outline(regions[number:])


def test_an_object_without_the_list_and_an_envelope_that_is_cut_off_are_told() -> None:
    regions, damage = regions_of(array(b'{"items":[1]}{"others":[2]}', [100], items="items"))
    assert (events_of(regions), damage) == ([b"1"], 'the object that ends at byte 27 has no list "items"')
    regions, damage = regions_of(array(b'{"items":[1,2', [100], items="items"))
    assert (events_of(regions), damage) == ([b"1"], "the JSON array has no end: cut off at byte 13")


def test_an_array_that_does_not_end_is_told_after_its_elements() -> None:
    regions, damage = regions_of(array(b"[1,2,", [100]))
    assert events_of(regions) == [b"1", b"2"]
    assert damage == "the JSON array has no end: cut off at byte 5"
