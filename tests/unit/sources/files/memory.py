"""A stream in memory that gives as much as it likes at a time, and regions cut from it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ingestd.sources.files.arrays import JsonArray
from ingestd.sources.files.lines import Lines
from ingestd.sources.files.splitter import Damaged, Region

R = TypeVar("R")


class Memory:
    """``sizes``: how much each read gives at most, over and over. ``cut``: its end is not the true one."""

    def __init__(self, data: bytes, sizes: Sequence[int] = (1 << 20,), *, cut: bool = False) -> None:
        self._data = self._all = data
        self._sizes = sizes
        self._reads = 0
        self._cut = cut
        self.cut_off = False

    def read(self, size: int, /) -> bytes:
        if not self._data:
            self.cut_off = self._cut
            return b""
        got = max(1, min(size, self._sizes[self._reads % len(self._sizes)]))
        self._reads += 1
        piece, self._data = self._data[:got], self._data[got:]
        return piece

    def back(self, count: int) -> None:
        """The last bytes come again."""
        self._data = self._all[len(self._all) - len(self._data) - count :]


def regions_of(splitter: Lines | JsonArray) -> tuple[list[Region], str]:
    """All regions, and the damage that ended them, if any."""
    regions: list[Region] = []
    try:
        while region := splitter.next_region():
            regions.append(region)
    except Damaged as damage:
        return regions, str(damage)
    return regions, ""


def events_of(regions: Sequence[Region]) -> list[bytes]:
    return [event for region in regions for event in region.events]


def outline(regions: Sequence[Region]) -> list[object]:
    """All that makes a region what it is, to compare."""
    return [
        (
            r.events,
            r.start,
            r.end,
            r.line,
            r.next_line,
            r.too_long,
            [r.locate(i) for i in range(len(r.events))],
        )
        for r in regions
    ]


def read_by(
    reader: Callable[..., R],
    data: bytes,
    sizes: list[int],
    *,
    start: int = 0,
    line: int = 1,
    cut: bool = False,
    **options: Any,
) -> R:
    """``data`` from ``start`` on, which comes in pieces of these ``sizes``."""
    return reader(Memory(data[start:], sizes, cut=cut), start=start, line=line, **options)
