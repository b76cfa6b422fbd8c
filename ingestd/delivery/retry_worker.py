"""The retry worker: leases dead letters that are due and sends them through the lane, behind live traffic.

A letter whose batch may have been taken goes out as that same batch under the same key; what the API
has definitely not taken goes out in a new one. The lane's Book settles both in the store.
"""

import asyncio
from typing import Protocol

from ingestd.core.batch import Batch
from ingestd.core.clock import Clock
from ingestd.delivery.lane import Lane


class Letter(Protocol):
    """What the worker needs to know of a stored letter."""

    @property
    def id(self) -> int: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def digest(self) -> bytes | None: ...
    @property
    def batch(self) -> str: ...
    @property
    def batch_index(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def unanswered(self) -> int: ...
    @property
    def first_sent(self) -> float: ...
    @property
    def intact(self) -> bool: ...


class LetterStore(Protocol):
    async def lease(self) -> list[Letter]:
        """The letters of the next retry, none if none is due; they are this worker's until settled."""
        ...

    async def damaged(self, numbers: list[int]) -> None:
        """These letters are not what was stored; they must wait for a person."""
        ...


class RetryWorker:
    """``first_pass`` is set once nothing more is due; ``run`` goes on until it is cancelled or ``once``."""

    def __init__(
        self, letters: LetterStore, lane: Lane, *, clock: Clock, window_s: float, poll_s: float = 5.0
    ) -> None:
        self.first_pass = asyncio.Event()
        self._letters = letters
        self._lane = lane
        self._clock = clock
        self._window_s = window_s
        self._poll_s = poll_s

    async def run(self, *, once: bool = False) -> None:
        while True:
            letters = await self._letters.lease()
            if letters:
                await self._send(letters)
            else:
                self.first_pass.set()
                if once:
                    return
                await self._clock.sleep(self._poll_s)

    async def _send(self, letters: list[Letter]) -> None:
        if damaged := [letter.id for letter in letters if not letter.intact]:
            await self._letters.damaged(damaged)
        sound = [letter for letter in letters if letter.intact]
        if sound:
            await self._lane.submit_letters(rebuild(sound, now=self._clock.wall(), window_s=self._window_s))


def rebuild(letters: list[Letter], *, now: float, window_s: float) -> Batch:
    """The batch these letters were, if they all are there and the API still knows its key; else a new one."""
    first = letters[0]
    same = (
        bool(first.unanswered)
        and len(letters) == first.batch_size
        and now - first.first_sent < window_s
        and all(letter.batch == first.batch for letter in letters)
        and [letter.batch_index for letter in letters] == list(range(first.batch_size))
    )
    batch = Batch(
        [letter.payload for letter in letters],
        [letter.digest for letter in letters],
        [],
        batch_id=first.batch if same else None,
        letters=tuple(letter.id for letter in letters),
    )
    if same:
        batch.unanswered = True
        batch.first_sent_wall = first.first_sent
    return batch
