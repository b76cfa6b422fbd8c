"""Files and standard input: NDJSON, JSON arrays, or JSON values; plain, gzip or zstd, in constant memory.

``JsonSource`` reads one, ``FileSource`` makes it a source. Reading and inflating run in a worker thread. A
chunk is a function of its start alone, so that a restart cuts the same chunks and finds every event again.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from functools import partial

from ingestd.core.bounds import DEFAULT_BOUNDS
from ingestd.core.chunk import Chunk, Keeper
from ingestd.core.clock import Clock
from ingestd.core.receipt import OrderedAcks, Receipt
from ingestd.core.unwrap import Unwrapper
from ingestd.schemas.schema import LookAhead
from ingestd.sources.files.arrays import JsonArray
from ingestd.sources.files.compression import MAX_WINDOW, inflate, is_packed
from ingestd.sources.files.formats import Recoded, StreamFormat, encoding_of, layout_of, other_format
from ingestd.sources.files.lines import Lines
from ingestd.sources.files.splitter import Damaged, Region, Splitter
from ingestd.sources.files.streams import (
    BOM,
    Input,
    PeekableStream,
    ReadingStopped,
    Stream,
    fingerprint,
    in_thread,
    shown_path,
)
from ingestd.sources.files.unwrapping import unwrapped
from ingestd.sources.source import Position
from ingestd.store.journal import Journal

MAX_EVENT_BYTES = 1024 * 1024
_BYTES_AT_ONCE = 1024 * 1024
"""Read in one visit of the worker thread: a hand-over costs as much as splitting 500 events."""


class JsonSource:
    """One file, pipe or standard input (``-``). Raises UserError when it cannot be opened.

    ``keeper``: a regular file keeps its events, those of a pipe the journal keeps. ``number``: its number in
    the store. ``damage``: why not all of it was read, or empty. ``foreign``: what it is, and what to do,
    where it holds no events at all. ``items``: the name of the lists that hold the events, where these are in
    envelopes; ``envelope``: the name of one that it begins with, and that was not asked for. ``max_window``:
    memory that a frame of zstd may ask for, in bytes. ``layout``: of ``source.format``.
    ``unwrap``: takes an event out of its envelope. ``descriptor``: of the file, where it is open already.
    """

    def __init__(
        self,
        path: str,
        *,
        max_event_bytes: int = MAX_EVENT_BYTES,
        max_window: int = MAX_WINDOW,
        items: str = "",
        layout: str = "auto",
        unwrap: Unwrapper | None = None,
        chunk_bytes: int = DEFAULT_BOUNDS.chunk_bytes,
        descriptor: int | None = None,
    ) -> None:
        self.path = path
        self.number = 0
        self.damage = self.foreign = ""
        self.envelope = ""
        self._max_event_bytes = max_event_bytes
        self._max_window = max_window
        self._items = items
        self._layout = layout
        self._unwrap = unwrap
        self.chunk_bytes = chunk_bytes
        self._plain = True
        self._input = Input(path, descriptor)
        keeps = self._input.regular and path != "-"
        self.keeper = Keeper.SOURCE if keeps else Keeper.JOURNAL

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
        """Length of the content if it is known: of a plain file."""
        plain = self.keeper is Keeper.SOURCE and not is_packed(head := self._input.peek(4))
        return self._input.size if plain and not encoding_of(head) else None

    def stop(self) -> None:
        """End the iteration of ``chunks`` soon, also where it waits for a producer."""
        self._input.stop()

    def close(self) -> None:
        self._input.close()

    async def chunks(
        self, start: int = 0, line: int = 1, *, ahead: LookAhead | None = None
    ) -> AsyncIterator[Chunk]:
        """Chunks from ``start``, a position at which an earlier chunk ended; 0 is the beginning. ``ahead``:
        the thread that reads them calls it with the events of each.

        Damage ends the iteration early: what came before is good, ``damage`` says what happened.
        """
        try:
            splitter = await in_thread(partial(self._open, start, line))
        except ReadingStopped:
            return  # before it had given its first bytes
        except Damaged as damage:
            self.damage = str(damage)
            return
        except OSError as error:
            self.damage = f"reading failed: {error.strerror or error}"
            return
        try:
            at_once = _BYTES_AT_ONCE // self.chunk_bytes if self.keeper is Keeper.SOURCE else 1
            while regions := await in_thread(partial(_take, splitter, at_once, self._unwrap, ahead)):
                for region in regions:
                    yield self._chunk(region)
        except Damaged as damage:
            self.damage = str(damage)
        self.damage = self._peekable.problem or self.damage
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
            unreadable=region.unreadable,
            keeper=self.keeper,
        )
        chunk.mark = (region.end, region.tail) if self._plain else (self._input.count, self._input.last)
        return chunk

    def look(self) -> str:
        """``foreign``, by the first bytes of a regular file, before it is read. A pipe may have none yet: its
        are looked at with the first read."""
        if self.keeper is Keeper.SOURCE:
            with closing(self._again()) as other:
                self.foreign = other.look_inside()
        return self.foreign

    def look_inside(self) -> str:
        """As ``look``, of what is read for it."""
        with suppress(Damaged, OSError):
            self._open(0, 1)
        return self.foreign

    def _again(self) -> "JsonSource":
        """The same file, of which nothing was read."""
        return JsonSource(self.path, max_window=self._max_window)

    def _inflated(self) -> tuple[Stream, PeekableStream, bool]:
        """The content as it is on disk, as it is to be read, and whether it was packed."""
        stream, packed = inflate(self._input, max_window=self._max_window)
        peekable = self._peekable = PeekableStream(stream)
        if encoding := encoding_of(peekable.peek()):
            peekable = self._peekable = PeekableStream(Recoded(peekable, encoding), peekable)
        self._plain = not (packed or encoding)
        return stream, peekable, packed

    def _open(self, start: int, line: int) -> Splitter:
        stream, peekable, packed = self._inflated()
        head = peekable.peek()
        if foreign := other_format(head, packed=packed):
            self.foreign = foreign
            raise Damaged(foreign)
        position = max(start, len(BOM) if head.startswith(BOM) else 0)
        if self.keeper is Keeper.SOURCE and self._plain:
            self._input.jump(position)
            peekable = self._peekable = PeekableStream(stream)
        else:
            peekable.discard(position)
        return self._splitter(peekable, position, line, layout_of(head, self._layout))

    def _splitter(
        self, peekable: PeekableStream, position: int, line: int, layout: StreamFormat
    ) -> Lines | JsonArray:
        keeps = self.keeper is Keeper.SOURCE  # chunks depend on their start alone, half an event may grow
        cut_array = partial(
            JsonArray,
            peekable,
            start=position,
            line=line,
            chunk_bytes=self.chunk_bytes,
            max_event_bytes=self._max_event_bytes,
            fill=keeps,
            leave_half=keeps,
        )
        if self._unwrap and self._unwrap.name == layout.envelope != "":
            self._items, self._unwrap = layout.envelope, None  # as long as the list may be: read bit by bit
        if self._items and not layout.array:
            return cut_array(items=self._items)
        self.envelope = layout.envelope
        if layout.array or layout.loose:
            return cut_array(loose=layout.loose)
        return Lines(
            peekable,
            start=position,
            line=line,
            chunk_bytes=self.chunk_bytes,
            max_event_bytes=self._max_event_bytes,
            fill=keeps,
            leave_half=keeps,
            back=self._input.back if keeps and self._plain else None,
        )


def _take(splitter: Splitter, count: int, unwrap: Unwrapper | None, ahead: LookAhead | None) -> list[Region]:
    """``count`` regions, one at least; fewer at the end. Raises Damaged once what is before it was taken."""
    regions: list[Region] = []
    try:
        while len(regions) < max(1, count) and (region := splitter.next_region()):
            regions.append(unwrapped(region, unwrap) if unwrap else region)
            if ahead:
                ahead(regions[-1].events)
    except Damaged:
        if not regions:
            raise  # else it is raised again by the next call
    return regions


class FileSource:
    """``reader`` is open already: what cannot be read at all is said before anything else is done. ``ahead``:
    see its ``chunks``. ``start``: the offset where this run begins; ``read_before``: the wall time when it
    was read to there."""

    def __init__(
        self,
        reader: JsonSource,
        journal: Journal,
        *,
        clock: Clock,
        warn: Callable[[str], None],
        from_start: bool = False,
        ahead: LookAhead | None = None,
    ) -> None:
        self.reader = reader
        self.keeper = reader.keeper
        self.start, self.read_before = 0, 0.0
        self._line = 1
        self._journal = journal
        self._clock = clock
        self._warn = warn
        self._from_start = from_start
        self._ahead = ahead
        self._acks = OrderedAcks(self.ack)

    @property
    def name(self) -> str:
        return self.reader.name

    @property
    def number(self) -> int:
        return self.reader.number

    @property
    def oldest_since(self) -> float | None:
        """When the oldest chunk was read that has an unresolved event."""
        return self._acks.oldest_since

    async def open(self) -> None:
        """Where the run before ended with it."""
        reader, now = self.reader, self._clock.wall()
        if self.keeper is Keeper.SOURCE:
            state = await self._journal.find_file(
                reader.name,
                identity=reader.identity,
                fingerprints=lambda start, length: fingerprint(reader.path, length, start=start),
                size=reader.plain_size,
                from_start=self._from_start,
                chunk_bytes=reader.chunk_bytes,
                now=now,
            )
            reader.chunk_bytes = state.chunk_bytes
        else:
            state = await self._journal.new_stream(reader.name, now=now)
        if state.rewritten:
            self._warn(
                f"{reader.name} is another file than the one that was read before, to byte {state.rewritten};"
                " it is read from its start"
            )
        reader.number = state.number
        self.start, self._line, self.read_before = state.position, state.line, state.moved

    async def chunks(self) -> AsyncIterator[tuple[Chunk, Receipt]]:
        async for chunk in self.reader.chunks(self.start, self._line, ahead=self._ahead):
            end = Position(chunk.end, chunk.next_line, chunk.mark)
            chunk.receipt = self._acks.receipt(len(chunk.events), end, self._clock.monotonic())
            yield chunk, chunk.receipt

    def ack(self, position: Position) -> None:
        self._journal.moved(self.number, position.offset, position.next_line, position.mark)

    def stop(self) -> None:
        self.reader.stop()

    async def close(self) -> None:
        self.reader.close()
