"""The judge of ``letter_rounds.py``: which letters may wait for a person at the end."""

import random
import zlib

from tests.each import each
from tests.process.cluster.letter_rounds import cut_by_purges
from tests.process.soak.events import Maker, read

EVENTS = Maker("p", random.Random(1), ill=0.0).many(4)
NAMES = [read(event).id for event in EVENTS]
SUMS = [zlib.crc32(event) for event in EVENTS]


def waits(*numbers: int, why: str = "it is not whole any more") -> list[dict[str, str]]:
    return [{"event_id": NAMES[n], "batch": "b", "why_not_by_itself": why} for n in numbers]


@each(
    "there, requests, purged, expected",
    [
        (waits(0, 1), {"b": SUMS[:3]}, {NAMES[2]}, {0, 1}),
        (waits(0, 1), {"b": SUMS[:3]}, set(), set()),
        (waits(0, 1), {"b": SUMS[:3]}, {NAMES[3]}, set()),  # that is no letter of it
        (waits(0, 1), {"b": SUMS}, {NAMES[2]}, set()),  # and one is gone that nobody deleted
        (waits(0, 1, 2), {"b": SUMS[:3]}, {NAMES[3]}, set()),  # all of it is there
        (waits(0, 1), {"b": SUMS[:3]}, {NAMES[1], NAMES[2]}, {0, 1}),  # of one it came too late
        (waits(0, 1), {"c": SUMS[:3]}, {NAMES[2]}, set()),
        (waits(0, 1), {"b": [*SUMS[:2], 7]}, {NAMES[2]}, set()),  # of another text than any
        (waits(0, 1, why=""), {"b": SUMS[:3]}, {NAMES[2]}, set()),
    ],
)
def test_only_what_a_person_has_cut_may_wait(
    there: list[dict[str, str]], requests: dict[str, list[int]], purged: set[str], expected: set[int]
) -> None:
    assert cut_by_purges(there, requests, EVENTS, purged) == {NAMES[n] for n in expected}
