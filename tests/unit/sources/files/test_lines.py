import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.sources.files.lines import Lines, split_lines
from tests.each import each
from tests.unit.sources.files.memory import Memory, events_of, outline, read_by, regions_of

KEPT = 4
"""The head that is kept of a line that is too long is always shorter than a chunk."""


_parts = st.sampled_from([b"a", b"bcd", b"{}", b" ", b"\r", b"\n", b"\r\n", b"x" * 9])
_SEVERAL = re.compile(rb"}[ \r]*{")
contents = st.lists(_parts).map(b"".join).filter(lambda data: not _SEVERAL.search(data))
sizes = st.lists(st.integers(1, 30), min_size=1, max_size=4)
chunk_sizes = st.integers(KEPT, 24)
limits = st.integers(KEPT, 30)


def lines(data: bytes, sizes: list[int], chunk_bytes: int, limit: int = 1000, **options: Any) -> Lines:
    given = {"fill": True, "kept_bytes": KEPT, **options}
    return read_by(Lines, data, sizes, chunk_bytes=chunk_bytes, max_event_bytes=limit, **given)


def expected(data: bytes) -> list[tuple[bytes, int, int]]:
    """(event, offset, line), by hand."""
    found, offset = [], 0
    for number, text in enumerate(data.split(b"\n"), 1):
        if event := text.removesuffix(b"\r"):
            found.append((event, offset, number))
        offset += len(text) + 1
    return found


@given(contents, sizes, chunk_sizes, limits, st.booleans())
@example(b"x" * 30 + b"\r\n", [1], 16, 30, True)
@example(b"x" * 30 + b"\r", [31], 16, 30, True)
def test_every_line_is_an_event_with_its_exact_place(
    data: bytes, sizes: list[int], chunk_bytes: int, limit: int, fill: bool
) -> None:
    regions, damage = regions_of(lines(data, sizes, chunk_bytes, limit, fill=fill))
    assert damage == ""
    found = [(r, i, event) for r in regions for i, event in enumerate(r.events)]
    assert len(found) == len(expected(data))
    for (region, index, event), (full, offset, line) in zip(found, expected(data), strict=True):
        assert event == (full if len(full) <= limit else full[:KEPT])
        assert region.too_long.get(index) == (len(full) if len(full) > limit else None)
        assert region.locate(index) == (offset, line)
        assert data[offset:].startswith(event)
        assert region.start <= offset < region.end


@given(contents, sizes, sizes, chunk_sizes, limits)
def test_a_restart_at_any_chunks_end_cuts_the_same_chunks(
    data: bytes, sizes: list[int], other_sizes: list[int], chunk_bytes: int, limit: int
) -> None:
    regions, _ = regions_of(lines(data, sizes, chunk_bytes, limit))
    for number, region in enumerate(regions, 1):
        again = lines(data, other_sizes, chunk_bytes, limit, start=region.end, line=region.next_line)
        assert outline(regions_of(again)[0]) == outline(regions[number:])


@given(contents, sizes, chunk_sizes, limits, st.booleans())
def test_what_was_read_too_far_may_be_read_again_instead(
    data: bytes, sizes: list[int], chunk_bytes: int, limit: int, leave_half: bool
) -> None:
    given = {"chunk_bytes": chunk_bytes, "max_event_bytes": limit, "leave_half": leave_half}
    file = Memory(data, sizes)
    again = Lines(file, start=0, line=1, fill=True, kept_bytes=KEPT, back=file.back, **given)
    joined = lines(data, sizes, chunk_bytes, limit, leave_half=leave_half)
    assert outline(regions_of(again)[0]) == outline(regions_of(joined)[0])
    assert again.half == joined.half


@given(contents, sizes, chunk_sizes, limits, st.booleans())
def test_what_was_whole_before_a_cut_is_given_and_the_cut_line_is_not(
    data: bytes, sizes: list[int], chunk_bytes: int, limit: int, fill: bool
) -> None:
    regions, _ = regions_of(lines(data, sizes, chunk_bytes, limit, fill=fill, cut=True))
    whole = data[: data.rfind(b"\n") + 1]
    assert [len(event) for event in events_of(regions)] == [
        len(event) if len(event) <= limit else KEPT for event, *_ in expected(whole)
    ]
    assert not regions or regions[-1].end <= len(whole)


def test_a_chunk_longer_than_the_longest_event_costs_no_object_for_each_of_its_short_ones() -> None:
    data = b"{}\n" * 100
    (region,) = regions_of(lines(data, [1000], chunk_bytes=1000, limit=20))[0]
    assert len(region.events) == 100
    assert type(region.events) is type(split_lines(data)[0])


def test_a_file_that_grew_goes_on_after_the_line_that_was_cut_off() -> None:
    first, _ = regions_of(lines(b"a\nb\nc", [100], 50, cut=True))
    assert first[-1].end == 4
    rest, _ = regions_of(lines(b"a\nb\nccc\nd\n", [100], 50, start=4, line=first[-1].next_line))
    assert events_of(rest) == [b"ccc", b"d"]
    assert rest[0].locate(1) == (8, 4)


def test_lines_of_a_pipe_do_not_wait_for_a_chunk_to_fill() -> None:
    regions, _ = regions_of(lines(b"a\nb\nc\n", [2], 1000, fill=False))
    assert [region.events for region in regions] == [[b"a"], [b"b"], [b"c"]]
    regions, _ = regions_of(lines(b"a\nb\nc\n", [2], 1000))
    assert [region.events for region in regions] == [[b"a", b"b", b"c"]]


# --- a last line that may still be written ---


@each(
    ("last", "taken"),
    [
        (b'{"a":1}', True),
        (b'{"a":1}\r', True),
        (b'"text"', True),
        (b"true", True),
        (b'{"a": nonsense}', True),  # closed: it will not become better
        (b'\xef\xbb\xbf{"a":1} \0\0', True),
        (b'{"a":1', False),
        (b'{"a":"}', False),
        (b"12", False),
        (b'{"a":1}}', False),
        (b"hello", False),
        (b'["a",', False),
    ],
)
@each("chunk_bytes", [1000, 4])
def test_a_last_line_is_taken_when_it_is_whole(last: bytes, taken: bool, chunk_bytes: int) -> None:
    if chunk_bytes < 1000 and last in (b"12", b"hello", b'{"a":1}}', b'"text"', b"true"):
        pytest.skip("of a line longer than a chunk the brackets say whether it is whole")
    splitter = lines(b"1\n" + last, [100], chunk_bytes, start=0, leave_half=True)
    regions, _ = regions_of(splitter)
    assert [event.strip(b"\r") for event in events_of(regions)] == [b"1", *[last.strip(b"\r")] * taken]
    if taken:
        assert splitter.half is None
    else:
        assert splitter.half == (2, 2, len(last))
        assert regions[-1].end == 2


@each("last", [b"", b" \t", b"\0" * 50])
def test_nothing_at_the_end_of_a_file_is_no_half_line(last: bytes) -> None:
    splitter = lines(b"1\n" + last, [100], 1000, leave_half=True)
    assert events_of(regions_of(splitter)[0]) == [b"1"]
    assert splitter.half is None


@given(
    st.lists(st.sampled_from([b'{"a":1}', b'{"b":"x}y"}', b"[7]", b"12", b"bad"]), min_size=1, max_size=6),
    st.lists(st.integers(0, 60), max_size=4),
    st.sampled_from([8, 20, 1000]),
    st.sampled_from([b"", b"\n"]),
)
def test_however_a_file_grows_every_line_comes_once(
    written: list[bytes], cuts: list[int], chunk_bytes: int, end: bytes
) -> None:
    """Each run reads what is there so far. Whatever it leaves, the next takes up."""
    data = b"\n".join(written) + end
    position, line, found = 0, 1, list[tuple[bytes, int]]()
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        splitter = lines(data[:cut], [7], chunk_bytes, start=position, line=line, leave_half=True)
        for region in regions_of(splitter)[0]:
            found += [(event, region.locate(i)[1]) for i, event in enumerate(region.events)]
            position, line = region.end, region.next_line
    expected = [(event, number) for number, event in enumerate(written, 1)]
    if not end and written[-1] in (b"12", b"bad"):
        expected = expected[:-1] if chunk_bytes == 1000 else found
    assert found == expected


def test_a_line_that_goes_on_behind_a_whole_value_goes_on_there() -> None:
    first, _ = regions_of(lines(b'{"a":1}', [100], 1000, leave_half=True))
    rest, _ = regions_of(
        lines(b'{"a":1}{"b":2}\n3\n', [100], 1000, start=first[-1].end, line=first[-1].next_line)
    )
    assert events_of(rest) == [b'{"b":2}', b"3"]
    assert [rest[0].locate(i)[1] for i in (0, 1)] == [1, 2]


# --- values one behind the other, in a line longer than a chunk ---

_records = st.dictionaries(st.sampled_from("ab"), st.sampled_from(["", "}{", '\\"', "x" * 20]), min_size=1)


@given(
    st.lists(_records, min_size=2, max_size=9),
    st.sampled_from([b"", b" ", b"\0", b"\x1e", b"\t"]),
    sizes,
    st.integers(KEPT, 40),
    st.integers(30, 80),
)
@example([{"a": ""}, {"a": '\\"'}, {"a": '\\"'}, {"a": ""}], b" ", [1], 15, 30)
def test_records_back_to_back_are_cut(
    records: list[dict[str, str]], between: bytes, sizes: list[int], chunk_bytes: int, limit: int
) -> None:
    written = [json.dumps(record).encode() for record in records]
    data = between.join(written) + b"\n9\n"
    regions, _ = regions_of(lines(data, sizes, chunk_bytes, limit))
    found = [
        (event, region.locate(i)[0], region.too_long.get(i))
        for region in regions
        for i, event in enumerate(region.events)
    ]
    for event, offset, length in found:
        assert data[offset:].startswith(event)
        assert length is None or length > limit
    if chunk_bytes < min(map(len, written)):  # else a short line at the end is for `salvage`
        assert len(found) >= len(written)
    again, _ = regions_of(
        lines(data, [50], chunk_bytes, limit, start=regions[0].end, line=regions[0].next_line)
    )
    assert outline(again) == outline(regions[1:])


def test_a_record_over_the_limit_costs_itself_and_not_those_behind_it() -> None:
    long = b'{"long":"' + b"x" * 500 + b'"}'
    regions, _ = regions_of(lines(b'{"a":1}' + long + b'{"b":2}' * 9 + b"\n", [64], 32, 100))
    assert events_of(regions)[:2] == [b'{"a":1}', long[:KEPT]]
    assert [list(region.too_long.values()) for region in regions[:2]] == [[], [len(long)]]
    assert sum(event == b'{"b":2}' for event in events_of(regions)) >= 4


@each("blank", [b"\0", b"\xef\xbb\xbf", b"\x1e,"])
@each("chunk_bytes", [8, 16, 17])
@each("fill", [True, False])
def test_what_stands_before_an_event_does_not_make_it_too_long(
    blank: bytes, chunk_bytes: int, fill: bool
) -> None:
    data = b"{1}\n" + blank * 100 + b"{2}\n{3}\n"
    regions, _ = regions_of(lines(data, [5], chunk_bytes, 40, fill=fill))
    events = [event.strip(blank + b"\xef\xbb\xbf") for event in events_of(regions)]
    assert events == [b"{1}", b"{2}", b"{3}"]
    assert not any(region.too_long for region in regions)
    again, _ = regions_of(lines(data, [7], chunk_bytes, 40, start=regions[0].end, line=2, fill=fill))
    assert [region.start for region in again] == [region.start for region in regions[1:]] or not fill
