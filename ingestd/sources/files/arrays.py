"""Cutting a stream of JSON values that are not lines: elements of arrays, or of lists within envelopes, or
values on several lines each. Same regions as ``lines.Lines``."""

import re

from ingestd.core.chunk import last_bytes
from ingestd.core.regex import regex
from ingestd.sources.files.closing import OPENERS, Closing, value_end
from ingestd.sources.files.splitter import KEPT_OF_TOO_LONG, ByteStream, Damaged, Region, UnfinishedValue

_BLANK = regex(rb"(?:[ \t\r\n\x00\x1e]|\xef\xbb\xbf)*+")
_SCALAR_END = regex(rb"[,\]\s]")
_NO_ELEMENT = b"[,]"
"""What stands for nothing between two commas: not JSON, and no separator that would be passed over."""


class JsonArray:
    """The elements of a JSON array (or of several, one after the other), found by their brackets.

    The grammar inside an element is the schema's business: a broken one costs itself alone as long
    as its brackets match. One over the limit costs itself too, and is read past without being kept.
    ``loose``: no array, but its elements one after the other. ``items``: the arrays are members of this name
    of objects; the rest of these is passed over.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        start: int,
        line: int,
        chunk_bytes: int,
        max_event_bytes: int,
        fill: bool = True,
        leave_half: bool = False,
        loose: bool = False,
        items: str = "",
    ) -> None:
        self.half: UnfinishedValue | None = None
        del fill  # an array is always read a chunk at a time
        self._leave_half = leave_half
        self._stream = stream
        self._read = stream.read
        self._at = start
        self._number = line
        self._chunk_bytes = chunk_bytes
        self._max_event_bytes = max_event_bytes
        self._data = b""
        self._tail = b""
        self._ended = False
        self._loose = loose
        self._inside = line > 1 or loose  # regions end behind an element: a restart begins in mid-array
        self._envelope = Envelope(items, inside=line > 1) if items else None
        self._wants_value = False  # a comma now would have no element before it

    @property
    def reached(self) -> tuple[int, int]:
        """Where the next region begins, and the number of its first element."""
        return self._at, self._number

    def next_region(self) -> Region | None:
        """None at the end. Raises Damaged when the array has none."""
        target = self._chunk_bytes
        while True:
            self._top_up(target)
            ended = self._ended and len(self._data) <= target
            elements, used = self._elements(self._data[:target], ended)
            if elements:
                return self._region(elements, used)
            if used:
                self._region([], used)
            elif ended:
                self._end()
                return None
            elif target > self._max_event_bytes:
                return self._too_long()
            else:
                target *= 2

    def _top_up(self, size: int) -> None:
        blocks, have = [self._data], len(self._data)
        while have < size and not self._ended:
            block = self._read(size - have)
            self._ended = not block
            blocks.append(block)
            have += len(block)
        self._data = b"".join(blocks)

    def _elements(self, data: bytes, ended: bool) -> tuple[list[tuple[int, int]], int]:
        """(first, end) of the elements within one chunk, and how many bytes of ``data`` are done with:
        up to the last element's end, or what leads up to the first element."""
        found, at, inside, wants_value = list[tuple[int, int]](), 0, self._inside, self._wants_value
        while (at := _BLANK.match(data, at).end()) < len(data):  # type: ignore[union-attr]  # it always matches
            mark = data[at]
            if mark == 0x2C and inside:  # a comma
                if wants_value and not self._loose:
                    found.append((at, at))  # nothing: an event that is not JSON, as a POST is refused
                wants_value = True
                at += 1
            elif mark == 0x5D and inside:  # ]
                inside = self._loose
                at += 1
            elif inside:
                end = value_end(data, at)
                if end < 0 or (found and end > self._chunk_bytes):
                    break
                found.append((at, end))
                at, wants_value = end, False
            elif mark == 0x5B and not self._envelope:  # [
                inside = wants_value = True
                at += 1
            elif found:
                break  # what came before the damage is good; an envelope's state is not kept
            elif self._envelope:
                at, inside = self._envelope.enter(data, at, self._at, ended)
                if not inside:
                    break
                wants_value = True
            else:
                raise Damaged(f"expected a JSON array at byte {self._at + at}")
        self._inside = inside or bool(found)
        self._wants_value = wants_value and not found
        return found, found[-1][1] if found else at

    def _region(self, elements: list[tuple[int, int]], used: int) -> Region:
        start, number = self._at, self._number
        events = [self._data[first:end] or _NO_ELEMENT for first, end in elements]
        places = [(start + first, number + i) for i, (first, _) in enumerate(elements)]
        self._tail = last_bytes(self._tail, memoryview(self._data)[:used])
        self._data = self._data[used:]
        self._at += used
        self._number += len(elements)
        too_long = {i: len(e) for i, e in enumerate(events) if len(e) > self._max_event_bytes}
        for i in too_long:
            events[i] = events[i][:KEPT_OF_TOO_LONG]
        return Region(
            events, start, self._at, number, places.__getitem__, too_long, self._number, tail=self._tail
        )

    def _too_long(self) -> Region | None:
        """The element that begins what is here: its head is kept, and where it ends is found."""
        start, number, head, size = self._at, self._number, self._data[:KEPT_OF_TOO_LONG], 0
        self._wants_value = False
        closing = Closing() if self._data[0] in OPENERS else None
        while True:
            end = closing.feed(self._data) if closing else _scalar_end(self._data, 0 if size else 1)
            passed = self._data if end < 0 else self._data[:end]
            size += len(passed)
            self._tail = last_bytes(self._tail, passed)
            self._data = self._data[len(passed) :] if end >= 0 else self._read(self._chunk_bytes)
            if end >= 0:
                break
            if not self._data:
                self._ended = True
                self._end(size)
                return None
        self._at += size
        self._number += 1
        place = (start, number)
        return Region(
            [head], start, self._at, number, lambda _: place, {0: size}, self._number, tail=self._tail
        )

    def _end(self, left: int = 0) -> None:
        """Of the stream, with so many bytes of a value that has none. Raises Damaged."""
        left = left or len(self._data)
        if self._loose and left and self._leave_half and not self._stream.cut_off:
            self.half = UnfinishedValue(self._at, self._number, left)
        elif (self._inside and not self._loose) or (self._envelope and self._envelope.open):
            raise Damaged(f"the JSON array has no end: cut off at byte {self._at + left}")
        elif left:
            raise Damaged(f"the value at byte {self._at} has no end")


def _scalar_end(data: bytes, at: int) -> int:
    found = _SCALAR_END.search(data, at)
    return found.start() if found else -1


class Envelope:
    """The way through objects to the lists of a name that they hold: ``{"Records": [...]}``."""

    def __init__(self, name: str, *, inside: bool) -> None:
        self._name = name
        quoted = re.escape(b'"' + name.encode() + b'"')
        self._list = re.compile(quoted + rb"[ \t\r\n]*+:[ \t\r\n]*+\[")
        self._keep = len(quoted) + 64  # the name may stand across two pieces
        self._closing = Closing(depth=1 if inside else 0)
        self._seen = inside

    @property
    def open(self) -> bool:
        return self._closing.depth > 0

    def enter(self, data: bytes, at: int, offset: int, ended: bool) -> tuple[int, bool]:
        """From ``at`` on: (position behind the next list's opening bracket, True), or (up to where there is
        none, False). ``offset``: of ``data`` in the stream. Raises Damaged for an object without the list."""
        for found in self._list.finditer(data, at):
            at = self._pass(data, at, found.start(), offset)
            if self._closing.depth == 1 and not self._closing.in_string:
                self._seen = True
                return found.end(), True
        stop = len(data) if ended else max(at, len(data) - self._keep)
        return self._pass(data, at, stop, offset), False

    def _pass(self, data: bytes, at: int, stop: int, offset: int) -> int:
        while (end := self._closing.feed(data, at, stop)) >= 0:
            if not self._seen:
                raise Damaged(f'the object that ends at byte {offset + end} has no list "{self._name}"')
            self._seen, at = False, end
        return stop
