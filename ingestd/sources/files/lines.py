"""Cutting a byte stream into events: lines; ``arrays.py`` cuts what is not in lines.

Both give regions of up to ``chunk_bytes``, whose borders depend on their start alone with ``fill``.
"""

from array import array
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import accumulate

import msgspec

from ingestd.core.accelerator import compiled
from ingestd.core.chunk import last_bytes
from ingestd.core.sequences import COMPILED, longest
from ingestd.sources.files.closing import Closing, skip_separators, values_in
from ingestd.sources.files.splitter import KEPT_OF_TOO_LONG, ByteStream, Region, UnfinishedValue

_decode = msgspec.json.Decoder(msgspec.Raw).decode

_BEGUN_MARKS = (b"", b"\xef", b"\xef\xbb")  # of a byte order mark whose last byte is not there yet

_LINE_BLOCK_BYTES = 256 * 1024  # a line that is longer than a chunk is read on by these


def split_lines(data: bytes) -> tuple[Sequence[bytes], bytes]:
    """The lines that end in a newline, without it, and what comes behind the last one.

    Twice as fast as ``bytes.split``, which looks at one byte after the other.
    """
    if compiled:
        return compiled.split_lines(data)  # type: ignore[no-any-return]
    lines = BytesIO(data).readlines()
    tail = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
    return [line[:-1] for line in lines], tail


def _has_returns(lines: Sequence[bytes], data: bytes) -> bool:
    """Whether one of the lines of ``data`` may end in a carriage return."""
    if isinstance(lines, COMPILED) and hasattr(lines, "has_returns"):  # that of 4.1 does not have it
        return lines.has_returns()  # type: ignore[no-any-return]
    return b"\r" in data


def _tidied(lines: Sequence[bytes], *, returns: bool) -> Sequence[bytes]:
    """Without the carriage returns at their ends, if there are any, and without those that are empty then."""
    if isinstance(lines, COMPILED):
        return lines.tidied() if returns or lines.has_empty() else lines  # type: ignore[attr-defined]
    if returns:
        lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
    return lines if all(lines) else list(filter(None, lines))


class Lines:
    """NDJSON: LF or CRLF, empty lines skipped, the last line may lack its newline.

    ``leave_half``: a last line without a newline is only taken if it is whole, as it may still be written:
    see ``half``. A line that is longer than a chunk may also be values one behind the other. ``back``: has
    the stream give its last bytes again; to join half a line with the chunk behind it copies all of that.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        start: int,
        line: int,
        chunk_bytes: int,
        max_event_bytes: int,
        fill: bool,
        leave_half: bool = False,
        kept_bytes: int = KEPT_OF_TOO_LONG,
        back: Callable[[int], None] | None = None,
    ) -> None:
        self.half: UnfinishedValue | None = None
        self._stream = stream
        self._read = stream.read
        self._back = back
        self._at = start
        self._line = line
        self._chunk_bytes = chunk_bytes
        self._max_event_bytes = max_event_bytes
        self._kept_bytes = kept_bytes
        self._fill = fill
        self._leave_half = leave_half
        self._rest = self._ahead = self._tail = b""
        self._ended = False

    @property
    def reached(self) -> tuple[int, int]:
        """Where the next region begins, and the number of its first line."""
        return self._at, self._line

    def next_region(self) -> Region | None:
        """None at the end. Memory: one chunk, or one line of up to ``max_event_bytes``."""
        while True:
            data = self._gather()
            if not data:
                return None
            events, last = split_lines(data)
            whole = len(data) - len(last)
            if self._ended:
                usable = self._whole_part(last, self._at + whole, self._line + len(events))
                region = self._region(
                    data, [*events, last[:usable]] if usable else events, whole + usable, open_line=usable > 0
                )
            elif events:
                self._rest = last
                region = self._region(data, events, whole)
            elif self._passes_over(data):
                continue
            else:
                last = b""  # it is all of the data once more
                region = self._neighbours(data) or self._long_line(data)
            if region.events:
                return region

    def _more(self, size: int) -> bytes:
        """Of what was read too far, or else of the stream: what is cut must not depend on how it was read."""
        block, self._ahead = self._ahead[:size], self._ahead[size:]
        return block or self._read(size)

    def _gather(self) -> bytes:
        """A chunk's worth of bytes; less at the end, or when there is no more of a pipe for now."""
        if self._back and self._rest and not (self._ahead or self._ended):
            self._back(len(self._rest))
            self._rest = b""
        rest, self._ahead = self._rest[: self._chunk_bytes], self._rest[self._chunk_bytes :] + self._ahead
        self._rest = b""
        blocks, size = [rest] if rest else [], len(rest)
        while size < self._chunk_bytes and not self._ended:
            block = self._more(self._chunk_bytes - size)
            self._ended = not block
            blocks += [block] if block else []
            size += len(block)
            if not self._fill and b"\n" in block:
                break
        return b"".join(blocks)  # of one it makes no copy

    def _whole_part(self, last: bytes, offset: int, line: int) -> int:
        """How much of a last line without a newline can be taken. Where it may still be written to, that is
        what is closed: values that end in a bracket or a quote."""
        if self._stream.cut_off:
            return 0
        if not self._leave_half or not last:
            return len(last)
        first = skip_separators(last)
        if first == len(last):
            return 0
        usable = len(last) if _is_closed(last[first:]) else 0
        if not usable and (found := values_in(last)):
            end = found[-1][1]
            behind = skip_separators(last, end)
            usable = len(last) if behind == len(last) else end if last[behind] in b"{[" else 0
        if usable < len(last):
            self.half = UnfinishedValue(offset + usable, line, len(last) - usable)
        return usable

    def _region(self, data: bytes, events: Sequence[bytes], size: int, *, open_line: bool = False) -> Region:
        """The lines of the first ``size`` bytes of ``data``; ``open_line``: the last has no newline yet."""
        start, line = self._at, self._line
        self._at += size
        self._line += len(events) - open_line
        self._tail = last_bytes(self._tail, memoryview(data)[:size])
        lines, returns = len(events), _has_returns(events, data)
        events = _tidied(events, returns=returns)
        regular = not returns and len(events) == lines
        too_long: dict[int, int] = {}
        if size > self._max_event_bytes < longest(events):
            events = list(events)
            too_long = {i: len(e) for i, e in enumerate(events) if len(e) > self._max_event_bytes}
            regular = regular and not too_long
            for i in too_long:
                events[i] = events[i][: self._kept_bytes]
        places = _RegularPlaces(events, start, line) if regular else _CountedPlaces(data[:size], start, line)
        return Region(events, start, self._at, line, places, too_long, self._line, tail=self._tail)

    def _passes_over(self, data: bytes) -> bool:
        """Whether it was separators alone, as the NULs that a power cut leaves: no event is long by them."""
        chunk = data[: self._chunk_bytes]
        size = skip_separators(chunk)
        full = len(chunk) == self._chunk_bytes and chunk[size:] in _BEGUN_MARKS
        if not full or not chunk.strip(b" \t\r\n"):  # a line of blanks is a line
            return False
        self._at += size
        self._rest = data[size:]
        self._tail = last_bytes(self._tail, memoryview(data)[:size])
        return True

    def _neighbours(self, data: bytes) -> Region | None:
        """Of a line longer than a chunk that is values one behind the other: the whole ones."""
        found = values_in(data)
        if not found:
            return None
        end = found[-1][1]
        behind = skip_separators(data, end)
        if len(found) == 1 and (behind == len(data) or data[behind] not in b"{["):
            return None
        start, line = self._at, self._line
        self._at += end
        self._rest = data[end:]
        self._tail = last_bytes(self._tail, memoryview(data)[:end])
        events = [data[first:last] for first, last in found]
        places = [(start + first, line) for first, _ in found]
        return Region(events, start, self._at, line, places.__getitem__, {}, line, tail=self._tail)

    def _long_line(self, data: bytes) -> Region:
        """A line that is longer than a chunk, or such a value with another behind it: read on to its end,
        keeping at most the limit."""
        start, line, size, kept = self._at, self._line, 0, list[bytes]()
        first = skip_separators(data)
        closing = Closing() if data[first : first + 1] in (b"{", b"[") else None
        value_end = -1
        while True:
            end = data.find(b"\n") + 1
            if closing and value_end < 0:
                value_end = closing.feed(data, 0 if size else first, end or None)
                if value_end >= 0:
                    data, end = self._look_behind(data, value_end, end)
                    value_end += size
            part = data[:end] if end else data
            size += len(part)
            self._tail = last_bytes(self._tail, part)
            if size <= self._max_event_bytes + 2:  # the last bytes may be a line end
                kept.append(part)
            else:
                kept = [(kept[0] if kept else part)[: self._kept_bytes]]
            if end:
                break
            data = self._more(min(self._chunk_bytes, _LINE_BLOCK_BYTES))
            if not data:
                return self._end_of_long_line(start, line, size, kept, value_end)
        self._rest = data[end:]
        return self._long_event(start, line, size, kept, ends_line=part.endswith(b"\n"))

    def _look_behind(self, data: bytes, value_end: int, end: int) -> tuple[bytes, int]:
        """A value ends at ``value_end``; ``end``: behind the newline, if there is one. If another value comes
        next, that is where the first one's line ends. Gives what was read, and the end, or 0."""
        while not end and skip_separators(data, value_end) == len(data):
            more = self._more(self._chunk_bytes)
            if not more:
                return data, 0
            data += more
            end = data.find(b"\n") + 1
        behind = skip_separators(data, value_end)
        if (not end or behind < end) and data[behind : behind + 1] in (b"{", b"["):
            end = value_end
        return data, end

    def _end_of_long_line(
        self, start: int, line: int, size: int, kept: list[bytes], value_end: int
    ) -> Region:
        self._ended = True
        if self._stream.cut_off:
            return Region([], start, start, line, lambda index: (start, line))
        if self._leave_half and value_end < 0:
            self.half = UnfinishedValue(start, line, size)
            return Region([], start, start, line, lambda index: (start, line))
        return self._long_event(start, line, size, kept, ends_line=False)

    def _long_event(self, start: int, line: int, size: int, kept: list[bytes], *, ends_line: bool) -> Region:
        self._at += size
        self._line += ends_line
        text = b"".join(kept)
        ending = self._tail[-2:]
        length = size - len(ending) + len(ending.removesuffix(b"\n").removesuffix(b"\r"))
        if length > self._max_event_bytes:
            event, too_long = text[: self._kept_bytes], {0: length}
        else:
            event, too_long = text[:length], {}
        return Region(
            [event], start, self._at, line, lambda index: (start, line), too_long, self._line, tail=self._tail
        )


def _is_closed(text: bytes) -> bool:
    """Whether it is JSON that cannot go on: ``12`` may become ``123``."""
    try:
        _decode(text)
    except (ValueError, RecursionError):
        return False
    return not text.rstrip()[-1:].isdigit()


class _RegularPlaces:
    """Every line is an event and ends in one byte: offsets are sums of lengths."""

    def __init__(self, events: Sequence[bytes], start: int, line: int) -> None:
        self._events, self._start, self._line = events, start, line
        self._offsets = array("q")  # nearly always none is asked for, and where one is many are

    def __call__(self, index: int) -> tuple[int, int]:
        (offset,), (line,) = self.of_several((index,))
        return offset, line

    def of_several(self, indices: Sequence[int]) -> tuple[list[int], list[int]]:
        """Their offsets, and their lines: an answer may refuse thousands at once."""
        events, lines = self._events, [*map(self._line.__add__, indices)]
        if isinstance(events, COMPILED):
            return [*map(self._start.__add__, map(events.offset, indices))], lines  # type: ignore[attr-defined]
        if not self._offsets:
            self._offsets = array("q", accumulate(map(len, events), initial=self._start))
        return [self._offsets[index] + index for index in indices], lines


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
