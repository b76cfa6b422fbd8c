"""Which events of a batch are refused by order, one by one. Used by every endpoint that takes batches."""

import random
from collections.abc import Collection, Sequence

from ingestd.sandbox.exchange import Exchange

MAX_PARTIAL = 3
"""Events of one batch that the fault ``partial`` refuses."""

_MAX_REFUSED_ONCE = 100_000


def again_words(again: bool) -> str:
    """What an answer says of an event that was refused by order."""
    return "temporarily not taken: send it again" if again else "this event is never taken"


class ItemFaults:
    """``partial``: a few of a batch; ``event-retry``: a share of all; both only the first time they come.

    ``event-dead``: a share of all, every time. Whom the shares strike depends on the event and the seed
    alone, not on who else is in the batch.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        self._refused_once: set[bytes] = set()
        self._dice = random.Random(f"{self._seed}:partial")

    def ordered(self, exchange: Exchange) -> bool:
        return exchange.order.partial or exchange.faults.has("event")

    def pick(
        self, identities: Sequence[bytes], exchange: Exchange, *, spare: Collection[int] = ()
    ) -> dict[int, bool]:
        """Index -> may it be sent again. ``spare``: those that are refused already."""
        refused: dict[int, bool] = {}
        if not self.ordered(exchange):
            return refused
        for index, identity in enumerate(identities):
            fault = exchange.faults.strikes("event", identity) if index not in spare else None
            if fault is None:
                continue
            if fault.kind == "event-dead":
                refused[index] = False
            elif self._first_time(identity):
                refused[index] = True
        if exchange.order.partial:
            count = min(MAX_PARTIAL, len(identities))
            for index in self._dice.sample(range(len(identities)), count):
                if index not in spare and index not in refused and self._first_time(identities[index]):
                    refused[index] = True
        return dict(sorted(refused.items()))

    def _first_time(self, identity: bytes) -> bool:
        if identity in self._refused_once or len(self._refused_once) >= _MAX_REFUSED_ONCE:
            return False
        self._refused_once.add(identity)
        return True
