"""Numbers counted by size, without a lock or a library. ``metrics.py`` makes metrics of them."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

Labels = Mapping[str, str]


class Buckets:
    """How many of the values were at most as large as each of ``bounds``, the last of which is infinity.

    ``examples``: by bucket, the last value that came with the labels of its trace, and these.
    """

    __slots__ = ("bounds", "counts", "examples", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = (*bounds, float("inf"))
        self.counts = [0] * len(self.bounds)
        self.total = 0.0
        self.examples: dict[int, tuple[float, Labels]] = {}

    def observe(self, value: float, exemplar: Labels | None = None) -> None:
        at = bisect_left(self.bounds, value)
        self.counts[at] += 1
        self.total += value
        if exemplar:
            self.examples[at] = value, exemplar

    def cumulative(self) -> list[tuple[float, int]]:
        """(bound, values that are at most as large)."""
        found, count = [], 0
        for bound, here in zip(self.bounds, self.counts, strict=True):
            count += here
            found.append((bound, count))
        return found
