"""Cutting a byte stream into events: lines, or the elements of one JSON array.

Both give *regions*: whole events of up to ``chunk_bytes``, whose borders depend on the region's
start alone (with ``fill``), so that the same stream is always cut the same way.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Protocol


class Bytes(Protocol):
    """What is cut. ``cut_off``: the end that ``read`` showed is not the stream's true end."""

    cut_off: bool

    def read(self, size: int, /) -> bytes: ...


KEPT_OF_TOO_LONG = 16 * 1024
"""Bytes kept of an event that is over the limit: enough to recognise it by."""


class Damaged(Exception):
    """The stream cannot be cut any further; what came before is good."""


@dataclass(slots=True)
class Region:
    """Events of ``[start, end)``. ``line``: number of the first line (or element), from 1.

    ``locate(i)`` gives (offset, line) of event i. ``too_long``: full length of events of which
    only the head was kept, by index.
    """

    events: list[bytes]
    start: int
    end: int
    line: int
    locate: Callable[[int], tuple[int, int]]
    too_long: dict[int, int] = field(default_factory=dict)
    next_line: int = 0


def split_lines(data: bytes) -> tuple[list[bytes], bytes]:
    """The lines that end in a newline, without it, and what comes behind the last one.

    Twice as fast as ``bytes.split``, which looks at one byte after the other.
    """
    lines = BytesIO(data).readlines()
    tail = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
    return [line[:-1] for line in lines], tail


class Lines:
    """NDJSON: LF or CRLF, empty lines skipped, the last line may lack its newline."""

    def __init__(
        self,
        stream: Bytes,
        *,
        start: int,
        line: int,
        chunk_bytes: int,
        max_event_bytes: int,
        fill: bool,
    ) -> None:
        self._stream = stream
        self._read = stream.read
        self._at = start
        self._line = line
        self._chunk_bytes = chunk_bytes
        self._max_event_bytes = max_event_bytes
        self._fill = fill
        self._rest = b""
        self._ended = False

    def next_region(self) -> Region | None:
        """None at the end. Memory: one chunk, or one line of up to ``max_event_bytes``."""
        while True:
            data = self._gather()
            if not data:
                return None
            events, tail = split_lines(data)
            self._rest = b""
            if self._ended and self._stream.cut_off:
                region = self._region(data, events, len(data) - len(tail))  # the tail never came whole
            elif self._ended:
                region = self._region(data, [*events, tail] if tail else events, len(data))
            elif events:
                self._rest = tail
                region = self._region(data, events, len(data) - len(tail))
            else:
                region = self._long_line(data)
            if region.events:
                return region

    def _gather(self) -> bytes:
        """A chunk's worth of bytes; less at the end, or when there is no more of a pipe for now."""
        pieces, size = [self._rest], len(self._rest)
        while size < self._chunk_bytes and not self._ended:
            piece = self._read(self._chunk_bytes - size)
            self._ended = not piece
            pieces.append(piece)
            size += len(piece)
            if not self._fill and b"\n" in piece:
                break
        return b"".join(pieces)

    def _region(self, data: bytes, events: list[bytes], size: int) -> Region:
        """The lines of the first ``size`` bytes of ``data``."""
        start, line = self._at, self._line
        self._at += size
        self._line += len(events)
        regular = data.find(b"\r") < 0
        if not regular:
            events = [event[:-1] if event.endswith(b"\r") else event for event in events]
        if not all(events):
            events, regular = list(filter(None, events)), False
        too_long: dict[int, int] = {}
        if size > self._max_event_bytes:
            too_long = {i: len(e) for i, e in enumerate(events) if len(e) > self._max_event_bytes}
            regular = regular and not too_long
            for i in too_long:
                events[i] = events[i][:KEPT_OF_TOO_LONG]
        places = _RegularPlaces(events, start, line) if regular else _CountedPlaces(data[:size], start, line)
        return Region(events, start, self._at, line, places, too_long, self._line)

    def _long_line(self, data: bytes) -> Region:
        """A line that is longer than a chunk: read on to its end, keeping at most the limit."""
        start, line, size, kept, last = self._at, self._line, len(data), [data], data
        while (piece := self._read(self._chunk_bytes)) and b"\n" not in piece:
            size += len(piece)
            last = piece
            if size <= self._max_event_bytes + 1:  # the last byte may be a carriage return
                kept.append(piece)
            else:
                kept = [kept[0][:KEPT_OF_TOO_LONG]]
        end = piece[: piece.find(b"\n") + 1]
        self._rest = piece[len(end) :]
        if not piece:
            self._ended = True
            if self._stream.cut_off:
                return Region([], start, start, line, lambda index: (start, line))
        size += len(end)
        self._at += size
        self._line += 1
        tail = last[-1:] + end
        length = size - len(tail) + len(tail.removesuffix(b"\n").removesuffix(b"\r"))
        if length > self._max_event_bytes:
            event, too_long = kept[0][:KEPT_OF_TOO_LONG], {0: length}
        else:
            event, too_long = b"".join([*kept, end])[:length], {}
        return Region([event], start, self._at, line, lambda index: (start, line), too_long, self._line)


class _RegularPlaces:
    """Every line is an event and ends in one byte: offsets are sums of lengths."""

    def __init__(self, events: list[bytes], start: int, line: int) -> None:
        self._events, self._start, self._line = events, start, line
        self._last = self._bytes_before = 0

    def __call__(self, index: int) -> tuple[int, int]:
        if index < self._last:
            self._last = self._bytes_before = 0
        self._bytes_before += sum(map(len, self._events[self._last : index]))  # asked in ascending order
        self._last = index
        return self._start + self._bytes_before + index, self._line + index


class _CountedPlaces:
    """With empty lines or CRLF, found by splitting once more."""

    def __init__(self, data: bytes, start: int, line: int) -> None:
        self._data, self._start, self._line = data, start, line
        self._places: list[tuple[int, int]] = []

    def __call__(self, index: int) -> tuple[int, int]:
        if not self._places:
            offset = self._start
            for number, text in enumerate(self._data.split(b"\n")):
                if text.removesuffix(b"\r"):
                    self._places.append((offset, self._line + number))
                offset += len(text) + 1
        return self._places[index]


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+("?)|[\[\]{}]', re.DOTALL)
_BLANK = re.compile(rb"[ \t\r\n]*+")
_SCALAR_END = re.compile(rb"[,\]\s]")


class JsonArray:
    """The elements of a JSON array (or of several, one after the other), told by their brackets.

    The grammar inside an element is the schema's business: a broken one costs itself alone as long
    as its brackets match. An element over the limit ends the reading (``Damaged``): unlike a line,
    it has no safe end to go on from.
    """

    def __init__(
        self,
        stream: Bytes,
        *,
        start: int,
        line: int,
        chunk_bytes: int,
        max_event_bytes: int,
        fill: bool = True,
    ) -> None:
        del fill  # an array is always read a chunk at a time
        self._stream = stream
        self._read = stream.read
        self._at = start
        self._number = line
        self._chunk_bytes = chunk_bytes
        self._max_event_bytes = max_event_bytes
        self._data = b""
        self._ended = False
        self._inside = line > 1  # regions end behind an element: a restart begins in mid-array

    def next_region(self) -> Region | None:
        """None at the end. Raises Damaged when the array has none."""
        target = self._chunk_bytes
        while True:
            self._top_up(target)
            ended = self._ended and len(self._data) <= target
            elements, used = self._elements(self._data[:target])
            if elements:
                return self._region(elements, used)
            if used:
                self._region([], used)
            elif ended:
                if self._inside:
                    raise Damaged(f"the JSON array has no end: cut off at byte {self._at + len(self._data)}")
                return None
            elif target > self._max_event_bytes:
                limit = self._max_event_bytes
                raise Damaged(f"the array element at byte {self._at} is over the limit of {limit} bytes")
            else:
                target *= 2

    def _top_up(self, size: int) -> None:
        pieces, have = [self._data], len(self._data)
        while have < size and not self._ended:
            piece = self._read(size - have)
            self._ended = not piece
            pieces.append(piece)
            have += len(piece)
        self._data = b"".join(pieces)

    def _elements(self, data: bytes) -> tuple[list[tuple[int, int]], int]:
        """(first, end) of the elements within one chunk, and how many bytes of ``data`` are done with:
        up to the last element's end, or what leads up to the first element."""
        found, at, inside = list[tuple[int, int]](), 0, self._inside
        while (at := _BLANK.match(data, at).end()) < len(data):  # type: ignore[union-attr]  # it always matches
            mark = data[at]
            if mark == 0x2C and inside:  # a comma
                at += 1
            elif mark == 0x5D and inside:  # ]
                inside = False
                at += 1
            elif mark == 0x5B and not inside:  # [
                inside = True
                at += 1
            elif inside:
                end = _element_end(data, at)
                if end < 0 or (found and end > self._chunk_bytes):
                    break
                found.append((at, end))
                at = end
            elif found:
                break  # what came before the damage is good
            else:
                raise Damaged(f"expected a JSON array at byte {self._at + at}")
        self._inside = inside or bool(found)
        return found, found[-1][1] if found else at

    def _region(self, elements: list[tuple[int, int]], used: int) -> Region:
        start, number = self._at, self._number
        events = [self._data[first:end] for first, end in elements]
        places = [(start + first, number + i) for i, (first, _) in enumerate(elements)]
        self._data = self._data[used:]
        self._at += used
        self._number += len(elements)
        too_long = {i: len(e) for i, e in enumerate(events) if len(e) > self._max_event_bytes}
        for i in too_long:
            events[i] = events[i][:KEPT_OF_TOO_LONG]
        return Region(events, start, self._at, number, places.__getitem__, too_long, self._number)


def _element_end(data: bytes, at: int) -> int:
    """Where the element that begins at ``at`` ends, or -1 if ``data`` does not hold its end."""
    if data[at] not in b'{["':
        scalar = _SCALAR_END.search(data, at)
        return scalar.start() if scalar else -1
    depth = 0
    for token in _TOKEN.finditer(data, at):
        mark = data[token.start()]
        if mark == 0x22:
            if not token[1]:
                return -1  # the string's end is not here yet
        elif mark in b"{[":
            depth += 1
        else:
            depth -= 1
        if depth == 0:
            return token.end()
    return -1
