"""A line that is not JSON and has events in it all the same: behind NULs or a byte order mark, one behind the
other, with a comma at its end. Asked for lines that a schema refused, so that whole ones cost nothing.

What it gives depends on the line alone: a restart finds the same events at the same places.
"""

from ingestd.core.regex import regex
from ingestd.schemas.grammar import find_fault, is_one_value
from ingestd.sources.files.closing import skip_separators
from ingestd.sources.http.sequence import SequenceTooDense, values

_PART = regex(rb"[^\x00\x1e]++")
"""Neither NUL nor RS can stand in JSON: what is to both sides of one are different values."""
_BLANK = b" \t\r\n,"
_BOM = b"\xef\xbb\xbf"


def is_utf16(line: bytes) -> bool:
    """Whether its every second byte is a NUL, more or less: a file of UTF-16 behind one of UTF-8."""
    return len(line) > 3 and line.count(0) * 5 > len(line) * 2 and b"\0\0" not in line


def events_in(line: bytes) -> list[tuple[int, bytes]]:
    """(offset, event) of the parts of a line that is not JSON: itself where nothing can, and
    nothing where it is blank."""
    if is_utf16(line):
        return [(0, line)]
    found: list[tuple[int, bytes]] = []
    for start, end in _parts(line):
        first = skip_separators(line, start)
        text = line[first : _end_of(line, first, end)]
        if text:
            found += _cut(first, text)
    return found


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
