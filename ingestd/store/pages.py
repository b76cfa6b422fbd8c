"""The pages of a damaged state file, without SQLite, which reads nothing below a page that it cannot read.

https://www.sqlite.org/fileformat2.html is followed. The newest content of a page may be in the write-ahead
log. A file that can shrink has pages with a map of which page each other one hangs on: so what hangs on a
page of zeros is found, and a page that is free, which may hold what was delivered long ago, is never taken
for one in use."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

PAGE_BYTES = 4096
"""SQLite's own choice; where the head of the file is gone nothing else says it."""

_HEAD = b"SQLite format 3\0"
_MAP_ENTRY = struct.Struct(">BI")
ROOT, NEXT_OVERFLOW, TREE = 1, 4, 5
"""Kinds of pages in the map."""


class PageFile:
    """Numbers begin at 1. ``head``: whether the file's head can be read; ``has_map``: whether the file says
    where its pages hang."""

    def __init__(self, path: Path, log: Path) -> None:
        """Raises OSError."""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._log = -1
        self._in_log: dict[int, int] = {}
        try:
            head = os.pread(self._file, 100, 0)
            self.page_bytes = PAGE_BYTES
            if head.startswith(_HEAD):
                self.page_bytes = _page_bytes(head)
            self.pages = os.fstat(self._file).st_size // self.page_bytes
            if log.exists():
                self._log = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
                self._read_log()
        except BaseException:
            self.close()
            raise
        head = self.page(1)[:100]
        self.head = head.startswith(_HEAD) and _page_bytes(head) == self.page_bytes
        self.usable = self.page_bytes - head[20] if self.head else self.page_bytes
        self.version: int = struct.unpack(">I", head[60:64])[0] if self.head else 0
        # without a head: every file since format 4 has one, and only a few large ones from before have none
        self.has_map = bool(struct.unpack(">I", head[52:56])[0]) if self.head else True

    def close(self) -> None:
        os.close(self._file)
        if self._log >= 0:
            os.close(self._log)

    def page(self, number: int) -> bytes:
        """As it was last committed; empty: there is none."""
        if (at := self._in_log.get(number)) is not None:
            return os.pread(self._log, self.page_bytes, at)
        found = os.pread(self._file, self.page_bytes, (number - 1) * self.page_bytes) if number > 0 else b""
        return found if len(found) == self.page_bytes else b""

    def is_lost(self, number: int) -> bool:
        """Nothing is left of it."""
        return not any(self.page(number))

    def hanging_on(self, parent: int, kind: int) -> Iterator[int]:
        """Pages of this kind whose place is below ``parent``, by the map. A map that is lost itself says
        nothing."""
        if not self.has_map:
            return
        wanted, step = _MAP_ENTRY.pack(kind, parent), _MAP_ENTRY.size
        entries = self.usable // step
        for map_page in range(2, self.pages + 1, entries + 1):
            content = self.page(map_page)[: entries * step]
            at = content.find(wanted)
            while at >= 0:
                if at % step == 0:
                    yield map_page + 1 + at // step
                at = content.find(wanted, at + 1)

    def kind(self, number: int) -> int:
        """Of a page, by the map; 0: it is not known."""
        entries = self.usable // _MAP_ENTRY.size
        map_page = (number - 2) // (entries + 1) * (entries + 1) + 2
        if not self.has_map or number <= 2 or number == map_page:
            return 0
        content, at = self.page(map_page), (number - map_page - 1) * _MAP_ENTRY.size
        return content[at] if content else 0

    def _read_log(self) -> None:
        """Where each page's last committed content stands. A log ends at the first frame whose sum is not
        right."""
        head = os.pread(self._log, 32, 0)
        if len(head) < 32 or head[:4] not in (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"):
            return
        order = ">" if head[3] & 1 else "<"
        if struct.unpack(">I", head[8:12])[0] != self.page_bytes:
            return
        sums = _sum(head[:24], (0, 0), order)
        if sums != struct.unpack(">II", head[24:32]):
            return
        at, pending = 32, dict[int, int]()
        while len(frame := os.pread(self._log, 24 + self.page_bytes, at)) == 24 + self.page_bytes:
            number, after_commit = struct.unpack(">II", frame[:8])
            sums = _sum(frame[24:], _sum(frame[:8], sums, order), order)
            if frame[8:16] != head[16:24] or sums != struct.unpack(">II", frame[16:24]):
                return
            pending[number] = at + 24
            if after_commit:
                self._in_log.update(pending)
                self.pages = after_commit
                pending.clear()
            at += 24 + self.page_bytes


def _page_bytes(head: bytes) -> int:
    size: int = struct.unpack(">H", head[16:18])[0]
    return 65536 if size == 1 else size


def _sum(content: bytes, before: tuple[int, int], order: str) -> tuple[int, int]:
    """The log's own checksum, continued."""
    first, second = before
    numbers = struct.unpack(f"{order}{len(content) // 4}I", content)
    for at in range(0, len(numbers), 2):
        first = (first + numbers[at] + second) & 0xFFFFFFFF
        second = (second + numbers[at + 1] + first) & 0xFFFFFFFF
    return first, second
