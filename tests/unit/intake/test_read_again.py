"""A chunk that has as many messages as it had need not have the same ones."""

from ingestd.core.chunk import Chunk
from ingestd.intake.read_again import known_until
from ingestd.sources.broker.chunks import Cutter
from ingestd.sources.broker.formats import whole
from ingestd.sources.broker.messages import Message, place_of
from ingestd.store.frozen_batches import PackedSegment
from tests.each import each


def chunk_of(offsets: list[int], marks: list[int]) -> Chunk:
    made = [Message(*one, b"{}", {}) for one in zip(offsets, marks, strict=True)]
    (chunk,) = Cutter(1, whole, where=lambda message: "").cut(made)
    return chunk


@each(
    "offsets, marks, end, mark, until",
    [
        ([4, 5, 7, 8], [2, 2, 2, 2], 9, 2, 4),  # as it was
        ([4, 5, 7, 8], [2, 2, 2, 3], 9, 2, 2),  # an end was lost, and before it a message was compacted
        ([4, 5, 6, 7], [2, 2, 2, 3], 8, 2, 3),  # an end was lost, and all before it is there
        ([4, 5, 7, 8], [2, 2, 2, 2], 8, 2, 2),  # 6 was there, and 8 is behind what it was
        ([4, 6, 7, 8], [2, 2, 2, 2], 8, 0, 1),  # of an older version, without a mark
    ],
)
def test_what_is_known_of_positions_holds_up_to_the_first_gap_where_others_have_come(
    offsets: list[int], marks: list[int], end: int, mark: int, until: int
) -> None:
    known = PackedSegment(1, place_of(4, 4), place_of(end), b"", mark)
    assert known_until(chunk_of(offsets, marks), known) == until


def test_where_positions_are_told_by_numbers_a_gap_says_nothing() -> None:
    """The chunk had all its numbers then: ``earlier`` has the positions."""
    known = PackedSegment(1, place_of(4, 5), place_of(9), b"", 2)
    assert known_until(chunk_of([4, 5, 7, 8], [2, 2, 2, 3]), known) == 3
