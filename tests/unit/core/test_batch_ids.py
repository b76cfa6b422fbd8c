"""Ids of batches."""

import random
import uuid

from ingestd.core.chunk import batch_ids
from tests.each import each

_RANDOM_BITS = 2**62 - 1


class Highest(random.Random):
    def getrandbits(self, k: int, /) -> int:
        return 2**k - 1


@each("seed", [0, 1, 2**40])
def test_ids_are_uuids_that_ascend_and_that_nobody_can_guess(seed: int) -> None:
    ids, again, other = (batch_ids(random.Random(one)) for one in (seed, seed, seed + 1))
    found = [ids() for _ in range(1_000)]
    assert found == sorted({*found}) == [again() for _ in found]
    uuids = [uuid.UUID(one) for one in found]
    assert {(one.version, one.variant) for one in uuids} == {(4, uuid.RFC_4122)}
    assert [str(one) for one in uuids] == found
    assert len({one.int & _RANDOM_BITS for one in uuids}) == len(found)
    assert other()[:8] != found[0][:8], "of another process they begin elsewhere"


def test_behind_the_last_number_comes_the_first() -> None:
    ids = batch_ids(Highest())
    assert [ids() for _ in range(2)] == [
        "ffffffff-ffff-4fff-bfff-ffffffffffff",
        "00000000-0000-4000-bfff-ffffffffffff",
    ]
