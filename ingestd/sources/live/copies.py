"""Whether a file that was just seen holds what another does that was read: a copy, or an archive of it.

Runs in a worker thread.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from ingestd.core.chunk import NO_MARK, Mark, digest
from ingestd.sources.live import recognising
from ingestd.sources.live.live_file import LiveFile, Whereabouts
from ingestd.sources.live.reading import TAIL_BYTES, Cut, FileKind, FileMark, ReadOptions, mark_at
from ingestd.sources.live.recognising import Heads, Inspection
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

    def find(self, file: LiveFile, look: Inspection, heads: Heads, known: Known) -> Twin | None:
        """``known``: all that are in memory. None: it is a file of its own."""
        if len(look.content) < TAIL_BYTES:
            return self._short(file, look, heads, known)
        for row in heads.twins_of(look):
            other = known.get(row.number)
            if other is file:
                continue
            twin = self._of_known(file, look, row, other) if other else self._left_by_a_crash(look, row)
            if twin:
                return twin
        return None

    def _of_known(self, file: LiveFile, look: Inspection, row: FileRow, other: LiveFile) -> Twin | None:
        descriptor = None if other.whereabouts is Whereabouts.LOST else other.descriptor
        if descriptor is not None:
            if twin := self._copy_of_open(look, other, descriptor):
                return twin
            if not other.is_rewritten():
                return None
            # it was truncated since its directory was looked at
            if mark := mark_of_lost(look, other, self._options):
                return Twin(other.at, other.line, mark, other)
        if row.head_bytes < TAIL_BYTES:
            return None
        if found := recognising.mark_in(look, other.at, other.mark, self._options):
            return Twin(other.at, other.line, found, other)
        return self._beginning_of(file, look, other)

    def _copy_of_open(self, look: Inspection, other: LiveFile, descriptor: int) -> Twin | None:
        """Compared with the file itself: by its first bytes, and by what stands where it was read to, or
        where this one ends."""
        size = min(len(look.content), os.fstat(descriptor).st_size)
        if size < TAIL_BYTES or os.pread(descriptor, size, 0) != look.content[:size]:
            return None
        least = min(TAIL_BYTES, other.at)
        mark = recognising.mark_in(look, other.at, other.mark, self._options, least) if least else None
        if mark or (look.head != look.content and not other.at):
            return Twin(other.at, other.line, mark or NO_MARK, other)
        if look.head == look.content and recognising.is_beginning(look.descriptor, look.size, descriptor):
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

    def _short(self, file: LiveFile, look: Inspection, heads: Heads, known: Known) -> Twin | None:
        """So little may be the same by chance; or the other is copied now, and truncated next."""
        for row in heads.twins_of(look):
            other = known.get(row.number)
            if other and other is not file and other.whereabouts is Whereabouts.PRESENT:
                least = max(1, min(other.at, TAIL_BYTES))
                with suppress(OSError):
                    same = recognising.mark_in(look, other.at, other.mark, self._options, least)
                    if same or compare(look, other):
                        return Twin(look.size, 1, mark_at(look.descriptor, look.size), other)
        return None

    def _beginning_of(self, file: LiveFile, look: Inspection, other: LiveFile) -> Twin | None:
        """It holds what the other begins with."""
        if other.kind is not FileKind.FOLLOWED or look.head != look.content:
            return None
        same = False
        if other.whereabouts is Whereabouts.LOST:  # copied, and truncated; not written again under its name
            same = look.size <= other.mark.end and other.path != file.path and not other.is_deleted
        else:
            with suppress(OSError):
                same = compare(look, other)
        return Twin(look.size, 1, mark_at(look.descriptor, look.size), other) if same else None


def mark_of_lost(look: Inspection, lost: LiveFile, options: ReadOptions) -> Mark | None:
    """``mark_in`` for a file that was truncated. However little was read of it: the copy is there since then.
    Of what an earlier process had on its way, and nobody has read again yet, only the beginning is known."""
    if lost.at:
        return recognising.mark_in(look, lost.at, lost.mark, options, min(TAIL_BYTES, lost.at))
    known = lost.head.size if lost.cuts else 0
    same = known and any(
        len(head) >= known and digest(head[:known]) == lost.head.digest for head in (look.head, look.content)
    )
    return NO_MARK if same else None


def compare(look: Inspection, other: LiveFile) -> bool:
    """Whether it holds what the other begins with. Raises OSError."""
    with other.opened() as descriptor:
        return recognising.is_beginning(look.descriptor, look.size, descriptor)


def begins_alike(look: Inspection, other: LiveFile) -> bool:
    """Whether the other begins with its first bytes, unpacked. Raises OSError."""
    with other.opened() as descriptor:
        return os.pread(descriptor, len(look.content), 0) == look.content


def same_lines(look: Inspection, other: LiveFile, known: int) -> int:
    """Up to which byte it has the lines that the other has; that ``known`` bytes are the same was seen."""
    with suppress(OSError), other.opened() as descriptor:
        known = recognising.same_to(look.descriptor, descriptor, known)
    return recognising.behind_last_line(look.descriptor, known)
