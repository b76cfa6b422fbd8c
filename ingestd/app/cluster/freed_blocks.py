"""What glibc does with memory that is free again."""

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES, _LARGE_BYTES = 4 * 1024 * 1024, 1024 * 1024


def keep_freed_blocks() -> None:
    """The process keeps a few MiB of them. An edge makes blocks as large as a chunk for each of its chunks;
    glibc gave their pages back to the system and asked for them again each time: a tenth of an edge's CPU.
    Elsewhere than with glibc nothing happens."""
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
