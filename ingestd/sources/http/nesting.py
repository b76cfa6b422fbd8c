"""How deep JSON is nested and how many elements an array has, without building anything from it.

Called by ``body`` for what looks suspicious. Most of the work is done on the whole text at once, so
that hostile nesting costs neither memory nor the stack.
"""

import re

_BLOCK_BYTES = 64 * 1024
_TOKEN = re.compile(rb",++|[\[\]]")
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_NO_STRUCTURE = bytes(set(_NO_BRACKETS) - set(b","))


def may_be_deeper(event: bytes, limit: int) -> bool:
    """Whether it opens more brackets than ``limit``, in strings or out of them."""
    return event.count(b"{") + event.count(b"[") > limit


def is_deeper(event: bytes, limit: int) -> bool:
    """Whether valid JSON nests more than ``limit`` arrays and objects; a scalar has depth 0."""
    rest = _outside_strings(event, _NO_BRACKETS)
    for _ in range(limit):
        if not rest:
            break
        rest = rest.replace(b"[]", b"")  # one level less, everywhere
    return bool(rest)


def has_more_elements(array: bytes, limit: int) -> bool:
    """Whether an array in JSON, not an empty one, has more than ``limit`` (at least 1) elements."""
    depth, count = 0, 1
    for token in _TOKEN.finditer(_outside_strings(array, _NO_STRUCTURE).replace(b"[]", b"")):
        mark = token[0]
        if mark == b"[":
            depth += 1
        elif mark == b"]":
            depth -= 1
        elif depth == 1:
            count += len(mark)
            if count > limit:
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
