import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.sources.splitting import JsonArray
from tests.sources.memory import Memory, events_of, outline, regions_of

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
    data: bytes,
    sizes: list[int],
    chunk_bytes: int = 1000,
    limit: int = 100_000,
    *,
    start: int = 0,
    line: int = 1,
    cut: bool = False,
) -> JsonArray:
    return JsonArray(
        Memory(data[start:], sizes, cut=cut),
        start=start,
        line=line,
        chunk_bytes=chunk_bytes,
        max_event_bytes=limit,
    )


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


@pytest.mark.parametrize("chunk_bytes", [4, 1000])
@pytest.mark.parametrize("rest", [b" x", b", [3]", b"]"])
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


def test_an_element_over_the_limit_ends_the_reading_after_what_came_before() -> None:
    regions, damage = regions_of(array(b"[1,2,{" + b'"a":1,' * 100 + b'"b":1},3]', [7], 16, limit=64))
    assert events_of(regions) == [b"1", b"2"]
    assert damage == "the array element at byte 5 is over the limit of 64 bytes"


def test_an_array_that_does_not_end_is_told_after_its_elements() -> None:
    regions, damage = regions_of(array(b"[1,2,", [100]))
    assert events_of(regions) == [b"1", b"2"]
    assert damage == "the JSON array has no end: cut off at byte 5"
