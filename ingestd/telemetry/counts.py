"""What is counted where it happens, without a lock or a library. ``metrics.py`` makes metrics of it."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

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


class BatchSizes:
    """Of batches at their first send."""

    def __init__(self) -> None:
        self.events = Buckets((1, 10, 50, 100, 250, 500, 1000, 2500, 5000))
        self.bytes = Buckets((1e3, 1e4, 5e4, 1e5, 2e5, 3e5, 4e5, 5e5, 1e6, 5e6))

    def observe(self, events: int, size: int, exemplar: Labels | None) -> None:
        self.events.observe(events, exemplar)
        self.bytes.observe(size, exemplar)


MAX_PRODUCERS = 200


class ProducerEvents:
    """Counts events by producer. Only configured names become labels, and no more than MAX_PRODUCERS.

    Other producers are ``other``, or ``anonymous`` without a name.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.counts: dict[str, int] = {"anonymous": 0, "other": 0}
        self.configure(names)

    def configure(self, names: Iterable[str]) -> None:
        """Also after a reload: names that are gone keep their counts, or the counter would go back."""
        for name in names:
            if len(self.counts) < MAX_PRODUCERS + 2:
                self.counts.setdefault(name, 0)

    def add(self, producer: str, events: int) -> None:
        label = producer or "anonymous"
        self.counts[label if label in self.counts else "other"] += events
