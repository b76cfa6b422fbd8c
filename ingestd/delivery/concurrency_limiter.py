"""How many requests at once, and whether at all, by what the API says and how fast. Pure; time is passed in.

The lane asks ``limit`` before each request, and reports each answer.
"""

import math
from enum import Enum, auto

CALM = 8
"""This many at the same time are no burden to an API: the limit starts here, and only a refusal takes it
lower."""
_DOUBLING_ROUNDS = 4
_DIP = 0.75
_DIP_ROUNDS = 2
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
    """Whether round trips have grown long, and whether it is us.

    A round is the time until requests that were sent in it are answered: one judgement for each.

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

    def add(self, *, started: float, seconds: float, size: int, accepted: bool) -> bool:
        """True if the round is full."""
        if started < self._began:
            return False
        self._samples.append((size.bit_length(), seconds, accepted))
        return len(self._samples) >= self._wanted

    def judge(self, limit: float) -> LatencyTrend:
        """Of the round that is full; ``limit``: on requests at once."""
        known_of = {size: self._known(size) for size in {size for size, _, _ in self._samples}}
        ratios = [
            seconds / known if seconds - known > _SLACK_S else 1.0
            for size, seconds, accepted in self._samples
            if (known := known_of[size]) and (accepted or seconds > known)
        ]
        self._learn()
        self._rounds += 1
        if not ratios:
            return LatencyTrend.CALM
        self.ratio = ratio = _median(ratios)
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
        # the API became slower without us: measure its latency again
        self._means, self._shortest, self._shortest_before = {}, {}, {}
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
        means, shortest = self._means, self._shortest
        for size, seconds, accepted in self._samples:
            if not accepted:
                continue
            count, mean = means.get(size, (0, 0.0))
            if count < _MEAN_OF:
                count += 1
            mean += (seconds - mean) / count
            means[size] = (count, mean)
            if count >= _FEWEST and mean < shortest.get(size, math.inf):
                shortest[size] = mean


def _median(values: list[float]) -> float:
    """As ``statistics.median``, without its import."""
    values.sort()
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


class ConcurrencyLimiter:
    """Additive increase, multiplicative decrease between 1 and ``most`` requests at once.

    It grows while it is reached: at first by doubling each round trip, after the first sign of load by
    one, and faster again after several round trips without any. Where round trips grow long it shrinks by
    a tenth, once for each; the times are those of single attempts, never with the waiting in between.
    Now and then it dips, to see how fast the API is when it is not busy.

    One 429 holds back its own batch and halves the limit. A second one in a row, for a request that
    was started after the first was seen, shows that the whole lane is too fast: nothing more is sent
    until the time the API named.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(min(most, CALM))
        self._ceiling = float(most)  # of this round
        self._trips = LatencyMonitor()
        self._opening = True  # no sign of load yet
        self._may_grow = True
        self._step = 1.0  # how much it grows in a round trip
        self._calm_rounds = 0
        self._dipping = 0
        self._is_reached = False
        self._refused_at = float("-inf")
        self._refused_before = False
        self.closed_until = float("-inf")

    @property
    def limit(self) -> int:
        if self._dipping:
            return max(CALM, int(self._limit * _DIP))
        return int(self._limit)

    def succeeded(
        self, active: int, *, started: float = 0.0, now: float = 0.0, seconds: float = 0.0, size: int = 0
    ) -> None:
        """``active``: requests that were out, this one included; the limit grows only if it was reached.
        ``seconds``: of this attempt; ``size`` of its body in bytes."""
        self._refused_before = False
        self._is_reached = active >= self.limit
        if self._is_reached and self._may_grow and self._limit < self._most and not self._dipping:
            step = self._limit if self._opening else self._step
            self._limit = min(self._ceiling, self._limit + step / self._limit)
        if self._most > CALM:
            self._measure(started, now, seconds, size, accepted=True)

    def failed(self, *, started: float, now: float, seconds: float, size: int) -> None:
        """An attempt failed. One that took long is a sign of load, a quick one says nothing."""
        if self._most > CALM:
            self._measure(started, now, seconds, size, accepted=False)

    def slow_down(self, *, started: float, now: float, wait_s: float, throttled: bool) -> None:
        """A request started at ``started`` was answered 429 (``throttled``) or 503."""
        if started < self._refused_at:
            return  # sent before the API had said so
        self._limit = max(1.0, self._limit / 2)
        self._loaded()
        self._begin_round(now)
        if throttled and self._refused_before:
            self.closed_until = max(self.closed_until, now + wait_s)
        self._refused_before = throttled
        self._refused_at = now

    def _measure(self, started: float, now: float, seconds: float, size: int, *, accepted: bool) -> None:
        trips = self._trips
        if not trips.add(started=started, seconds=seconds, size=size, accepted=accepted):
            return
        load = trips.judge(self._limit)
        if self._dipping:
            self._dipping -= 1
        elif load is LatencyTrend.CALM or not self._is_reached:  # what others do is no reason to shrink
            self._calm(trips)
        elif load is LatencyTrend.HEAVY and self._limit > CALM:
            if self._opening:  # the round trips that showed it are of before the last doubling
                trips.restart_search()
            less = 0.5 if self._opening else 0.9 if trips.ratio < 2 else 0.8
            self._limit = max(float(CALM), self._limit * less)
            self._loaded()
        elif load is LatencyTrend.UNRELATED:
            self._limit = min(float(self._most), max(self._limit, trips.limit_before))
            self._loaded()
        else:
            self._loaded()
            self._may_grow = False
        if trips.is_old:
            self._dipping = _DIP_ROUNDS if trips.age_out() and self._limit > CALM else 0
        self._begin_round(now)

    def _begin_round(self, now: float) -> None:
        self._ceiling = min(float(self._most), self._limit * 2)
        self._trips.begin(now, limit=self.limit)

    def _calm(self, trips: LatencyMonitor) -> None:
        self._may_grow = True
        self._calm_rounds += 1
        if self._calm_rounds % _DOUBLING_ROUNDS == 0:
            self._step = min(self._step * 2, max(1.0, self._limit / 4))

    def _loaded(self) -> None:
        """A sign of load: from now on one by one."""
        self._opening, self._may_grow = False, True
        self._step, self._calm_rounds = 1.0, 0
