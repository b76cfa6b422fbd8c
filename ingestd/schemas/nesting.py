"""How deep JSON is nested and how much is in it, told from its bytes: nothing is built from it.

Called by ``limits`` for every event, and by the HTTP source. Most of the work is done on the whole text at
once, so that hostile nesting costs neither memory nor the stack.
"""

import re
from collections.abc import Iterator
from itertools import accumulate, count
from operator import sub

MAX_DEPTH = 64
"""Of arrays and objects within each other, where no setting says otherwise."""
DEEPEST = 190
"""The most that a setting may allow: every library behind the schemas bears this."""

_BLOCK_BYTES = 64 * 1024
_LEVELS_AT_ONCE = 8
_WIDE = 4_000
_TOKEN = re.compile(rb",++|[\[\]]")
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_NO_STRUCTURE = bytes(set(_NO_BRACKETS) - set(b","))


def opened(text: bytes) -> int:
    """How many brackets it opens, in strings or out of them: it is nested no deeper than that."""
    # Leaving a rare byte out takes a quarter of the time that counting it does.
    return 2 * len(text) - len(text.replace(b"{", b"")) - len(text.replace(b"[", b""))


def is_deeper(event: bytes, limit: int) -> bool:
    """Whether valid JSON nests more than ``limit`` arrays and objects; a scalar has depth 0."""
    if len(event) <= 2 * limit or opened(event) <= limit:
        return False
    rest = b"".join(_structure(event, _NO_BRACKETS))
    for _ in range(min(limit, _LEVELS_AT_ONCE) if len(rest) > _WIDE else 0):
        if len(rest) <= 2 * limit:
            return False
        rest = rest.replace(b"[]", b"")  # one level less, everywhere: most that is wide is not deep
        limit -= 1
    runs = rest.split(b"]")  # of those that open, before each that closes
    deepest: int = max(map(sub, accumulate(map(len, runs)), count()))
    return deepest > limit


def count_values(event: bytes) -> int:
    """The values in valid JSON, an empty array or object counted twice; of what is not JSON, some number."""
    return 1 + sum(len(piece) - piece.count(b"]") for piece in _structure(event, _NO_STRUCTURE))


def has_more_elements(array: bytes, limit: int) -> bool:
    """Whether an array in JSON, not an empty one, has more than ``limit`` (at least 1) elements."""
    depth, found = 0, 1
    for piece in _structure(array, _NO_STRUCTURE):
        for token in _TOKEN.finditer(piece.replace(b"[]", b"")):
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


def _structure(text: bytes, dropped: bytes) -> Iterator[bytes]:
    """Without strings and the bytes ``dropped``; braces as brackets. In blocks, which bounds what is made of
    it, and how long other threads wait for each."""
    at = inside = 0
    while at < len(text):
        block = text[at : at + _BLOCK_BYTES]
        if (len(block) - len(block.rstrip(b"\\"))) % 2:
            block = text[at : at + _BLOCK_BYTES + 1]  # not through the middle of an escape
        at += len(block)
        block = block.replace(b"\\\\", b"").replace(b'\\"', b"")  # now a quote always begins or ends a string
        pieces = block.translate(_AS_ARRAYS, dropped).replace(b'""', b"").split(b'"')
        yield b"".join(pieces[inside::2])
        inside ^= (len(pieces) - 1) & 1
