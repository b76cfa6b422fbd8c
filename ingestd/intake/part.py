"""The part of the input that one of several processes takes, which all read it: `replay --workers`.

An event is of one part: by its order key, else by what makes it a copy of another, else by its bytes. Their
checksum says which, the same in each process and in each run, whatever the secret of a window.
"""

from collections.abc import Callable, Sequence
from zlib import crc32

import msgspec

from ingestd.core.chunk import Chunk
from ingestd.core.sequences import of_part, pick, spread
from ingestd.processing.validate import ValidatedChunk
from ingestd.schemas.key_paths import KeyWatch

OrderOf = Callable[[bytes], str | None]


class Part(msgspec.Struct, frozen=True):
    """``number`` of ``count``, from 0. ``order_of``: an event's order key, where order is asked for."""

    number: int
    count: int
    order_of: OrderOf | None = None

    @property
    def by_key(self) -> tuple[int, int] | None:
        """Where what makes copies says of which part an event is."""
        return None if self.order_of else (self.number, self.count)

    def positions(self, events: Sequence[bytes], checked: ValidatedChunk) -> Sequence[int]:
        """Of the events of this part, ascending."""
        keys, refused_keys, order_of = checked.keys, checked.refused_keys, self.order_of

        def is_mine(position: int) -> bool:
            order = order_of(events[position]) if order_of else None
            text = order or keys[position] or refused_keys.get(position)
            checksum = crc32(text.encode("utf-8", "surrogatepass") if text else events[position])
            return spread(checksum) % self.count == self.number

        if order_of:
            return [*filter(is_mine, range(len(events)))]
        mine = of_part(keys, self.number, self.count)
        others = [at for at, key in enumerate(keys) if key == ""] if "" in keys else []
        if others := [*filter(is_mine, [*others, *checked.refused])]:
            return sorted([*mine, *others])
        return mine

    def narrow(self, chunk: Chunk, checked: ValidatedChunk, watch: KeyWatch | None) -> ValidatedChunk:
        """The chunk has the events of this part alone from here on; the others are no concern of its receipt.
        ``watch``: counts those of the part."""
        mine = self.positions(chunk.events, checked)
        others = len(chunk.events) - len(mine)
        if others:
            checked, place_of = checked.pick(mine), chunk.place
            long = chunk.too_long and {at: place for place, at in enumerate(mine) if at in chunk.too_long}
            too_long = {long[at]: length for at, length in chunk.too_long.items() if at in long}

            def place(index: int) -> tuple[int, int]:
                return place_of(mine[index])

            chunk.events, chunk.too_long, chunk.place = pick(chunk.events, mine), too_long, place
            chunk.receipt.settle(others)
        if watch:
            checked.count_for(watch)
        return checked
