"""CRC-32 of long bytes between other ends, without a look at them. Pure.

As zlib's crc32_combine: with ``_shifted(c, n)``, the checksum c with n bytes of zeros behind it,
crc(a + b) = _shifted(crc(a), len(b)) ^ crc(b). A checksum is a polynomial, whose first bit is x^0.
"""

import zlib
from functools import lru_cache

Ends = tuple[bytes, bytes]
"""What stands before the bytes, and behind them."""

_POLYNOMIAL, _ONE, _ALL = 0xEDB88320, 1 << 31, 2**32 - 1
_ORDER = 2**32 - 1
"""x to this power is 1."""
_ZEROS = bytes(4096)


def reframed(checksum: int, inner_bytes: int, old: Ends, new: Ends) -> int:
    """The checksum of bytes between ``new``, where it is ``checksum`` between ``old``."""
    rest, ended = checksum ^ zlib.crc32(old[1]), 0
    for image in _without(len(old[1])):
        if rest & 1:
            ended ^= image
        rest >>= 1
    before = zlib.crc32(old[0]) ^ zlib.crc32(new[0])
    return zlib.crc32(new[1], ended ^ _shifted(before, inner_bytes))


def _shifted(checksum: int, count: int) -> int:
    blocks, rest = divmod(count, len(_ZEROS))
    return zlib.crc32(_ZEROS[:rest], _by_blocks(checksum, blocks) ^ _ALL) ^ _ALL


@lru_cache(maxsize=256)  # bodies are nearly as long as each other
def _by_blocks(checksum: int, blocks: int) -> int:
    return _times(checksum, _power_of_x(blocks * len(_ZEROS) * 8))


@lru_cache(maxsize=16)
def _without(count: int) -> tuple[int, ...]:
    """What each bit of a checksum, the lowest first, is where ``count`` bytes of zeros are taken from it."""
    power = _power_of_x(-count * 8)
    return tuple(_times(1 << bit, power) for bit in range(32))


def _power_of_x(exponent: int) -> int:
    power, square, exponent = _ONE, _ONE >> 1, exponent % _ORDER
    while exponent:
        if exponent & 1:
            power = _times(power, square)
        square, exponent = _times(square, square), exponent >> 1
    return power


def _times(one: int, other: int) -> int:
    product, bit = 0, _ONE
    while one:
        if one & bit:
            product ^= other
            one ^= bit
        bit >>= 1
        other = other >> 1 ^ _POLYNOMIAL if other & 1 else other >> 1
    return product
