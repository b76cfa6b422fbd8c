"""An API with so many servers, on a clock of its own, and a lane that always has something to send."""

import heapq
import random
from dataclasses import dataclass, field

from ingestd.delivery.concurrency_limiter import ConcurrencyLimiter

SERVICE_S = 0.1


@dataclass
class Simulation:
    """``capacity`` requests are served at once; more wait, and past ``queue`` are refused with 429.

    ``slowness`` stretches each service time; ``sizes`` are drawn from, and stretch it by their share.
    """

    limiter: ConcurrencyLimiter
    capacity: int
    queue: int = 1000
    jitter: float = 0.1
    slowness: float = 1.0
    sizes: tuple[int, ...] = (1000,)
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    now: float = 0.0
    taken: int = 0
    refused: int = 0
    out: int = 0
    waiting: list[tuple[float, int]] = field(default_factory=list)
    busy: int = 0
    events: list[tuple[float, int, float, int, bool]] = field(default_factory=list)
    numbers: int = 0

    def run(self, seconds: float) -> "Window":
        """Gives what was seen in that time."""
        end, taken, refused, area = self.now + seconds, self.taken, self.refused, 0.0
        self._send()
        while self.events and self.events[0][0] <= end:
            at, _, started, size, ok = heapq.heappop(self.events)
            area += self.limiter.limit * (at - self.now)
            self.now = at
            self._answered(started, size, ok=ok)
            self._send()
        area += self.limiter.limit * (end - self.now)
        self.now = end
        return Window((self.taken - taken) / seconds, self.refused - refused, area / seconds)

    def _answered(self, started: float, size: int, *, ok: bool) -> None:
        if ok:
            self.busy -= 1
            self.taken += 1
            self.limiter.succeeded(
                self.out, started=started, now=self.now, seconds=self.now - started, size=size
            )
        else:
            self.refused += 1
            self.limiter.slow_down(started=started, now=self.now, wait_s=SERVICE_S, throttled=True)
        self.out -= 1
        self._serve()

    def _send(self) -> None:
        while self.out < self.limiter.limit and self.now >= self.limiter.closed_until:
            self.out += 1
            size = self.rng.choice(self.sizes)
            if self.busy >= self.capacity and len(self.waiting) >= self.queue:
                self._later(self.now + 0.01, self.now, size, ok=False)
            else:
                self.waiting.append((self.now, size))
                self._serve()
        if not self.events:  # closed: look again when it opens
            self.now = self.limiter.closed_until
            self._send()

    def _serve(self) -> None:
        while self.waiting and self.busy < self.capacity:
            started, size = self.waiting.pop(0)
            self.busy += 1
            stretch = (
                self.slowness * size / max(self.sizes) * self.rng.uniform(1 - self.jitter, 1 + self.jitter)
            )
            self._later(self.now + SERVICE_S * stretch, started, size, ok=True)

    def _later(self, at: float, started: float, size: int, *, ok: bool) -> None:
        self.numbers += 1
        heapq.heappush(self.events, (at, self.numbers, started, size, ok))


@dataclass(frozen=True)
class Window:
    """``rate``: taken in a second; ``limit``: its mean."""

    rate: float
    refused: int
    limit: float
