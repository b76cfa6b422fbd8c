"""How deep JSON is nested and how much is in it, told from its bytes: nothing is built from it.

Called by ``limits`` for every event, and by the HTTP source. Most of the work is done on the whole text at
once, so that hostile nesting costs neither memory nor the stack.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, count
from operator import sub

MAX_DEPTH = 64
"""Of arrays and objects within each other, where no setting says otherwise."""
DEEPEST = 190
"""The most that a setting may allow: every library behind the schemas bears this."""

_BLOCK_BYTES = 64 * 1024
_BLOCK_EVENTS = 16
_TOKEN = re.compile(rb",++|[\[\]]")
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_NO_STRUCTURE = bytes(set(_NO_BRACKETS) - set(b","))


def opened(text: bytes) -> int:
    """How many brackets it opens, in strings or out of them: it is nested no deeper than that."""
    # Leaving a rare byte out takes a quarter of the time that counting it does.
    return 2 * len(text) - len(text.replace(b"{", b"")) - len(text.replace(b"[", b""))


def deep_ones(events: Sequence[bytes], limit: int) -> Iterator[int]:
    """Indices of those that nest more than ``limit`` arrays and objects; of what is not JSON, any."""
    for first in range(0, len(events), _BLOCK_EVENTS):
        block = events[first : first + _BLOCK_EVENTS]
        if opened(b"".join(block)) > limit:
            for index, event in enumerate(block, first):
                if is_deeper(event, limit):
                    yield index


def is_deeper(event: bytes, limit: int) -> bool:
    """Whether valid JSON nests more than ``limit`` arrays and objects; a scalar has depth 0."""
    if len(event) <= 2 * limit or opened(event) <= limit:
        return False
    runs = _outside_strings(event, _NO_BRACKETS).split(b"]")  # of those that open, before each that closes
    deepest: int = max(map(sub, accumulate(map(len, runs)), count()))
    return deepest > limit


def count_values(event: bytes) -> int:
    """The values in valid JSON, an empty array or object counted twice; of what is not JSON, some number."""
    structure = _outside_strings(event, _NO_STRUCTURE)
    return 1 + len(structure) - structure.count(b"]")


def has_more_elements(array: bytes, limit: int) -> bool:
    """Whether an array in JSON, not an empty one, has more than ``limit`` (at least 1) elements."""
    depth, found = 0, 1
    for token in _TOKEN.finditer(_outside_strings(array, _NO_STRUCTURE).replace(b"[]", b"")):
        mark = token[0]
        if mark == b"[":
            depth += 1
        elif mark == b"]":
            depth -= 1
        elif depth == 1:
            found += len(mark)
            if found > limit:
                return True
    return False


def _outside_strings(text: bytes, dropped: bytes) -> bytes:
    """Without strings and the bytes ``dropped``; braces as brackets. In blocks, to bound the pieces."""
    text = text.replace(b"\\\\", b"").replace(b'\\"', b"")  # now a quote always begins or ends a string
    text = text.translate(_AS_ARRAYS, dropped).replace(b'""', b"")
    kept, inside = list[bytes](), 0
    for start in range(0, len(text), _BLOCK_BYTES):
        pieces = text[start : start + _BLOCK_BYTES].split(b'"')
        kept.append(b"".join(pieces[inside::2]))
        inside ^= (len(pieces) - 1) & 1
    return b"".join(kept)
