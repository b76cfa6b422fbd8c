"""What a share's journal has yet to write, and how much of it goes into one record."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from ingestd.cluster.letter_stream import LetterChange
from ingestd.cluster.share_log import Frozen, Places, Settled
from ingestd.core.chunk import Segment
from ingestd.store.frozen_batches import pack_positions

T = TypeVar("T")

MAX_RECORD_BYTES = 700_000
"""Of what a server takes by default (1 MiB) a good part: what comes beside it has to fit, too."""


class JournalNotes(msgspec.Struct):
    frozen: dict[str, Frozen] = msgspec.field(default_factory=dict)
    settled: list[Settled] = msgspec.field(default_factory=list)
    dismissed: dict[int, bytes] = msgspec.field(default_factory=dict)
    free: list[bytes] = msgspec.field(default_factory=list)
    known: list[bytes] = msgspec.field(default_factory=list)
    letters: list[bytes] = msgspec.field(default_factory=list)


def size_of_frozen(frozen: Frozen) -> int:
    return 200 + len(frozen.keys) + sum(len(packed) + 12 for _, packed in frozen.places)


def size_of_change(change: LetterChange) -> int:
    return 100 + len(change.letter)


def in_groups(items: Sequence[T], size_of: Callable[[T], int], first: int, others: int = 0) -> list[list[T]]:
    """The items in their order, in groups of at most so many bytes; one group at least."""
    groups: list[list[T]] = [[]]
    room = first
    for item in items:
        size = size_of(item)
        if size > room and groups[-1]:
            groups.append([])
            room = others or first
        groups[-1].append(item)
        room -= size
    return groups


def places_of(segments: Sequence[Segment]) -> list[Places]:
    return [(segment.chunk.start, pack_positions(segment.positions)) for segment in segments]
