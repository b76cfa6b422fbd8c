"""Which file this is: by its place on the disk, by its first bytes, and by what stands where it was read to.

Names say nothing: a file is renamed, its inode is given to another, it is copied and truncated, or packed.
Runs in a worker thread.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from ingestd.core.chunk import MARK_BYTES, Mark, digest
from ingestd.sources.files.compression import inflate, is_packed
from ingestd.sources.files.streams import Input, PeekableStream
from ingestd.sources.live.patterns import FoundFile, Identity, stat_of
from ingestd.sources.live.reading import TAIL_BYTES, FileKind, FileMark, ReadOptions, kind_of, mark_at
from ingestd.store.file_rows import FileRow

_MOST_NEIGHBOURS = 5_000
_LOOKED_AT, _MOST_BESIDE = 200, 20
_TOUCHED_S = 1.0
_BLOCK_BYTES = 64 * 1024


class Inspection(NamedTuple):
    """``head``: its first bytes as they are on disk, ``content``: unpacked. ``row``: what it was known as, at
    its place on the disk; ``was``: what was there before, and is not what it holds now."""

    descriptor: int
    size: int
    mtime_ns: int
    head: bytes
    content: bytes
    kind: FileKind
    row: FileRow | None
    was: FileRow | None
    prints: dict[tuple[int, int], tuple[bytes, int]]

    def fingerprint(self, start: int, length: int) -> tuple[bytes, int]:
        """Of what was asked for by the rows that are known."""
        return self.prints.get((start, length), (b"", 0))


def inspect(
    path: str, identity: Identity, rows: Sequence[FileRow], options: ReadOptions, held: int | None = None
) -> Inspection | None:
    """None: it is another file by now, or gone. ``held``: it is open already, whatever its name is. The
    descriptor is the caller's. Raises OSError."""
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags) if held is None else os.dup(held)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != identity:
            os.close(descriptor)
            return None
        head = os.pread(descriptor, MARK_BYTES, 0)
        packed = is_packed(head[:4])
        content = _content_of(descriptor, options) if packed else head
        prints = {(0, MARK_BYTES): (digest(head), len(head))}
        found = was = None
        for row in rows:
            same = _is_same(descriptor, row, status.st_size, prints)
            if same and found is None and not _is_again(row, status):
                found = row
            elif was is None and not same:
                was = row
        if found is None:
            prints = {(0, MARK_BYTES): prints[0, MARK_BYTES]}
        kind = kind_of(head, options)
        return Inspection(
            descriptor, status.st_size, status.st_mtime_ns, head, content, kind, found, was, prints
        )
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise


def _is_same(
    descriptor: int, row: FileRow, size: int, prints: dict[tuple[int, int], tuple[bytes, int]]
) -> bool:
    for start, length in ((0, row.head_bytes), (row.tail_end - row.tail_bytes, row.tail_bytes)):
        if length:
            data = os.pread(descriptor, length, start)
            prints[start, length] = digest(data), len(data)
    head = row.head_bytes > 0 and prints[0, row.head_bytes] == (row.head, row.head_bytes)
    tail_at = row.tail_end - row.tail_bytes, row.tail_bytes
    tail = not row.tail_bytes or prints[tail_at] == (row.tail, row.tail_bytes)
    return head and tail and size >= row.tail_end


def _is_again(row: FileRow, status: os.stat_result) -> bool:
    """So short a file that was written since it was read, and is what it was, was written once more."""
    return (
        row.tail_end == status.st_size < TAIL_BYTES and status.st_mtime_ns > (row.updated + _TOUCHED_S) * 1e9
    )


def _content_of(descriptor: int, options: ReadOptions) -> bytes:
    with _unpacked(descriptor, options) as (peekable, _):
        return _read(peekable, MARK_BYTES)


class _unpacked:  # noqa: N801 - a context
    """(what is in an archive, the archive) from its beginning."""

    def __init__(self, descriptor: int, options: ReadOptions) -> None:
        own = os.dup(descriptor)
        os.lseek(own, 0, os.SEEK_SET)
        self._input = Input("", own)
        self._max_window = options.max_window

    def __enter__(self) -> tuple[PeekableStream, Input]:
        stream, _ = inflate(self._input, max_window=self._max_window)
        return PeekableStream(stream), self._input

    def __exit__(self, *_: object) -> None:
        self._input.close()


def _read(peekable: PeekableStream, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := peekable.read(size - len(data))):
        data += more
    return data


# --- what has the same content ---


class Heads:
    """Rows, found by what their files begin with."""

    def __init__(self, rows: Iterable[FileRow]) -> None:
        self._rows: dict[int, dict[bytes, list[FileRow]]] = {}
        for row in rows:
            self.add(row)

    def add(self, row: FileRow) -> None:
        self._rows.setdefault(row.head_bytes, {}).setdefault(row.head, []).append(row)

    def twins_of(self, look: Inspection) -> list[FileRow]:
        """Of files that begin as this one does, as far as is known, newest first. It may be chance, where
        it is little."""
        found = [
            row
            for head in {look.head, look.content}
            for size, rows in self._rows.items()
            if 0 < size <= len(head)
            for row in rows.get(digest(head[:size]), ())
        ]
        return sorted(found, key=lambda row: row.number, reverse=True)


def mark_in(
    look: Inspection, position: int, mark: FileMark, options: ReadOptions, least: int = TAIL_BYTES
) -> Mark | None:
    """That what was read to ``position`` of a file is in this one, too: what stands before that place here,
    as it is on disk. None: it is not. ``least``: bytes that are compared; less may be chance."""
    if mark.size < least:
        return None
    if mark.is_in(look.descriptor):
        return mark_at(look.descriptor, mark.end)
    if look.head == look.content or mark.end != position:
        return None
    with _unpacked(look.descriptor, options) as (peekable, archive):
        peekable.discard(position - mark.size)
        if peekable.cut_off or digest(_read(peekable, mark.size)) != mark.digest:
            return None
        ended = not peekable.read(1)
        return mark_at(look.descriptor, look.size if ended else min(archive.count, look.size - 1))


def is_beginning(short: int, size: int, of: int) -> bool:
    """Whether the file ``short``, of this size, holds what another begins with: by its last bytes."""
    at, length = max(0, size - TAIL_BYTES), min(size, TAIL_BYTES)
    return os.pread(short, length, at) == os.pread(of, length, at)


def same_to(first: int, second: int, at: int) -> int:
    """How far two files hold the same, from ``at`` on."""
    while one := os.pread(first, _BLOCK_BYTES, at):
        other = os.pread(second, len(one), at)
        if one != other:
            return at + next((n for n, byte in enumerate(other) if byte != one[n]), len(other))
        at += len(one)
    return at


def behind_last_line(descriptor: int, end: int) -> int:
    """Where the last line before ``end`` ends; 0: there is none."""
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def seen_again(found: FoundFile) -> FoundFile | None:
    """As it is now; None: it is not there."""
    with suppress(OSError):
        if (now := stat_of(found.path)) and now.identity == found.identity:
            return now
    return None


def neighbours(path: str, wanted: Collection[Identity]) -> list[FoundFile]:
    """Files beside ``path`` that have one of these places on the disk, whatever they are called."""
    inodes = {inode for _, inode in wanted}
    return [found for found in _entries(path, inodes) if found.identity in wanted]


def renamed(rows: Sequence[FileRow], moved_to: str = "") -> list[tuple[FoundFile, FileRow]]:
    """Files that these rows are of, beside where they were or in ``moved_to``, and that have more than was
    read of them."""
    by_directory: dict[str, dict[Identity, FileRow]] = {}
    for row in rows:
        for directory in {os.path.dirname(row.path), moved_to or os.path.dirname(row.path)}:
            by_directory.setdefault(directory, {})[row.device, row.inode] = row
    return [
        (found, mine[found.identity])
        for directory, mine in by_directory.items()
        for found in neighbours(os.path.join(directory, "any"), mine.keys())
        if found.size > mine[found.identity].tail_end
    ]


def others_beside(path: str, least: int) -> list[FoundFile]:
    """Files beside ``path``, last written first, that may be copies of so many bytes at least, or archives of
    them."""
    found = sorted(_entries(path, None), key=lambda one: one.mtime_ns, reverse=True)[:_LOOKED_AT]
    fit = (one for one in found if one.size >= least or _is_archive(one.path))
    return list(islice(fit, _MOST_BESIDE))


def _is_archive(path: str) -> bool:
    with suppress(OSError):
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return is_packed(os.pread(opened, 4, 0))
        finally:
            os.close(opened)
    return False


def _entries(path: str, inodes: set[int] | None) -> Iterator[FoundFile]:
    directory = os.path.dirname(os.path.realpath(path))
    try:
        with os.scandir(directory) as entries:
            for number, entry in enumerate(entries):
                if number >= _MOST_NEIGHBOURS:
                    return
                if inodes is None or entry.inode() in inodes:
                    with suppress(OSError):
                        if found := stat_of(entry.path):
                            yield found
    except OSError:
        return
