"""Cutting CSV (RFC 4180) into rows, and making an event of each. Same regions as ``lines.Lines``.

A position is the byte at which a row begins, as UTF-8. A region has the rows that are whole in its first
``chunk_bytes``, so that it depends on its start alone. The header is read again whenever a file is opened.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from itertools import accumulate
from typing import NamedTuple

from ingestd.core.chunk import last_bytes
from ingestd.sources.files.columns import Columns, Unusable
from ingestd.sources.files.splitter import KEPT_OF_TOO_LONG, ByteStream, Damaged, Region, UnfinishedValue

_OPEN_QUOTE = "a quote opens in it that has no end"
_RETURN = "a carriage return stands in a cell without quotes"

csv.field_size_limit(2**31 - 1)  # rows are bounded here, by their bytes


class _Row(NamedTuple):
    """Of ``lines[first:end]``. ``why``: it cannot be cut into cells. ``is_open``: it ends with the lines, in
    the middle of a quoted cell."""

    cells: list[str]
    first: int
    end: int
    why: str = ""
    is_open: bool = False


def _rows(lines: Sequence[bytes], delimiter: str) -> Iterator[_Row]:
    starved = False

    def texts() -> Iterator[str]:
        nonlocal starved
        for line in lines:
            yield line.decode("utf-8", "surrogateescape")
        starved = True

    reader, first = csv.reader(texts(), delimiter=delimiter, strict=True), 0
    while True:
        cells, why = list[str](), ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if starved:
                yield _Row([], first, len(lines), _OPEN_QUOTE, is_open=True)
                return
            why = _RETURN if "new-line" in str(error) else f"it is not a row of CSV: {error}"
        end = reader.line_num
        if cells or why:  # else it is empty
            yield _Row(cells, first, end, why)
        first = end


class CsvRows:
    """``begin`` before anything else. ``keeps``: the stream can be read again. Then regions are filled, and a
    last row that lacks cells and its line end is left, as it may still be written to."""

    def __init__(
        self,
        stream: ByteStream,
        *,
        start: int,
        make_columns: Callable[[list[str]], Columns],
        delimiter: str,
        chunk_bytes: int,
        max_event_bytes: int,
        keeps: bool,
    ) -> None:
        self.half: UnfinishedValue | None = None
        self._stream = stream
        self._at = start
        self._line = 1
        self._make_columns = make_columns
        self._columns: Columns | None = None
        self._delimiter = delimiter
        self._chunk_bytes = chunk_bytes
        self._max_event_bytes = max_event_bytes
        self._keeps = keeps
        self._data = self._tail = b""
        self._ended = False

    @property
    def reached(self) -> tuple[int, int]:
        return self._at, self._line

    # --- the header ---

    def begin(self) -> None:
        """Read the header. Raises Unusable."""
        target = self._chunk_bytes
        while not self._columns:
            data, ended = self._look(target, again=target > self._chunk_bytes)
            lines = BytesIO(data).readlines()
            row = next(_rows(lines, self._delimiter), None)
            if row and not row.is_open and (ended or row.end < len(lines) or data.endswith(b"\n")):
                if row.why:
                    raise Unusable(f"its header (line {row.first + 1}): {row.why}")
                self._columns = self._make_columns(row.cells)
                self._pass(sum(map(len, lines[: row.end])), row.end)
            elif ended:
                if row:
                    raise Unusable(f"its header: {_OPEN_QUOTE}")
                return
            elif len(data) > self._max_event_bytes:
                raise Unusable(f"no header ends within {self._max_event_bytes} bytes")
            target *= 2

    def go_on(self, stream: ByteStream | None, start: int, line: int) -> int:
        """From ``start`` on, behind the header: in ``stream``, which is there already, or else in the one
        that the header came from. Gives the bytes of that which have to be passed over."""
        gone = min(start - self._at, len(self._data))
        left = start - self._at - gone
        self._data = b"" if stream else self._data[gone:]
        self._ended = False
        self._tail = b""
        self._stream = stream or self._stream
        self._at = start
        self._line = line
        return left

    # --- rows ---

    def next_region(self) -> Region | None:
        """Memory: one chunk, or one row of up to ``max_event_bytes``. Raises Damaged."""
        target, again = self._chunk_bytes, False
        while self._columns:
            data, ended = self._look(target, again=again)
            region, used, lines = self._region(data, self._columns, ended=ended)
            if used:
                self._pass(used, lines)
                region.end, region.next_line, region.tail = self._at, self._line, self._tail
                if region.events:
                    return region
                target, again = self._chunk_bytes, False  # there were empty lines alone
            elif ended:
                if data and self._keeps and not self.half and not self._stream.cut_off:
                    raise Damaged(f"the row at byte {self._at} (line {self._line}): {_OPEN_QUOTE}")
                return None
            elif len(data) > self._max_event_bytes:
                return self._too_long()
            else:
                target, again = target * 2, True
        return None

    def _look(self, target: int, *, again: bool) -> tuple[bytes, bool]:
        """Up to ``target`` bytes: whole lines, where there are any; and whether the stream ends with them.
        ``again``: what there is of a pipe is too little."""
        blocks, have = [self._data], len(self._data)
        while have < target and not self._ended:
            if not (self._keeps or again) and b"\n" in blocks[-1]:
                break
            block = self._stream.read(target - have)
            self._ended, again = not block, False
            blocks.append(block)
            have += len(block)
        self._data = b"".join(blocks)
        if self._ended and have <= target:
            return self._data, True
        data = self._data[:target]
        return data[: data.rfind(b"\n") + 1] or data, False

    def _pass(self, size: int, lines: int) -> None:
        self._tail = last_bytes(self._tail, memoryview(self._data)[:size])
        self._data = self._data[size:]
        self._at += size
        self._line += lines

    def _region(self, data: bytes, columns: Columns, *, ended: bool) -> tuple[Region, int, int]:
        """Of the whole rows in ``data``; and the bytes and the lines that they take."""
        lines = BytesIO(data).readlines()
        starts = [0, *accumulate(map(len, lines))]
        whole = len(lines) - (not data.endswith(b"\n"))
        events, places = list[bytes](), list[tuple[int, int]]()
        unreadable, too_long = dict[int, str](), dict[int, int]()
        used = 0
        for row in _rows(lines, self._delimiter):
            if (row.is_open or row.end > whole) and not self._is_usable(row, columns, starts, ended=ended):
                break
            used = row.end
            raw = data[starts[row.first] : starts[row.end]]
            event, why = self._event(row, raw, columns)
            if why:
                unreadable[len(events)] = f"line {self._line + row.first}: {why}"
            if (size := max(len(raw), len(event))) > self._max_event_bytes:
                too_long[len(events)] = size
                event = event[:KEPT_OF_TOO_LONG]
            places.append((self._at + starts[row.first], self._line + row.first))
            events.append(event)
        else:
            used = len(lines)  # with the empty ones at its end
        region = Region(events, self._at, 0, self._line, places.__getitem__, too_long, unreadable=unreadable)
        return region, starts[used], min(used, whole)

    def _is_usable(self, row: _Row, columns: Columns, starts: list[int], *, ended: bool) -> bool:
        """Of a row without its end. The last one of a file may lack its line end (RFC 4180 2.2), if all of
        its cells are there."""
        if not ended or self._stream.cut_off:
            return False
        if not self._keeps:
            return True  # no more will come
        if not row.is_open and len(row.cells) < len(columns.names):
            size = starts[row.end] - starts[row.first]
            self.half = UnfinishedValue(self._at + starts[row.first], self._line + row.first, size)
        return not row.is_open and not self.half

    def _event(self, row: _Row, raw: bytes, columns: Columns) -> tuple[bytes, str]:
        if row.why:
            return raw, row.why
        if len(row.cells) != len(columns.names):
            return raw, f"the row has {len(row.cells)} cells, and the header {len(columns.names)}"
        cells = [cell or None for cell in row.cells]
        try:
            return columns.event(cells)
        except UnicodeEncodeError:
            return raw, f"column {columns.undecoded(cells)}: not UTF-8"

    def _too_long(self) -> Region:
        """The row that begins what is here: its head is kept, and where it ends is found. Quotes are even in
        a whole row, as those within a cell are doubled."""
        start, line, head, size = self._at, self._line, self._data[:KEPT_OF_TOO_LONG], 0
        within = False
        while True:
            at = 0
            while end := self._data.find(b"\n", at) + 1:
                within ^= self._data.count(b'"', at, end) % 2 == 1
                at, self._line = end, self._line + 1
                if not within:
                    break
            if not end:
                within ^= self._data.count(b'"', at) % 2 == 1
            passed = end or len(self._data)
            size += passed
            self._pass(passed, 0)
            if end:
                break
            self._data = self._stream.read(self._chunk_bytes)
            if not self._data:
                self._ended = True
                if within or self._stream.cut_off:
                    raise Damaged(
                        f"the row at byte {start} (line {line}) is longer than {self._max_event_bytes} bytes,"
                        " and a quote in it has no end"
                    )
                break
        place = (start, line)
        return Region([head], start, self._at, line, lambda _: place, {0: size}, self._line, tail=self._tail)
