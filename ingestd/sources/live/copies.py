"""Whether a file that was just seen holds what another does that was read: a copy, or an archive of it.

Runs in a worker thread.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from ingestd.core.chunk import NO_MARK, Mark
from ingestd.sources.live import recognising
from ingestd.sources.live.live_file import LiveFile, Whereabouts
from ingestd.sources.live.reading import TAIL_BYTES, Cut, FileKind, FileMark, ReadOptions, mark_at
from ingestd.sources.live.recognising import Inspection
from ingestd.store.file_rows import FileRow

Known = Mapping[int, LiveFile]
"""By number, all that are in memory."""


class Twin(NamedTuple):
    """``file``, or the ``row`` of one that is not in memory, holds the same up to ``position``. ``mark``: of
    that place in the copy."""

    position: int
    line: int
    mark: Mark
    file: LiveFile | None = None
    row: FileRow | None = None


class Copies:
    """``written_again``: numbers of rows that hold something else now, since this process began."""

    def __init__(self, options: ReadOptions, cuts: Callable[[int], Sequence[Cut]]) -> None:
        self.written_again = set[int]()
        self._options = options
        self._cuts = cuts

    def find(self, file: LiveFile, look: Inspection, rows: Iterable[FileRow], known: Known) -> Twin | None:
        """``known``: all that are in memory. None: it is a file of its own."""
        if len(look.content) < TAIL_BYTES:
            return self._short(file, look, rows, known)
        for row in recognising.twins_of(look, rows, least=1):
            other = known.get(row.number)
            if other is file:
                continue
            if other is None:
                if twin := self._left_by_a_crash(look, row):
                    return twin
                continue
            descriptor = None if other.whereabouts is Whereabouts.LOST else other.descriptor
            if descriptor is not None:
                if twin := self._copy_of_open(look, other, descriptor):
                    return twin
                if other.mark.is_in(descriptor):
                    continue
            # it was truncated, perhaps since its directory was looked at
            if row.head_bytes < TAIL_BYTES:
                continue
            if found := recognising.mark_in(look, other.at, other.mark, self._options):
                return Twin(other.at, other.line, found, other)
            if twin := self._beginning_of(file, look, other):
                return twin
        return None

    def _copy_of_open(self, look: Inspection, other: LiveFile, descriptor: int) -> Twin | None:
        """Compared with the file itself: by its first bytes, and by what stands where it was read to, or
        where this one ends."""
        size = min(len(look.content), other.size)
        if size < TAIL_BYTES or os.pread(descriptor, size, 0) != look.content[:size]:
            return None
        least = min(TAIL_BYTES, other.at)
        mark = recognising.mark_in(look, other.at, other.mark, self._options, least) if least else None
        if mark or (look.head != look.content and not other.at):
            return Twin(other.at, other.line, mark or NO_MARK, other)
        plain = look.head == look.content and look.size <= other.size
        if plain and recognising.is_beginning(look.descriptor, look.size, descriptor):
            return Twin(look.size, 1, mark_at(look.descriptor, look.size), other)
        return None

    def _left_by_a_crash(self, look: Inspection, row: FileRow) -> Twin | None:
        """Of a file that is gone. Where less than 1 KiB is the same there has to be more than was read, or
        something was on its way: else it may be another with the same events."""
        mark, least = FileMark(row.tail_end, row.tail, row.tail_bytes), min(TAIL_BYTES, row.position)
        found = recognising.mark_in(look, row.position, mark, self._options, least)
        if row.position and not found:
            return None
        if max(row.head_bytes, least) < TAIL_BYTES:
            has_more = row.position > 0 and found is not None and found[0] < look.size
            was_here = row.inode > 0 or row.number in self.written_again
            if not (self._cuts(row.number) or (was_here and has_more)):
                return None
        return Twin(row.position, row.line, found or NO_MARK, row=row)

    def _short(self, file: LiveFile, look: Inspection, rows: Iterable[FileRow], known: Known) -> Twin | None:
        """So little may be the same by chance; or the other is copied now, and truncated next."""
        for row in recognising.twins_of(look, rows, least=1):
            other = known.get(row.number)
            if other and other is not file and other.whereabouts is Whereabouts.PRESENT:
                least = max(1, min(other.at, TAIL_BYTES))
                with suppress(OSError):
                    same = recognising.mark_in(look, other.at, other.mark, self._options, least)
                    if same or (look.size <= other.size and compare(look, other)):
                        return Twin(look.size, 1, mark_at(look.descriptor, look.size), other)
        return None

    def _beginning_of(self, file: LiveFile, look: Inspection, other: LiveFile) -> Twin | None:
        """It holds what the other begins with."""
        if other.kind is not FileKind.FOLLOWED or look.head != look.content:
            return None
        same = False
        if other.whereabouts is Whereabouts.LOST:  # copied, and truncated; not written again under its name
            same = look.size <= other.mark.end and other.path != file.path and not other.is_deleted
        elif look.size <= other.size:
            with suppress(OSError):
                same = compare(look, other)
        return Twin(look.size, 1, mark_at(look.descriptor, look.size), other) if same else None


def compare(look: Inspection, other: LiveFile) -> bool:
    """Raises OSError."""
    descriptor = other.descriptor
    if descriptor is not None:
        return recognising.is_beginning(look.descriptor, look.size, descriptor)
    opened = os.open(other.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(opened)
        same = (status.st_dev, status.st_ino) == other.identity
        return same and recognising.is_beginning(look.descriptor, look.size, opened)
    finally:
        os.close(opened)
