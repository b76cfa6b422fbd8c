"""The dedup window of a share. Its time is that of the stream: when the chunk was stored that is read.

So a share that lags by hours knows the same copies as one that does not, and a new owner judges as the one
before would have done.
"""

from collections.abc import Sequence

from ingestd.core.receipt import Digests, Positions
from ingestd.processing.claim import WaitingCopy
from ingestd.processing.dedup import Window


class StreamWindow(Window):
    """``upto``: wall time of the youngest chunk that was read."""

    upto = 0.0

    def confirm(self, digests: Sequence[bytes], now: float) -> list[WaitingCopy]:
        """``now`` is not looked at."""
        return super().confirm(digests, self.upto)

    def take(
        self, digests: Digests, positions: Positions
    ) -> tuple[list[int], list[int], list[tuple[int, bytes]]]:
        """Claims the keys of the events at ``positions``. Gives those that are new, those that are copies of
        what is safe, and (position, key) of copies of what is on its way."""
        known, copies = self._table.claim_digests(digests, positions, self.upto)
        if not (known or copies):
            return [*positions], known, copies
        gone = {*known, *(position for position, _ in copies)}
        return [position for position in positions if position not in gone], known, copies
