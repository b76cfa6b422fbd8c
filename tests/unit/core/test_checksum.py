"""CRC-32 of the same bytes between other ends."""

import zlib
from itertools import product
from random import Random

from ingestd.core.checksum import reframed

ENDS = [(b'{"events":[', b"]}"), (b"[", b"]"), (b"", b""), (b"", b"\n"), (b"long " * 2000, b" behind" * 300)]


def test_it_is_that_of_the_bytes() -> None:
    rng = Random(5)
    for length in (0, 1, 2, 4095, 4096, 4097, 70_000, 499_988):
        inner = rng.randbytes(length)
        for old, new in product(ENDS, ENDS):
            known = zlib.crc32(old[0] + inner + old[1])
            assert reframed(known, length, old, new) == zlib.crc32(new[0] + inner + new[1])
