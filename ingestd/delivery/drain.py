"""A lane whose process is to end: for how long it goes on, and what it tries again. Pure; time is passed in.

An attempt that comes to nothing is made again while there is time: a connection that broke or a token that
was renewed is no reason to leave events behind. An outage is, and so is a sink that fails again and again.
"""

import math

from ingestd.core.batch import Batch
from ingestd.delivery.backoff import Backoff
from ingestd.delivery.flow_control import FlowControl
from ingestd.delivery.queues import Queues

WITHIN_S = 25.0
MOST_TRIES = 5
"""Attempts in a drain that come to nothing, for the same events; then they wait for the next start."""
_MOST_WAIT_S = 1.0


class Drain:
    """``begin`` once. ``feeding``: more batches come, from one who waits for room. ``left``: how many were
    tried and will not be again."""

    def __init__(self) -> None:
        self.begun = self.feeding = False
        self.left = 0
        self._until = math.inf

    def begin(self, now: float, within_s: float, *, feeding: bool) -> None:
        self.begun, self.feeding, self._until = True, feeding, now + within_s

    def is_hopeless(self, now: float, gate: FlowControl, queues: Queues, *, held_back: bool) -> bool:
        """The sink is away, or nothing may go before the time is over."""
        if not self.begun or held_back:
            return self.begun
        too_late = gate.is_probing or gate.opens_at > self._until
        return too_late or (queues.only_repeats and gate.repeats_from(now) > self._until)

    def tries_again(self, batch: Batch, now: float, *, delay_s: float) -> bool:
        """Whether a batch that could not be sent goes again, after ``delay_s``. Dead letters have a store."""
        if batch.letters:
            return False
        batch.drained += delay_s > 0
        again = batch.drained < MOST_TRIES and now + delay_s <= self._until
        self.left += not again
        return again

    def backoff(self, usual: Backoff) -> Backoff:
        """Cut short; what the API itself asks for stays."""
        if not self.begun:
            return usual
        return Backoff(min(usual.base_s, _MOST_WAIT_S), min(usual.cap_s, _MOST_WAIT_S))
