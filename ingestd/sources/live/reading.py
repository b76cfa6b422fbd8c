"""One stretch of a file that may be written to, renamed or truncated meanwhile. Runs in a worker thread."""

import os
from collections import deque
from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import NamedTuple

from ingestd.core.bounds import DEFAULT_BOUNDS
from ingestd.core.chunk import MARK_BYTES, NO_MARK, Chunk, Mark, digest, last_bytes
from ingestd.core.unwrap import Unwrapper
from ingestd.schemas.grammar import find_fault
from ingestd.sources.files.arrays import JsonArray
from ingestd.sources.files.closing import Closing, skip_separators
from ingestd.sources.files.compression import is_packed
from ingestd.sources.files.formats import StreamFormat, encoding_of, layout_of, other_format
from ingestd.sources.files.jsonl import JsonSource
from ingestd.sources.files.lines import Lines
from ingestd.sources.files.splitter import Damaged, Region, Splitter, UnfinishedValue
from ingestd.sources.files.streams import PeekableStream
from ingestd.sources.files.unwrapping import unwrapped

TAIL_BYTES = 1024
"""Bytes before the place where reading continues that have to be what they were."""
_REGIONS_AT_ONCE = 4
_HALF = (
    "the file ended in the middle of this line: it was renamed away, or deleted, and nothing came behind it"
)
Cut = tuple[int, int]
"""(start, end) of a chunk."""


class Rewritten(Exception):
    """Other bytes stand where this was read before: it was truncated, or written again."""


class FileKind(Enum):
    """``FOLLOWED``: lines, read as they are written. ``WHOLE``: read when nobody writes to it any more.
    ``UNKNOWN``: too little is there."""

    UNKNOWN = "unknown"
    FOLLOWED = "followed"
    WHOLE = "whole"


class Ending(IntEnum):
    """What is taken of a last line without a newline. ``OPEN``: nothing, it may be half. ``CLOSED``: nobody
    has written for a while: it is taken if it is whole. ``ENDED``: no more will come: it is taken."""

    OPEN = 0
    CLOSED = 1
    ENDED = 2


class FileMark(NamedTuple):
    """The digest of the last bytes, ``size`` of them, before a place in a file as it is on disk."""

    end: int = 0
    digest: bytes = b""
    size: int = 0

    @classmethod
    def of(cls, mark: Mark) -> "FileMark":
        return cls(mark[0], digest(mark[1]), len(mark[1]))

    def is_in(self, descriptor: int) -> bool:
        found = os.pread(descriptor, self.size, self.end - self.size)
        return not self.size or (len(found) == self.size and digest(found) == self.digest)


def mark_at(descriptor: int, end: int) -> Mark:
    """Of an archive: only what was read to its end has a mark at its end."""
    size = min(end, TAIL_BYTES)
    return end, os.pread(descriptor, size, end - size)


class ReadOptions(NamedTuple):
    """As the settings say."""

    max_event_bytes: int
    max_window: int
    items: str = ""
    layout: str = "auto"
    unwrap: Unwrapper | None = None
    chunk_bytes: int = DEFAULT_BOUNDS.followed_chunk_bytes


def kind_of(head: bytes, options: ReadOptions) -> FileKind:
    """By its first bytes, up to 4 KiB. An object on several lines is told from a line later."""
    full = len(head) >= MARK_BYTES
    if not head:
        return FileKind.UNKNOWN
    text = head[skip_separators(head) :]
    if is_packed(head[:4]) or encoding_of(head) or text[:1] == b"[":
        return FileKind.WHOLE
    if options.items or options.layout == "values":
        return FileKind.WHOLE
    if options.layout == "lines" or (full and not text):
        return FileKind.FOLLOWED
    first, newline, _ = text.partition(b"\n")
    if newline and first[:1] == b"{" and Closing().feed(first) >= 0:
        return FileKind.FOLLOWED
    if full and not layout_of(head).loose and not other_format(head):
        return FileKind.FOLLOWED
    return FileKind.WHOLE


class _Part:
    """Of a stream: up to ``limit`` bytes more. ``is_open``: its end may be the middle of a line."""

    def __init__(self, peekable: PeekableStream, limit: int | None, *, is_open: bool) -> None:
        self._peekable = peekable
        self._left = limit
        self._is_open = is_open

    @property
    def cut_off(self) -> bool:
        return self._is_open or self._peekable.cut_off

    def read(self, size: int, /) -> bytes:
        if self._left is None:
            return self._peekable.read(size)
        data = self._peekable.read(min(size, self._left)) if self._left else b""
        self._left -= len(data)
        return data


class Reading(JsonSource):
    """From ``start`` on, up to where the file ended when it began or a little more.

    ``descriptor`` is duplicated. ``mark``: of what stood before ``start``, ``head``: of its
    beginning. ``cuts``: chunks of an earlier
    process, which are cut as they were; with ``only_cuts`` nothing behind them is read. ``at_end``: there is
    nothing more for now. ``reached``: (position, line) up to which all was given out, and ``mark`` is that
    place's; ``length``, ``written_ns``: of the file, after the last turn.
    """

    def __init__(
        self,
        path: str,
        descriptor: int,
        kind: FileKind,
        options: ReadOptions,
        *,
        start: int,
        line: int,
        mark: FileMark,
        head: FileMark,
        cuts: Sequence[Cut],
        ending: Ending,
        only_cuts: bool = False,
    ) -> None:
        own = os.dup(descriptor)
        os.lseek(own, 0, os.SEEK_SET)
        super().__init__(
            path,
            max_event_bytes=options.max_event_bytes,
            max_window=options.max_window,
            items=options.items,
            layout="lines" if kind is FileKind.FOLLOWED else options.layout,
            unwrap=options.unwrap,
            chunk_bytes=options.chunk_bytes,
            descriptor=own,
        )
        self._own = own
        self.kind = kind
        self.ending = ending
        self.reached = start, line
        self.mark: Mark = NO_MARK
        self.at_end = False
        self.goal = self.length = os.fstat(own).st_size
        self.written_ns = 0
        self._known = mark
        self._head = head
        self._cuts = deque(cut for cut in sorted(set(cuts)) if cut[0] >= start)
        self._known_to = max((end for _, end in self._cuts), default=0) if only_cuts else None
        self._splitting: Splitter | None = None
        self._limit: int | None = None
        self._before = b""

    @property
    def half(self) -> UnfinishedValue | None:
        return self._splitting.half if self._splitting else None

    @property
    def problem(self) -> str:
        """Why the stream ended before its end."""
        return self._peekable.problem

    def turn(self) -> list[tuple[Region, Mark]]:
        """The next regions, each with what stands before its end; none: see ``at_end``. Raises Damaged for
        what is behind all that was given, Rewritten, OSError."""
        if self._splitting is None:
            self._begin()
        regions: list[tuple[Region, Mark]] = []
        while len(regions) < _REGIONS_AT_ONCE and not self.at_end:
            try:
                region = self._next()
            except Damaged:
                if regions:
                    break  # it is raised again
                raise
            if region:
                region = unwrapped(region, self._unwrap) if self._unwrap else region
                regions.append((region, self._mark_behind(region)))
        assert self._splitting
        status = os.fstat(self._own)
        self.length, self.written_ns = status.st_size, status.st_mtime_ns
        self.reached = self._splitting.reached
        if self.at_end and self._known_to is None:
            self.mark = self._mark_at_end()
        elif regions:
            self.mark = regions[-1][1]
            self.at_end = self._plain and self.ending is Ending.OPEN and self.reached[0] >= self.goal
        self._check_unchanged(regions)
        return regions

    def chunk_of(self, region: Region, mark: Mark) -> Chunk:
        """What the end of a file left of a line is a dead letter that says so."""
        if region.events and region.events[0][:1] == b"\0":  # left by a truncation before the first line
            first = bytes(region.events[0])
            region.events = [first.lstrip(b"\0") or first, *region.events[1:]]
        chunk = self._chunk(region)
        chunk.mark = mark
        half = self.ending is Ending.ENDED and region.events and self._plain and mark[1][-1:] != b"\n"
        if half and find_fault(bytes(region.events[-1])):
            chunk.unreadable = {**chunk.unreadable, len(region.events) - 1: _HALF}
        return chunk

    def _begin(self) -> None:
        start, line = self.reached
        self._check_known()
        os.lseek(self._own, 0, os.SEEK_SET)
        self._splitting = self._open(start, line)

    def _splitter(
        self, peekable: PeekableStream, position: int, line: int, layout: StreamFormat
    ) -> Lines | JsonArray:
        whole = self._items or layout.array or layout.loose
        named = self._unwrap is not None and self._unwrap.name == layout.envelope != ""
        if self.kind is not FileKind.FOLLOWED and (whole or named):
            return super()._splitter(peekable, position, line, layout)
        return self._lines(position, line)

    def _lines(self, position: int, line: int) -> Lines:
        self._limit = self._border_behind(position)
        self._before = mark_at(self._own, position)[1] if self._plain else b""
        is_free = self._limit is None
        size = None if self._limit is None else self._limit - position
        return Lines(
            _Part(self._peekable, size, is_open=is_free and self.ending is Ending.OPEN),
            start=position,
            line=line,
            chunk_bytes=self.chunk_bytes,
            max_event_bytes=self._max_event_bytes,
            fill=True,
            leave_half=is_free and self.ending is Ending.CLOSED,
        )

    def _border_behind(self, position: int) -> int | None:
        """Of a chunk that was cut by an earlier process."""
        while self._cuts:
            start, end = self._cuts[0]
            if position < start:
                return start
            if position == start:
                return end
            self._cuts.popleft()
        return None

    def _next(self) -> Region | None:
        """None at a border, or at the end."""
        assert self._splitting
        if self._known_to is not None and self._splitting.reached[0] >= self._known_to:
            self.at_end = True
            return None
        region = self._splitting.next_region()
        if region and region.events:
            return region
        if self._limit is None or not isinstance(self._splitting, Lines):
            self.at_end = True
            return None
        position, line = self._splitting.reached
        if position != self._limit:
            raise Rewritten
        self._splitting = self._lines(position, line)
        return None

    # --- what it was read of ---

    def _mark_behind(self, region: Region) -> Mark:
        if self._plain:
            return region.end, last_bytes(self._before, region.tail)[-TAIL_BYTES:]
        return mark_at(self._own, min(self._input.count, self.goal - 1))

    def _mark_at_end(self) -> Mark:
        """A stream that is not lines may have something behind its last event: a bracket."""
        end = self.reached[0]
        if not self._plain or not isinstance(self._splitting, Lines):
            end = self._input.count
        return mark_at(self._own, end)

    def _check_unchanged(self, regions: Sequence[tuple[Region, Mark]]) -> None:
        """Last of all, so that it is said of all that was read in this turn: what stood before it is still
        there, and so is what was read. Raises Rewritten."""
        self._check_known()
        if regions:
            _, (end, tail) = regions[-1]
            if os.fstat(self._own).st_size < end or os.pread(self._own, len(tail), end - len(tail)) != tail:
                raise Rewritten
        if self.mark[0]:
            self._known = FileMark.of(self.mark)

    def _check_known(self) -> None:
        """Raises Rewritten."""
        if not self._known.is_in(self._own) or not (self._known.end or self._head.is_in(self._own)):
            raise Rewritten
