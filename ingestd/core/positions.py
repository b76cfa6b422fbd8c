"""Which events of a chunk, and how that is packed for the store."""

from array import array
from collections.abc import Sequence

Positions = Sequence[int]
"""Which events of a chunk: a ``range`` where they are neighbours, else ascending integers."""


def pack_positions(positions: Positions) -> bytes:
    """Positions as bytes for the store; a range costs nine."""
    if isinstance(positions, range):
        return array("I", (positions.start, positions.stop)).tobytes() + b"r"
    return array("I", positions).tobytes()


def unpack_positions(packed: bytes) -> Positions:
    numbers = array("I")
    if len(packed) % 4:
        numbers.frombytes(packed[:-1])
        return range(numbers[0], numbers[1])
    numbers.frombytes(packed)
    return list(numbers)
