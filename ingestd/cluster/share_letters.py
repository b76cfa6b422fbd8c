"""The dead letters of a share that its owner sends again, for the retry worker."""

from collections.abc import Sequence

import msgspec

from ingestd.cluster.letter_mirror import LetterMirror
from ingestd.store.dead_letters import StoredLetter
from ingestd.store.letter_queue import LetterQueue


class LetterLimits(msgspec.Struct, frozen=True):
    """``requested_only``: only letters that a person wants sent; ``max_events``, ``max_bytes``: of one
    request."""

    requested_only: bool
    poll_s: float
    max_events: int
    max_bytes: int


class ShareLetters:
    """One worker at a time owns the share: no other sends them."""

    def __init__(self, mirror: LetterMirror, queue: LetterQueue) -> None:
        self._mirror = mirror
        self._queue = queue

    async def lease(self) -> Sequence[StoredLetter]:
        """The letters of the next request, as they stand in the stream at this moment. Raises BrokerAway."""
        while True:
            async with self._mirror.turn:
                await self._mirror.look()
                if not len(self._mirror):
                    return []
                letters = await self._queue.lease()
                gone = await self._mirror.are_gone([letter.id for letter in letters]) if letters else ()
                if not gone:
                    return letters
                self._mirror.table.give_back(letter.id for letter in letters)
