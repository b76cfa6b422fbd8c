"""What is found in a line that is not JSON."""

import json

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.chunk import Chunk
from ingestd.schemas.grammar import find_fault
from ingestd.sources.files.salvage import events_in, recut
from tests.each import each

A, B = b'{"a":"}{"}', b'{"b":[1]}'


@each(
    ("line", "events"),
    [
        (b"\0" * 4096 + A, [A]),
        (b"\xef\xbb\xbf" + A, [A]),
        (b"\xef\xbb\xbf" * 3 + A + b"\xef\xbb\xbf, \xef\xbb\xbf", [A]),
        (b"\x1e" + A, [A]),
        (A + b",", [A]),
        (b"  \t", []),
        (A.decode().encode("utf-16"), [A.decode().encode("utf-16")]),
        (b"\0" + A.decode().encode("utf-16-le"), [b"\0" + A.decode().encode("utf-16-le")]),
        (b"\0\0", []),
        (A + B, [A, B]),
        (A + b" " + B + b",", [A, B]),
        (A + b"," + B, [A, B]),
        (b"\x1e" + A + b"\x1e" + B, [A, B]),
        (b'{"cut":"o' + b"\0" * 9 + A, [b'{"cut":"o', A]),
        (A + b'{"half":', [A, b'{"half":']),
        (b'{"a":"\xff"}' + B, [b'{"a":"\xff"}', B]),  # costs itself
        (b"\xff" + A, [b"\xff" + A]),
        (b"nonsense", [b"nonsense"]),
        (b'{"cut":"o' + A, [b'{"cut":"o' + A]),  # where the first one ends is not certain
        (A + b"oh" + B, [A, b"oh" + B]),
    ],
)
def test_what_can_be_told_apart(line: bytes, events: list[bytes]) -> None:
    found = events_in(line)
    assert [event for _, event in found] == events
    assert all(line[offset:].startswith(event) for offset, event in found)


@given(
    st.lists(
        st.sampled_from([A, B, b"\0", b"\xef\xbb\xbf", b" ", b",", b"x", b'"', b"{", b"}", b"\xff", b"\x1e"])
    )
)
def test_nothing_is_made_up_and_nothing_but_separators_is_left_out(parts: list[bytes]) -> None:
    line = b"".join(parts)
    at, rest = 0, b""
    for offset, event in events_in(line):
        assert offset >= at
        assert line[offset : offset + len(event)] == event
        rest += line[at:offset]
        at = offset + len(event)
        assert events_in(event) == [(0, event)]  # what it gives needs no second look
    rest += line[at:]
    assert not rest.replace(b"\xef\xbb\xbf", b"").strip(b"\0\x1e ,\t")


@given(st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5)), min_size=2, max_size=6))
def test_records_back_to_back_are_what_they_were(records: list[dict[str, str]]) -> None:
    written = [json.dumps(record).encode() for record in records]
    assert [event for _, event in events_in(b"".join(written))] == written
    assert all(find_fault(event) is None for event in written)


def test_a_chunk_has_the_events_that_were_found_at_their_places() -> None:
    chunk = Chunk(
        [b"0", A + B, b"x" * 9, b" "],
        source=1,
        start=100,
        end=200,
        place=lambda index: (100 + 20 * index, 7 + index),
        too_long={2: 5000},
    )
    recut(chunk, lambda index: events_in(chunk.events[index]), {1, 3})
    assert chunk.events == [b"0", A, B, b"x" * 9]
    assert [chunk.place(index) for index in range(4)] == [(100, 7), (120, 8), (120 + len(A), 8), (140, 9)]
    assert chunk.too_long == {3: 5000}
