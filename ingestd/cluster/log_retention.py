"""Which records of a share's log are kept: those that are not settled, or younger than the window."""

from collections.abc import Set

import msgspec

from ingestd.cluster.share_log import Record, ShareLog


class KeptRecord(msgspec.Struct):
    """What decides whether a record may be forgotten. ``last``: the last chunk that it speaks of."""

    sequence: int
    upto: float
    batches: list[str]
    last: int


def kept_record(sequence: int, record: Record) -> KeptRecord:
    chunks = [chunk for batch in record.frozen for chunk, _ in batch.places]
    chunks += [chunk for chunk, _ in record.dismissed]
    batches = [batch.id for batch in record.frozen] + [again.id for again in record.again]
    return KeptRecord(sequence, record.upto, batches, max(chunks, default=0))


class LogRetention:
    """``kept``: the records that are there, oldest first."""

    def __init__(self, log: ShareLog, kept: list[KeptRecord]) -> None:
        self._log = log
        self._kept = kept

    def add(self, sequence: int, record: Record) -> None:
        self._kept.append(kept_record(sequence, record))

    async def forget(self, *, oldest: float, floor: int, open_batches: Set[str]) -> None:
        """What nobody needs any more: settled, as all up to the ``floor`` is, and read before ``oldest``. The
        last record always stays."""
        kept = self._kept
        count = 0
        while count < len(kept) - 1:
            one = kept[count]
            if one.upto > oldest or one.last > floor or not open_batches.isdisjoint(one.batches):
                break
            count += 1
        if count:
            await self._log.purge(kept[count].sequence)
            del kept[:count]
