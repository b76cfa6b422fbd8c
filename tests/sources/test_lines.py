from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.sources import splitting
from ingestd.sources.splitting import Lines
from tests.sources.memory import Memory, events_of, outline, regions_of

KEPT = 4


@pytest.fixture(autouse=True, scope="module")
def short_heads() -> Iterator[None]:
    """The head that is kept of a line that is too long is always shorter than a chunk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "KEPT_OF_TOO_LONG", KEPT)
        yield


contents = st.lists(st.sampled_from([b"a", b"bcd", b"{}", b" ", b"\r", b"\n", b"\r\n", b"x" * 9])).map(
    b"".join
)
sizes = st.lists(st.integers(1, 30), min_size=1, max_size=4)
chunk_sizes = st.integers(KEPT, 24)
limits = st.integers(KEPT, 30)


def lines(
    data: bytes,
    sizes: list[int],
    chunk_bytes: int,
    limit: int = 1000,
    *,
    start: int = 0,
    line: int = 1,
    fill: bool = True,
    cut: bool = False,
) -> Lines:
    return Lines(
        Memory(data[start:], sizes, cut=cut),
        start=start,
        line=line,
        chunk_bytes=chunk_bytes,
        max_event_bytes=limit,
        fill=fill,
    )


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
def test_what_was_whole_before_a_cut_is_given_and_the_cut_line_is_not(
    data: bytes, sizes: list[int], chunk_bytes: int, limit: int, fill: bool
) -> None:
    regions, _ = regions_of(lines(data, sizes, chunk_bytes, limit, fill=fill, cut=True))
    whole = data[: data.rfind(b"\n") + 1]
    assert [len(event) for event in events_of(regions)] == [
        len(event) if len(event) <= limit else KEPT for event, *_ in expected(whole)
    ]
    assert not regions or regions[-1].end <= len(whole)


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
