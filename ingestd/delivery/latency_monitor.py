"""Whether round trips have grown long, and whether it is us. Pure; the limiter's measure of load."""

from enum import Enum, auto
from statistics import median

_SLACK_S = 0.01
"""Differences below are our own event loop's."""
_SOME, _MUCH = 1.1, 1.25
"""Times as long as without load: from where the limit stays, and from where it shrinks."""
_FEWEST_SAMPLES, _MOST_SAMPLES = 5, 400
_FEWEST, _MEAN_OF = 8, 40
"""Answers of a class from which on their mean is believed, and how many it reaches back."""
_GENERATION_ROUNDS = 60
_FOLLOWS, _ENOUGH_LESS = 0.9, 0.6


class LatencyTrend(Enum):
    CALM = auto()
    SOME = auto()
    HEAVY = auto()
    UNRELATED = auto()  # they are long, but did not get shorter when less was sent


class LatencyMonitor:
    """A round is the time until requests that were sent in it are answered: one judgement for each.

    It compares the median, so that a lone slow answer changes nothing, with the shortest running mean
    of the last two generations of rounds, of bodies of like size: a power of two is a class.
    """

    def __init__(self) -> None:
        self._began = float("-inf")
        self._wanted: float = _FEWEST_SAMPLES
        self._samples: list[tuple[int, float, bool]] = []  # (class of size, seconds, taken)
        self._means: dict[int, tuple[int, float]] = {}  # of each class the running mean
        self._shortest: dict[int, float] = {}
        self._shortest_before: dict[int, float] = {}
        self._rounds = 0
        self.ratio = 1.0  # of the last round
        self._heavy_since: tuple[float, float] | None = None  # (limit, ratio) when it began
        self.limit_before = 0.0

    def begin(self, now: float, *, limit: float) -> None:
        """A new round: requests that were sent before count no more."""
        self._began = now
        self._wanted = min(max(_FEWEST_SAMPLES, limit / 2), _MOST_SAMPLES)
        self._samples.clear()

    def add(self, *, started: float, seconds: float, size: int, taken: bool) -> bool:
        """True if the round is full."""
        if started < self._began:
            return False
        self._samples.append((size.bit_length(), seconds, taken))
        return len(self._samples) >= self._wanted

    def judge(self, limit: float) -> LatencyTrend:
        """Of the round that is full; ``limit``: on requests at once."""
        ratios = [
            seconds / known if seconds - known > _SLACK_S else 1.0
            for size, seconds, taken in self._samples
            if (known := self._known(size)) and (taken or seconds > known)
        ]
        self._learn()
        self._rounds += 1
        if not ratios:
            return LatencyTrend.CALM
        self.ratio = ratio = median(ratios)
        if ratio < _MUCH:
            self._heavy_since = None
            return LatencyTrend.CALM if ratio < _SOME else LatencyTrend.SOME
        if self._heavy_since is None or ratio > self._heavy_since[1] * 1.15:  # also while a queue still fills
            self._heavy_since = (limit, ratio)
        before, ratio_before = self._heavy_since
        if limit > before * _ENOUGH_LESS:
            return LatencyTrend.HEAVY
        self._heavy_since = (limit, ratio)
        if ratio < ratio_before * _FOLLOWS:
            return LatencyTrend.HEAVY
        self._heavy_since, self.limit_before = None, before
        self._means, self._shortest, self._shortest_before = (
            {},
            {},
            {},
        )  # it has become slower by itself: learn that anew
        return LatencyTrend.UNRELATED

    def restart_search(self) -> None:
        """The limit was not what the round trips had met: the next heavy round is the first of its kind."""
        self._heavy_since = None

    @property
    def is_old(self) -> bool:
        return self._rounds >= _GENERATION_ROUNDS

    def age_out(self) -> bool:
        """A new generation. True if it would be learned under load."""
        self._rounds = 0
        self._shortest_before, self._shortest = self._shortest, {}
        self._means = {}
        return self.ratio > 1.02

    def _known(self, size: int) -> float | None:
        """Seconds without load."""
        now, before = self._shortest.get(size), self._shortest_before.get(size)
        return now if before is None else before if now is None else min(now, before)

    def _learn(self) -> None:
        for size, seconds, taken in self._samples:
            if not taken:
                continue
            count, mean = self._means.get(size, (0, 0.0))
            count = min(count + 1, _MEAN_OF)
            mean += (seconds - mean) / count
            self._means[size] = (count, mean)
            if count >= _FEWEST:
                self._shortest[size] = min(self._shortest.get(size, mean), mean)
