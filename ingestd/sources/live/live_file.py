"""One file that is followed, from when it was recognised on: what was taken of it, and is settled."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum

from ingestd.core.chunk import NO_MARK, Mark
from ingestd.core.receipt import OrderedAcks
from ingestd.sources.live.patterns import FoundFile, Identity
from ingestd.sources.live.reading import Cut, Ending, FileKind, FileMark, Reading
from ingestd.sources.source import Position


class Whereabouts(Enum):
    """``PRESENT``: a pattern matches its name. ``AWAY``: it was renamed, or deleted. ``LOST``: it holds
    something else now: it was truncated, or written again."""

    PRESENT = "present"
    AWAY = "away"
    LOST = "lost"


class LiveFile:
    """``at``, ``line``: up to where it was read; ``mark``: what stands before that, as it is on disk,
    and ``head``: what it begins with.

    ``known_as``: the name that a pattern matches, whatever ``path`` is by now.
    ``number``: of its row, 0 until it is recognised. ``changed_at``: when it was last seen to change.
    ``read_size``: how long it was when it was last read to its end, so far as ``read_ending`` took it.
    ``end_mark``: of its end, where its last event does not reach up to that, until it is noted.
    ``copy_of``: it holds what another file holds, that is still there;
    ``copy_until``: that may be chance, and only so long it is taken for one. ``problem``: why it is not read.
    """

    __slots__ = (
        "acks",
        "at",
        "away_since",
        "changed_at",
        "copy_of",
        "copy_until",
        "cuts",
        "descriptor",
        "end_mark",
        "given",
        "head",
        "identity",
        "is_deleted",
        "is_done",
        "is_half_reported",
        "is_link",
        "kind",
        "known_as",
        "line",
        "mark",
        "mtime_ns",
        "number",
        "path",
        "problem",
        "read_ending",
        "read_mtime_ns",
        "read_size",
        "reading",
        "same_to",
        "size",
        "sweep",
        "unread_since",
        "whereabouts",
    )

    def __init__(self, found: FoundFile, now: float, moved: Callable[["LiveFile", Position], None]) -> None:
        self.path = self.known_as = found.path
        self.identity: Identity = found.identity
        self.size = found.size
        self.mtime_ns = found.mtime_ns
        self.is_link = found.is_link
        self.changed_at = now
        self.unread_since = now
        self.away_since = 0.0
        self.whereabouts = Whereabouts.PRESENT
        self.kind = FileKind.UNKNOWN
        self.number = self.at = self.given = 0
        self.line = 1
        self.mark = FileMark()
        self.head = FileMark()
        self.end_mark: Mark = NO_MARK
        self.cuts: Sequence[Cut] = ()
        self.descriptor: int | None = None
        self.reading: Reading | None = None
        self.read_size = -1
        self.read_mtime_ns = 0
        self.read_ending = Ending.OPEN
        self.copy_of: LiveFile | None = None
        self.same_to = 0
        self.copy_until: float | None = None
        self.sweep = 0
        self.problem = ""
        self.is_deleted = self.is_done = self.is_half_reported = False
        self.acks = OrderedAcks[Position](lambda position: moved(self, position))

    def is_seen(self, size: int, mtime_ns: int, now: float) -> bool:
        """It is so long now. False: it is shorter than what was read of it."""
        if (size, mtime_ns) != (self.size, self.mtime_ns):
            if self.size <= self.mark.end < size:
                self.unread_since = now
            self.size, self.mtime_ns, self.changed_at = size, mtime_ns, now
            self.is_done = False
        return size >= self.mark.end

    @property
    def unread(self) -> int:
        """Bytes, as they are on disk."""
        if self.whereabouts is Whereabouts.LOST or self.copy_of or self.problem:
            return 0
        return max(0, self.size - self.mark.end)

    @property
    def is_at_end(self) -> bool:
        return self.reading is None and self.read_size == self.size and self.mark.end >= self.size

    @property
    def is_settled(self) -> bool:
        """All that was taken of it."""
        return self.acks.oldest_since is None

    def ending(self, now: float, *, closed_after: float, rotated_after: float) -> Ending:
        """What may be taken of its end, if it is read now."""
        quiet_s = now - self.changed_at
        if quiet_s < closed_after:
            return Ending.OPEN
        away = self.whereabouts is not Whereabouts.PRESENT and now - self.away_since >= rotated_after
        first = self.read_size == self.size and self.read_ending >= Ending.CLOSED
        return Ending.ENDED if away and first and quiet_s >= rotated_after else Ending.CLOSED

    def is_due(self, ending: Ending) -> bool:
        """Whether there is something to read, or to try again."""
        if not self.number or self.copy_of or self.whereabouts is Whereabouts.LOST:
            return False
        if self.reading:
            return True
        if self.kind is not FileKind.FOLLOWED and ending is Ending.OPEN:
            return bool(self.cuts)
        if self.size != self.read_size or self.cuts:
            return True
        return ending > self.read_ending and self.mark.end < self.size and not self.problem

    def open(self) -> bool:
        """False: there is another file under its name. Raises OSError. In a worker thread."""
        if self.descriptor is None:
            try:
                descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except FileNotFoundError:
                return False
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) != self.identity:
                os.close(descriptor)
                return False
            self.descriptor = descriptor
        return True

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of it, for as long as the context lasts. Raises OSError, also where another file
        has its name. In a worker thread."""
        if self.descriptor is not None:
            yield self.descriptor
            return
        opened = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(opened)
            if (status.st_dev, status.st_ino) != self.identity:
                raise FileNotFoundError(self.path)
            yield opened
        finally:
            os.close(opened)

    def is_rewritten(self) -> bool:
        """Other bytes stand where it was read, or none, whether or not somebody has noticed yet: it may be as
        long as before again. False where that cannot be told, too. In a worker thread."""
        with suppress(OSError), self.opened() as descriptor:
            return not (self.mark.is_in(descriptor) and self.head.is_in(descriptor))
        return False

    def drop_reading(self) -> None:
        if self.reading:
            self.reading.close()
            self.reading = None

    def close(self) -> None:
        self.drop_reading()
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
