"""Which partition an event goes to: by its order key, else by what makes it a copy of another."""

from collections.abc import Callable, Mapping, Sequence
from zlib import crc32

from ingestd.core.chunk import packed_keys
from ingestd.core.receipt import Digests
from ingestd.core.sequences import spread
from ingestd.processing.dedup import DIGEST_BYTES

OrderOf = Callable[[bytes], str | None]


def _spread(data: bytes) -> int:
    return spread(crc32(data))


class EventSplitter:
    """``order_of``: an event's order key, where order is asked for. Events that are copies of each other, and
    those of one order key, meet in one partition. ``first``: the number of the first one."""

    def __init__(self, partitions: int, order_of: OrderOf | None = None, *, first: int = 0) -> None:
        self.partitions = partitions
        self._first = first
        self._order_of = order_of

    @property
    def keeps_order(self) -> bool:
        return self._order_of is not None

    def split(self, events: Sequence[bytes], digests: Digests) -> Mapping[int, Sequence[int]]:
        """By partition the positions of its events, ascending."""
        count = self.partitions
        if count == 1:
            return {self._first: range(len(events))}
        found: list[list[int]] = [[] for _ in range(count)]
        adds = [one.append for one in found]
        order_of = self._order_of
        if order_of is None and len(keys := packed_keys(digests)) == len(events) * DIGEST_BYTES:
            low, high = keys[::DIGEST_BYTES], keys[1::DIGEST_BYTES]
            # of some numbers of partitions the first byte alone decides
            numbers = (
                low if 256 % count == 0 else [one | other << 8 for one, other in zip(low, high, strict=True)]
            )
            for position, number in enumerate(numbers):
                adds[number % count](position)
        elif order_of is None:
            for position, digest in enumerate(digests):
                number = digest[0] | digest[1] << 8 if digest else _spread(events[position])
                adds[number % count](position)
        else:
            for position, event in enumerate(events):
                if (key := order_of(event)) is not None:
                    number = _spread(key.encode("utf-8", "surrogatepass"))
                elif digest := digests[position]:
                    number = digest[0] | digest[1] << 8
                else:
                    number = _spread(event)
                adds[number % count](position)
        return {partition: positions for partition, positions in enumerate(found, self._first) if positions}
