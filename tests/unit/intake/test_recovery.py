"""What is known of an earlier process is looked for in time that does not grow with its square."""

from ingestd.core.chunk import Chunk
from ingestd.intake.recovery import Recovery
from ingestd.store.frozen_batches import FrozenBatch, pack_positions
from tests.ids import new_id

_CHUNKS = 500


class Place(int):
    """Counts how often it is compared."""

    looks = 0

    def __lt__(self, other: int) -> bool:
        Place.looks += 1
        return int(self) < other


def test_of_known_chunks_only_those_are_looked_at_that_are_passed() -> None:
    """One event that nobody takes, and all behind it are settled: there may be very many."""
    frozen = [
        FrozenBatch(
            id=f"b{number}",
            settled=number % 5 > 0,
            frozen_at=1.0,
            events=1,
            body_digest=b"",
            segments=[(1, Place(number), number + 1, pack_positions(range(1)))],
            kept=None,
            sink="s",
        )
        for number in range(_CHUNKS)
    ]
    recovery = Recovery(
        frozen,
        {1},
        encode=lambda events: b"",
        digests=lambda events: [None] * len(events),
        claims_keys=False,
        new_id=new_id,
    )
    gone = [recovery.passed(Chunk([], source=1, start=at, end=at + 1)) for at in range(_CHUNKS)]
    assert gone == [{f"b{at}"} if at % 5 == 0 else set() for at in range(_CHUNKS)]
    assert not recovery
    assert Place.looks < 40 * _CHUNKS
