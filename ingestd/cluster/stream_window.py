"""The dedup window of a share. Its time is that of the stream: when the chunk was stored that is read.

So a share that lags by hours knows the same copies as one that does not, and a new owner judges as the one
before would have done.
"""

from collections.abc import Sequence

from ingestd.core.receipt import Digests, Positions
from ingestd.processing.dedup import WaitingCopy, Window


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
        new: list[int] = []
        known: list[int] = []
        copies: list[tuple[int, bytes]] = []
        mine: set[bytes] = set()
        table = self._table
        table.claim((), self.upto)  # what is too old is forgotten
        has, is_pending = table.has, table.is_pending
        for position in positions:
            digest = digests[position]
            if digest is None:
                new.append(position)
            elif digest in mine:
                copies.append((position, digest))
            elif not has(digest):
                mine.add(digest)
                new.append(position)
            elif is_pending(digest):
                copies.append((position, digest))
            else:
                known.append(position)
        table.reclaim(mine)
        return new, known, copies
