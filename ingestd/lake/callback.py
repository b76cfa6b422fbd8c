"""Tells a URL of each file that is in the lake: one POST of its manifest. Called by ``lake.py``.

At least once while the process lives; it is not kept over a restart. A receiver that must not miss a file
lists the manifests: they are in the lake.
"""

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ingestd.core.answer import Answer
from ingestd.core.backoff import Backoff
from ingestd.core.clock import Clock, SystemClock, system_rng
from ingestd.core.errors import Unreachable
from ingestd.sinks import answers

MAX_QUEUED = 1000
MAX_ATTEMPTS = 8


class CallbackTransport(Protocol):
    """``transport/client.py``: sends a POST with credentials, or signed."""

    async def send(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[Answer, int]:
        """The answer, and the generation of its credential. Raises Unreachable."""
        ...

    def drop_token(self, generation: int) -> None:
        """The credential of that generation was refused: take a newer one."""
        ...


class _Call(NamedTuple):
    name: str
    manifest: bytes


class Callback:
    """``notify`` never waits; ``run`` until cancelled. Every 2xx is a good answer; others are tried again, at
    most MAX_ATTEMPTS times. ``url`` may be a secret and is never shown.

    Counts: ``sent``, ``failed`` (given up, or no room in the queue), ``queued``.
    """

    def __init__(
        self,
        transport: CallbackTransport,
        url: str,
        *,
        warn: Callable[[str], None],
        max_attempts: int = MAX_ATTEMPTS,
        backoff: Backoff | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.sent = self.failed = 0
        self._transport = transport
        self._url = url
        self._warn = warn
        self._max_attempts = max_attempts
        self._backoff = backoff or Backoff()
        self._clock = clock or SystemClock()
        self._random = rng or system_rng()
        self._queue: deque[_Call] = deque()
        self._attempts = 0  # for the first of them
        self._arrived = asyncio.Event()
        self._turns = asyncio.Lock()

    @property
    def queued(self) -> int:
        return len(self._queue)

    def notify(self, name: str, manifest: bytes) -> None:
        if len(self._queue) >= MAX_QUEUED:
            self._give_up(name, f"{MAX_QUEUED} others wait")
            return
        self._queue.append(_Call(name, manifest))
        self._arrived.set()

    async def run(self) -> None:
        while True:
            if self._queue:
                await self._clock.sleep(await self._turn())
            else:
                self._arrived.clear()
                await self._arrived.wait()

    async def drain(self) -> None:
        """Each of those that wait, once."""
        for _ in range(len(self._queue)):
            if self._queue:
                await self._turn(last=True)

    async def _turn(self, *, last: bool = False) -> float:
        """One attempt for the first call. Gives the seconds to wait before the next."""
        async with self._turns:
            if not self._queue:
                return 0.0
            call = self._queue[0]
            problem = await self._send(call)
            self._attempts += 1
            if problem and self._attempts < self._max_attempts and not last:
                return self._backoff.delay(self._attempts, rng=self._random)
            self._queue.popleft()
            self._attempts = 0
        if problem:
            self._give_up(call.name, problem)
        else:
            self.sent += 1
        return 0.0

    async def _send(self, call: _Call) -> str:
        """Empty, or what went wrong."""
        call_id = f"lake_{hashlib.sha256(call.name.encode()).hexdigest()[:32]}"
        headers = {"Content-Type": "application/json", "webhook-id": call_id, "Idempotency-Key": call_id}
        try:
            answer, generation = await self._transport.send(self._url, call.manifest, headers)
        except Unreachable as error:
            return str(error)
        if 200 <= answer.status < 300:
            return ""
        if answer.status == 401:
            self._transport.drop_token(generation)
        return answers.words(answer)

    def _give_up(self, name: str, why: str) -> None:
        self.failed += 1
        self._warn(f"the callback for {name} was not delivered, the file is there: {why}")
