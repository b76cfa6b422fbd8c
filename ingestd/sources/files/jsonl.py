"""Files and standard input: NDJSON, JSON arrays, or JSON values; plain, gzip or zstd, in constant memory.

``pipeline.py`` iterates ``chunks()``. Reading and inflating run in a worker thread. A chunk is a
function of its start alone, so that a restart cuts the same chunks and finds every event again.
"""

from collections.abc import AsyncIterator
from functools import partial

import anyio.to_thread

from ingestd.core.bounds import DEFAULT_BOUNDS
from ingestd.core.chunk import Chunk
from ingestd.sources.files.arrays import JsonArray
from ingestd.sources.files.formats import Recoded, StreamFormat, encoding_of, layout_of, other_format
from ingestd.sources.files.packing import MAX_WINDOW, inflate, is_packed
from ingestd.sources.files.splitting import Damaged, Lines, Region
from ingestd.sources.files.streams import BOM, Input, PeekableStream, ReadingStopped, shown_path

MAX_EVENT_BYTES = 1024 * 1024

_TWICE = "it is packed twice: unpack it once, and what comes out is read"
_REGIONS_AT_ONCE = 4
"""Regions read in one visit of the worker thread: a hand-over costs as much as splitting 500 events."""


class JsonSource:
    """One file, pipe or standard input (``-``). Raises UserError when it cannot be opened.

    ``rereadable``: a regular file, which a restart can read again. ``number``: its number in the
    store. ``damage``: why not all of it was read, or empty. ``items``: the name of the lists that hold the
    events, where these are in envelopes; ``envelope``: the name of one that it begins with, and that was not
    asked for. ``max_window``: memory that a frame of zstd may ask for, in bytes.
    """

    def __init__(
        self,
        path: str,
        *,
        max_event_bytes: int = MAX_EVENT_BYTES,
        max_window: int = MAX_WINDOW,
        items: str = "",
        chunk_bytes: int = DEFAULT_BOUNDS.chunk_bytes,
    ) -> None:
        self.path = path
        self.number = 0
        self.damage = ""
        self.envelope = ""
        self._max_event_bytes = max_event_bytes
        self._max_window = max_window
        self._items = items
        self._chunk_bytes = chunk_bytes
        self._plain = True
        self._input = Input(path)
        self.rereadable = self._input.regular and path != "-"

    @property
    def name(self) -> str:
        return "standard input" if self.path == "-" else shown_path(self.path)

    @property
    def size(self) -> int | None:
        """Bytes on disk, None for a pipe."""
        return self._input.size if self._input.regular else None

    @property
    def bytes_read(self) -> int:
        return self._input.count

    @property
    def identity(self) -> tuple[int, int]:
        """(device, inode)."""
        return self._input.device, self._input.inode

    @property
    def plain_size(self) -> int | None:
        """Length of the content where it can be told: of a plain file."""
        plain = self.rereadable and not is_packed(head := self._input.peek(4)) and not encoding_of(head)
        return self._input.size if plain else None

    def stop(self) -> None:
        """End the iteration of ``chunks`` soon, also where it waits for a producer."""
        self._input.stop()

    def close(self) -> None:
        self._input.close()

    async def chunks(self, start: int = 0, line: int = 1) -> AsyncIterator[Chunk]:
        """Chunks from ``start``, a position at which an earlier chunk ended; 0 is the beginning.

        Damage ends the iteration early: what came before is good, ``damage`` says what happened.
        """
        try:
            splitter = await anyio.to_thread.run_sync(self._open, start, line)
        except ReadingStopped:
            return  # before it had given its first bytes
        except Damaged as damage:
            self.damage = str(damage)
            return
        except OSError as error:
            self.damage = f"reading failed: {error.strerror or error}"
            return
        try:
            at_once = _REGIONS_AT_ONCE if self.rereadable else 1
            while regions := await anyio.to_thread.run_sync(_take, splitter, at_once):
                for region in regions:
                    yield self._chunk(region)
        except Damaged as damage:
            self.damage = str(damage)
        self.damage = self._pieces.trouble or self.damage
        if (half := splitter.half) and not self.damage:
            self.damage = (
                f"its last {half.size} bytes, from byte {half.start} (line {half.line}), are not a whole"
                " event yet: they are left for the next run; end them with a newline if no more will come"
            )

    def _chunk(self, region: Region) -> Chunk:
        chunk = Chunk(
            region.events,
            source=self.number,
            start=region.start,
            end=region.end,
            line=region.line,
            next_line=region.next_line,
            place=region.locate,
            too_long=region.too_long,
        )
        chunk.mark = (region.end, region.tail) if self._plain else (self._input.count, self._input.last)
        return chunk

    def _open(self, start: int, line: int) -> Lines | JsonArray:
        stream, packed = inflate(self._input, max_window=self._max_window)
        pieces = self._pieces = PeekableStream(stream)
        if encoding := encoding_of(pieces.peek()):
            pieces = self._pieces = PeekableStream(Recoded(pieces, encoding), pieces)
        head = pieces.peek()
        self._plain = not (packed or encoding)
        if other := _TWICE if packed and is_packed(head[:4]) else other_format(head):
            raise Damaged(other)
        position = max(start, len(BOM) if head.startswith(BOM) else 0)
        if self.rereadable and self._plain:
            self._input.jump(position)
            pieces = self._pieces = PeekableStream(stream)
        else:
            pieces.discard(position)
        return self._splitter(pieces, position, line, layout_of(head))

    def _splitter(
        self, pieces: PeekableStream, position: int, line: int, layout: StreamFormat
    ) -> Lines | JsonArray:
        cut_array = partial(
            JsonArray,
            pieces,
            start=position,
            line=line,
            chunk_bytes=self._chunk_bytes,
            max_event_bytes=self._max_event_bytes,
            fill=self.rereadable,
            leave_half=self.rereadable,
        )
        if self._items and not layout.array:
            return cut_array(items=self._items)
        self.envelope = layout.envelope
        if layout.array or layout.loose:
            return cut_array(loose=layout.loose)
        return Lines(
            pieces,
            start=position,
            line=line,
            chunk_bytes=self._chunk_bytes,
            max_event_bytes=self._max_event_bytes,
            fill=self.rereadable,
            leave_half=self.rereadable,
        )


def _take(splitter: Lines | JsonArray, count: int) -> list[Region]:
    """Up to ``count`` regions; none at the end. Raises Damaged, once all before the damage was taken."""
    regions: list[Region] = []
    try:
        while len(regions) < count and (region := splitter.next_region()):
            regions.append(region)
    except Damaged:
        if not regions:
            raise  # else it is raised again by the next call
    return regions
