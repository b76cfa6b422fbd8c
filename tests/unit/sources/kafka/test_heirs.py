"""Who goes on with batches learns of all that happened, and of nothing is more kept than that."""

from collections.abc import Collection, Sequence

from ingestd.sources.kafka.heirs import Heirs
from ingestd.store.frozen_batches import FrozenBatch, PackedSegment

BATCH = FrozenBatch("b", False, 1.0, 1, b"", [PackedSegment(7, 0, 1, b"")], None, "api")


class Told:
    def __init__(self) -> None:
        self.words: list[str] = []

    def superseded(self, number: int, named: Collection[str]) -> None:
        self.words.append(f"{number} {sorted(named)}")

    def adopt(self, batches: Sequence[FrozenBatch]) -> None:
        self.words.append(f"adopt {[one.id for one in batches]}")


def test_an_heir_is_told_in_order_also_of_what_happened_before_there_was_one() -> None:
    heirs, told = Heirs(), Told()
    heirs.superseded(5, {"b"})
    heirs.adopt([BATCH])
    assert told.words == []
    heirs.found(told)
    heirs.superseded(7, ())
    assert told.words == ["5 ['b']", "adopt ['b']", "7 []"]
    assert heirs._waiting == []
