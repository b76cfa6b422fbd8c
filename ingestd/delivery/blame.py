"""Whose fault a failure is: the API's, or that of the one batch that fails. Pure; time is passed in."""

from ingestd.core.batch import Batch


class Blame:
    """Keeps a batch that can never be taken from passing for an outage, which it would then wait out."""

    def __init__(self) -> None:
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
        again_alone = self._failing == {batch.id} and batch.last_status > 0
        if len(self._failing) < 2:
            self._failing.add(batch.id)
        return again_alone
