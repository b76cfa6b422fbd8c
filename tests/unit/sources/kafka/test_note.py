"""What is written with an offset is read as it was, is bounded, and from strangers names nothing."""

import string
from base64 import b64encode
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.chunk import Batch, Chunk, Segment
from ingestd.core.clock import SystemClock
from ingestd.sources.broker.messages import place_of
from ingestd.sources.kafka.leaders import Span
from ingestd.sources.kafka.note import MAX_BYTES, Note, read_note, write_note
from ingestd.sources.kafka.runs import epoch_of, mark_of
from ingestd.store.frozen_batches import unpack_positions
from ingestd.store.named_batches import Bits, ChunkPlace, NamedBatches, bits_of, positions_of

OWNER = "ingestd 0123456789abcdef"
DIGEST = b"0123456789ab"
POSITIONS = st.sets(st.integers(0, 1200), min_size=1).map(sorted)
OFFSETS = st.integers(0, 1 << 40)
EPOCHS = st.integers(0, 3) | st.integers(0, (1 << 31) - 1)
SEGMENTS = st.lists(st.tuples(OFFSETS, st.integers(1, 1000), POSITIONS, EPOCHS), min_size=1, max_size=4)
SPANS = st.lists(st.builds(Span, OFFSETS, OFFSETS, EPOCHS), max_size=5)
Batches = dict[str, tuple[str, list[tuple[int, int, list[int], int]], bool]]
UUIDS = st.uuids()
IDS = UUIDS.map(str) | UUIDS.map(lambda one: str(one).upper()) | UUIDS.map(lambda one: one.hex)
IDS |= st.text(string.printable, min_size=1) | st.text(string.ascii_letters, min_size=14, max_size=17)
BATCH = st.tuples(st.sampled_from(["api", "crm"]), SEGMENTS, st.booleans())
BATCHES = st.dictionaries(IDS, BATCH, max_size=8)


def chunk_of(offset: int, count: int, epoch: int = 0) -> Chunk:
    mark = mark_of(epoch, 1_700_000_000_000 + offset)
    return Chunk([], source=7, start=place_of(offset, count), end=place_of(offset + count), last_mark=mark)


def names(batches: Batches) -> NamedBatches:
    """As the journal notes them; of some it is known what became of them."""
    found = NamedBatches(lambda urgent: None, unannounced=lambda count: None, clock=SystemClock(), within_s=1)
    for name, (sink, segments, is_settled) in batches.items():
        made = [Segment(chunk_of(offset, count, e), positions) for offset, count, positions, e in segments]
        found.froze(name, sink, DIGEST, made, 1_700_000_000.0)
        if is_settled:
            found.resolved(name, sink, made)
    return found


def of_epochs(chunks: Mapping[ChunkPlace, Bits]) -> dict[ChunkPlace, Bits]:
    return {(start, end, epoch_of(mark)): bits for (start, end, mark), bits in chunks.items()}


def written(
    named: NamedBatches,
    spans: Sequence[Span] = (),
    inherited: Sequence[Span] = (),
    *,
    max_bytes: int = MAX_BYTES,
) -> tuple[str, list[str]]:
    found = write_note(OWNER, named, spans, inherited, max_bytes)
    assert found
    return found


@given(BATCHES, SPANS, SPANS)
def test_what_is_written_is_read(
    batches: Batches,
    spans: list[Span],
    inherited: list[Span],
) -> None:
    named = names(batches)
    text, told = written(named, spans, inherited, max_bytes=1 << 30)
    note = read_note(text)
    assert note.owner == OWNER
    assert note.is_readable
    assert ([*note.spans], [*note.inherited]) == (spans, inherited)
    assert told == [*named.open]
    again = NamedBatches(lambda urgent: None, unannounced=lambda count: None, clock=SystemClock(), within_s=1)
    again.known(note.batches(7), told)
    assert all(one.is_announced for one in again.open.values())
    assert {by: of_epochs(chunks) for by, chunks in again.settled.items() if chunks} == {
        by: of_epochs(chunks) for by, chunks in named.settled.items() if chunks
    }
    assert {(one.key, one.sink, one.digest, one.frozen_at) for one in again.open.values()} == {
        (one.key, one.sink, one.digest, one.frozen_at) for one in named.open.values()
    }
    assert {name: of_epochs(one.segments) for name, one in again.open.items()} == {
        name: of_epochs(one.segments) for name, one in named.open.items()
    }
    assert sorted(note.cuts()) == sorted(
        (at.start, at.end, at.last_mark) for one in note.batches(7) for at in one.segments
    )


@given(BATCHES, SPANS, st.integers(0, 2000), st.data())
def test_it_is_never_longer_than_it_may_be_and_names_all_that_was_named_before_and_is_settled_or_nothing(
    batches: Batches,
    spans: list[Span],
    max_bytes: int,
    data: st.DataObject,
) -> None:
    """What was named before may have been sent. Of the others those that came first."""
    named = names(batches)
    before = data.draw(st.sets(st.sampled_from([*named.open]))) if named.open else set()
    named.announced(before)
    found = write_note(OWNER, named, spans, max_bytes=max_bytes)
    if found is None:
        assert len(written(named, spans, max_bytes=1 << 30)[0]) > max_bytes
        return
    text, told = found
    assert len(text) <= max_bytes
    first = [one for one in named.open if one in before]
    rest = [one for one in named.open if one not in before]
    assert told == (first + rest)[: len(told)]
    assert len(told) >= len(first)
    assert [one.id for one in read_note(text).batches(7) if not one.settled] == told
    settled = [one for one in read_note(text).batches(7) if one.settled]
    assert len(settled) == sum(map(len, named.settled.values())), "what is settled is named whole"
    assert [*read_note(text).spans] == spans


def test_fifty_whole_batches_on_their_way_have_room() -> None:
    whole, most = [*range(600)], [*range(500)]
    batches = {
        f"0b9ee3a6-0000-4000-8000-{at:012x}": (
            "ingest_api",
            [(at, 600, whole, 77), (at + 600, 600, most, 77)],
            False,
        )
        for at in range(70_000_000, 70_050_000, 1000)
    }
    text, told = written(names(batches))
    assert len(told) == 50, len(text)
    assert len(text) <= MAX_BYTES


@given(st.sets(st.integers(0, 3000)).map(sorted))
def test_positions_are_those_of_their_bits(positions: list[int]) -> None:
    assert [*positions_of(bits_of(positions))] == positions


@given(st.binary(max_size=200), st.sampled_from([b"r", b"z", b"", b"x"]))
def test_what_somebody_else_has_written_names_nothing_and_breaks_nothing(data: bytes, kind: bytes) -> None:
    text = f"{OWNER} {b64encode(kind + data).decode()}"
    note = read_note(text)
    assert note.owner == OWNER
    assert all(unpack_positions(s.positions) is not None for b in note.batches(1) for s in b.segments)


@given(st.text())
def test_any_text_is_somebodys(text: str) -> None:
    assert isinstance(read_note(text), Note)


def test_a_note_that_unpacks_to_a_gigabyte_is_not_unpacked() -> None:
    import zlib

    packed = zlib.compress(b"\0" * (1 << 22), 9)
    assert not read_note(f"{OWNER} {b64encode(b'z' + packed).decode()}").is_readable


def test_of_a_batch_that_was_cut_the_parts_are_named_and_it_is_not() -> None:
    named = names({})
    chunk = chunk_of(5, 10)
    batch = Batch([b"e"] * 4, [None] * 4, [Segment(chunk, range(4))], lambda: "whole")
    named.froze(batch.id, "api", DIGEST, batch.segments, 1.0)
    named.resolved(batch.id, "api", [Segment(chunk, [1])])
    named.froze("part", "api", DIGEST, [Segment(chunk, [0, 2, 3])], 1.0)
    (settled, part) = read_note(written(named)[0]).batches(7)
    assert settled.settled
    assert [*unpack_positions(settled.segments[0].positions)] == [1]
    assert (part.id, [*unpack_positions(part.segments[0].positions)]) == ("part", [0, 2, 3])
