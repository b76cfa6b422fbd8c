"""When the next call of the control plane may go: our own rate, and what the API says is left. For one token.

Called by ``api_client.py``. A lane has its own, ``delivery/rate_limiter.py``, which cannot wait.
"""

import asyncio
from collections.abc import Mapping

from ingestd.core.clock import Clock
from ingestd.core.token_bucket import TokenBucket
from ingestd.transport.headers import rate_limit

_LOW_SHARE = 0.2
"""Below this share of what is allowed, what is left is spread over the time until the count starts again."""


class ApiPace:
    """Never more than ``requests_per_minute`` in any minute, a fifth of them at once; 0: no limit of ours."""

    def __init__(self, requests_per_minute: int, *, clock: Clock) -> None:
        self._clock = clock
        self._bucket = None
        if requests_per_minute:
            burst = max(1.0, requests_per_minute // 5)
            self._bucket = TokenBucket(max(1.0, requests_per_minute - burst) / 60.0, burst, clock.monotonic())
        self._gap_s = 0.0
        self._not_before = self._gap_until = float("-inf")
        self._turns = asyncio.Lock()

    async def wait_for_turn(self, *, within_s: float) -> bool:
        """Waits until a call may go, one after another. False, at once, where that is later."""
        until = self._clock.monotonic() + within_s
        async with self._turns:
            while (wait_s := self._wait_s(self._clock.monotonic())) > 0:
                if self._clock.monotonic() + wait_s > until:
                    return False
                await self._clock.sleep(wait_s)
            now = self._clock.monotonic()
            if self._bucket:
                self._bucket.take(now)
            if now < self._gap_until:
                self._not_before = max(self._not_before, now + self._gap_s)
            return True

    def answered(self, headers: Mapping[str, str]) -> None:
        """Keeps what the answer says is left."""
        allowance = rate_limit.parse(headers)
        if allowance is None:
            return
        now = self._clock.monotonic()
        if allowance.remaining <= 0:
            self.hold(allowance.reset_s)
        elif allowance.limit and allowance.remaining < _LOW_SHARE * allowance.limit:
            self._gap_s = allowance.reset_s / (allowance.remaining + 1)
            self._gap_until = now + allowance.reset_s
        else:
            self._gap_until = float("-inf")

    def hold(self, seconds: float) -> None:
        """Sends nothing for this time: the API said so."""
        self._not_before = max(self._not_before, self._clock.monotonic() + seconds)

    def _wait_s(self, now: float) -> float:
        wait_s = self._not_before - now
        if self._bucket and (lacking_s := self._bucket.wait_s(now)):
            # a little more than exact: it must not come up short by a rounding, and go round for ever
            wait_s = max(wait_s, lacking_s + 0.001)
        return wait_s
