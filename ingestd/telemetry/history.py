"""The last hour of a service, in memory: what the console and ``ingestd top`` show without Prometheus.

Samples are taken every ``STEP_S`` seconds. Counters are kept as they are; rates are differences.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

STEP_S = 5.0
SAMPLES = 721
"""One hour of steps, and the sample that they begin with."""
MAX_SERIES = 512
"""16 sinks with four series each, 202 producers, and what is left for the whole."""


class Sample(NamedTuple):
    """``wall``: seconds since the epoch; ``values``: by the number of the series, fewer in older ones."""

    at: float
    wall: float
    values: tuple[float, ...]


class History:
    """Numbers by name, at most MAX_SERIES of them for at most an hour: about 3 MB when all are used."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)

    def due(self, now: float) -> bool:
        """Whether a sample should be taken; ``now``: a monotonic time."""
        return not self._samples or now - self._samples[-1].at >= STEP_S - 0.5

    def add(self, now: float, wall: float, values: Mapping[str, float]) -> None:
        """Names beyond MAX_SERIES are not kept."""
        for name in values:
            if name not in self._numbers and len(self._numbers) < MAX_SERIES:
                self._numbers[name] = len(self._numbers)
        self._samples.append(Sample(now, wall, tuple(values.get(name, 0.0) for name in self._numbers)))

    def rate(self, name: str, over_s: float) -> float:
        """A second, of a counter, over the last ``over_s`` seconds, or as long as is known."""
        if len(self._samples) < 2:
            return 0.0
        last = self._samples[-1]
        first = self._since(last.at - over_s)
        if last.at <= first.at:
            return 0.0
        return max(0.0, self._value(last, name) - self._value(first, name)) / (last.at - first.at)

    def slope(self, name: str, over_s: float) -> float:
        """As ``rate``, of a value that may also fall."""
        if len(self._samples) < 2:
            return 0.0
        last = self._samples[-1]
        first = self._since(last.at - over_s)
        passed_s = last.at - first.at
        return (self._value(last, name) - self._value(first, name)) / passed_s if passed_s > 0 else 0.0

    def times(self) -> list[int]:
        """Wall times of the samples, whole seconds, oldest first."""
        return [round(sample.wall) for sample in self._samples]

    def values(self, name: str) -> list[float]:
        """Of each sample, oldest first."""
        return [self._value(sample, name) for sample in self._samples]

    def rates(self, name: str) -> list[float]:
        """A second, from each sample to the next; the first has none and is 0."""
        samples: Sequence[Sample] = list(self._samples)
        found = [0.0] * len(samples)
        for index in range(1, len(samples)):
            before, after = samples[index - 1], samples[index]
            rise = self._value(after, name) - self._value(before, name)
            found[index] = round(max(0.0, rise) / max(0.001, after.at - before.at), 2)
        return found

    def _since(self, at: float) -> Sample:
        """The oldest sample that is not before ``at``, but never the last one."""
        found = self._samples[-2]
        for sample in reversed(self._samples):
            if sample.at < at - STEP_S / 2:
                break
            if sample is not self._samples[-1]:
                found = sample
        return found

    def _value(self, sample: Sample, name: str) -> float:
        number = self._numbers.get(name)
        return 0.0 if number is None or number >= len(sample.values) else sample.values[number]


def quantile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """Of a histogram: ``counts`` of values up to each of ``bounds``, cumulative; the last bound is infinite.

    Linear within a bucket, as Prometheus' ``histogram_quantile``; values beyond the last finite bound count
    as that bound. None: there are no values.
    """
    total = counts[-1] if counts else 0.0
    if total <= 0:
        return None
    rank, below, low = share * total, 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=True):
        if count >= rank:
            if bound == float("inf"):
                return low
            return low + (bound - low) * ((rank - below) / (count - below) if count > below else 1.0)
        below, low = count, bound
    return low
