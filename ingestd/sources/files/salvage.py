"""A line that is not JSON and has events in it all the same: behind NULs or a byte order mark, one behind the
other, with a comma at its end. Asked for lines that a schema refused, so that whole ones cost nothing.

What it gives depends on the line alone: a restart finds the same events at the same places.
"""

from collections.abc import Callable, Container

from ingestd.core.chunk import Chunk
from ingestd.core.regex import regex
from ingestd.schemas.grammar import find_fault, is_one_value
from ingestd.sources.files.closing import skip_separators
from ingestd.sources.http.sequence import SequenceTooDense, values

_PART = regex(rb"[^\x00\x1e]++")
"""Neither NUL nor RS can stand in JSON: what is to both sides of one are different values."""
_BLANK = b" \t\r\n,"
_BOM = b"\xef\xbb\xbf"
_ENDS = frozenset((*map(bytes, zip(_BLANK)), _BOM[-1:]))
"""Last bytes of a line that may have separators at its end."""


def is_utf16(line: bytes) -> bool:
    """Whether its every second byte is a NUL, more or less: a file of UTF-16 behind one of UTF-8."""
    if len(line) < 4 or b"\0" not in line:
        return False
    return line.count(0) * 5 > len(line) * 2 and b"\0\0" not in line


def events_in(line: bytes) -> list[tuple[int, bytes]]:
    """(offset, event) of the parts of a line that is not JSON: itself where nothing can, and
    nothing where it is blank."""
    if _is_one_object(line) or is_utf16(line):
        return [(0, line)]
    found: list[tuple[int, bytes]] = []
    for start, end in _parts(line):
        first = skip_separators(line, start)
        text = line[first : _end_of(line, first, end)]
        if text:
            found += _cut(first, text)
    return found


def _is_one_object(line: bytes) -> bool:
    """Whether it is nothing else, whole or cut off, as most are: where that is quickly told."""
    if line[:1] != b"{" or line[-1:] in _ENDS or b"\0" in line or b"\x1e" in line:
        return False
    return is_one_value(line)


def _parts(line: bytes) -> list[tuple[int, int]]:
    if b"\0" in line or b"\x1e" in line:
        return [part.span() for part in _PART.finditer(line)]
    return [(0, len(line))]  # as nearly always


def _end_of(line: bytes, first: int, end: int) -> int:
    """Before the separators that end a piece."""
    while end > first:
        if line[end - 1] in _BLANK:
            end -= 1
        elif line.endswith(_BOM, first, end):
            end -= len(_BOM)
        else:
            break
    return end


def _cut(offset: int, text: bytes) -> list[tuple[int, bytes]]:
    """Values one behind the other, where that is certain."""
    if is_one_value(text):
        return [(offset, text)]
    try:
        several = values(text, len(text))
    except SequenceTooDense:
        return [(offset, text)]
    parts = [value[skip_separators(value) :] for value in several.values]
    if len(parts) < 2 or not (several.clean or all(find_fault(part) is None for part in parts[:-1])):
        return [(offset, text)]
    found, at = list[tuple[int, bytes]](), 0
    for part in parts:
        first = text.find(part, at)
        if skip_separators(text, at) < first:
            return [(offset, text)]  # something stands between them
        found.append((offset + first, part))
        at = first + len(part)
    return found if skip_separators(text, at) == len(text) else [(offset, text)]


def recut(chunk: Chunk, events_in: Callable[[int], list[tuple[int, bytes]]], which: Container[int]) -> None:
    """In the place of each event of ``which`` (positions) come those that ``events_in`` finds in it.

    ``events_in`` gives (offset in it, event). Only before anything was said of the chunk's positions."""
    events, origins, too_long = list[bytes](), list[tuple[int, int]](), dict[int, int]()
    for position, event in enumerate(chunk.events):
        if position in chunk.too_long:
            too_long[len(events)] = chunk.too_long[position]
        for offset, found in events_in(position) if position in which else ((0, event),):
            events.append(found)
            origins.append((position, offset))
    before = chunk.place

    def place(index: int) -> tuple[int, int]:
        position, offset = origins[index]
        start, line = before(position)
        return start + offset, line

    chunk.receipt.recount(len(events) - len(chunk.events))
    chunk.events, chunk.too_long, chunk.place = events, too_long, place
