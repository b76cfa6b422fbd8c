"""How an API is asked what became of events: one GET with credentials, and less and less where that fails.

For ``status_poller.py`` and ``ingestd publish``.
"""

import random

from msgspec.structs import replace

from ingestd.core.answer import Answer
from ingestd.core.clock import Clock
from ingestd.transport.client import Auth, Client
from ingestd.transport.token_refusal import TokenRenewal, concerns_token


class StatusClient:
    """GET with the credentials of a sink. Not for signatures, which are made for what is posted."""

    def __init__(self, client: Client, auth: Auth, clock: Clock) -> None:
        self._clock = clock
        self._client = client
        self._auth = auth
        self._renewal = TokenRenewal()

    async def get(self, url: str) -> Answer:
        """Asked again with a new token where the API refuses it, once for each token. Raises Unreachable when
        there is none to be had."""
        started = self._clock.monotonic()
        answer, generation = await self._get(url)
        if not concerns_token(answer):
            self._renewal.worked = max(self._renewal.worked, generation)
        elif self._renewal.allows(generation, started=started, now=self._clock.monotonic()):
            self._auth.drop(generation)
            answer, _ = await self._get(url)
        return replace(answer, body=self._auth.mask(answer.body))

    async def _get(self, url: str) -> tuple[Answer, int]:
        headers = {"Accept": "application/json"}
        added, generation = await self._auth.headers(url, b"", headers)
        return await self._client.request("GET", url, headers={**headers, **added}), generation


class PollBackoff:
    """How long all polls are held back when some fail. Pure; time is passed in."""

    def __init__(self, *, max_wait_s: float, rng: random.Random) -> None:
        self.in_a_row = 0
        self.hold_until = float("-inf")
        self._max_wait_s = max_wait_s
        self._random = rng
        self._seen_at = float("-inf")

    def note(self, *, started: float, now: float, after_s: float) -> bool:
        """One poll failed. False if it was sent before the last failure was seen, and so says nothing new.
        ``after_s``: the least to wait."""
        new = started >= self._seen_at
        if new:
            self.in_a_row += 1
            self._seen_at = now
            after_s = max(
                after_s, jitter(min(self._max_wait_s, 2.0 ** min(self.in_a_row - 1, 32)), self._random)
            )
        self.hold_until = max(self.hold_until, now + after_s)
        return new

    def over(self) -> int:
        """A poll was answered; gives how many failed before it."""
        before, self.in_a_row = self.in_a_row, 0
        return before


def jitter(ceiling_s: float, rng: random.Random) -> float:
    """Up to a quarter less, so that what was put off together does not come back together."""
    return rng.uniform(0.75 * ceiling_s, ceiling_s)
