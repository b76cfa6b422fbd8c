"""Frames of zstd, told by their first bytes (RFC 8878), and the library that unpacks them."""

import sys
from types import ModuleType


class ArchiveTooWide(Exception):
    """An archive asks for more memory than it may have."""


def import_zstd() -> ModuleType:
    """Imported for those who have such a file, as gzip is."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    module: ModuleType = zstd
    return module


ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
"""Behind a byte from 50 to 5F: a frame that readers pass over (RFC 8878 3.1.2). ``pzstd`` begins with one."""


def is_zstd(head: bytes) -> bool:
    return head.startswith(ZSTD) or (head[:1] in b"PQRSTUVWXYZ[\\]^_" and head[1:4] == _SKIPPABLE)


def window_of(frame: bytes) -> int:
    """Bytes that the frame asks for (RFC 8878 3.1.1.1.2); 0 if it is not known."""
    if not frame.startswith(ZSTD) or len(frame) < 6 or frame[4] & 0x20:  # one segment: as long as its content
        return 0
    base = 1 << (10 + (frame[5] >> 3))
    return base + base // 8 * (frame[5] & 7)
