"""Whose fault a failure is: the API's, or that of the one batch that fails. Pure; time is passed in."""

from ingestd.core.batch import Batch

_UNAVAILABLE = frozenset({429, 502, 503, 504})
"""These say that the API, or what stands behind it, is not there: nothing about the batch."""


class PoisonDetector:
    """Keeps a batch that can never be taken from passing for an outage, which it would then wait out.

    ``patient``: nobody waits for an end, as somebody does for a replay's; then an API that says that it
    is not there is believed, though only one batch has heard it.
    """

    def __init__(self, *, patient: bool) -> None:
        self._believed = _UNAVAILABLE if patient else frozenset[int]()
        self._failing: set[str] = set()  # one or two of the batches that failed since the last answer
        self._last_taken = float("-inf")

    def taken(self, now: float) -> None:
        self._last_taken = now

    def answered(self) -> None:
        self._failing.clear()

    def is_the_batchs(self, batch: Batch, now: float) -> bool:
        """``batch`` has failed. It is at fault if others were taken since it first did, or if the API
        answers and this batch alone fails, again and again."""
        if batch.first_failed is None:
            batch.first_failed = now
        elif batch.first_failed < self._last_taken:
            return True
        answered = batch.last_status > 0 and batch.last_status not in self._believed
        again_alone = self._failing == {batch.id} and answered
        if len(self._failing) < 2:
            self._failing.add(batch.id)
        return again_alone
