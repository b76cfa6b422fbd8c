"""Events and their digests as they move together: lists, or sequences of the accelerator. Pure.

The accelerator's hold their items in one piece of memory and make an object of one when it is asked for.
What is done to all of a chunk's is done here, once for either kind.
"""

import zlib
from array import array
from collections.abc import MutableSequence, Sequence
from functools import cache
from itertools import chain, compress
from typing import Any, TypeVar

from ingestd.core.accelerator import compiled

T = TypeVar("T")

_KEYS: tuple[type, ...] = (compiled.Keys,) if compiled else ()
COMPILED: tuple[type, ...] = (compiled.Events, compiled.Digests) if compiled else ()
"""The accelerator's types of sequences."""
HAVE_PARTS = compiled is not None and hasattr(compiled.Keys, "part")
"""Those of 4.0 cannot be picked."""


def together(events: Sequence[bytes]) -> Sequence[bytes]:
    """These, as the accelerator holds them if there is one: what is done to all of them costs less then."""
    return compiled.Events.of(events) if compiled and isinstance(events, list) else events


def pick(sequence: Sequence[T], indices: Sequence[int]) -> Sequence[T]:
    """Those at ``indices``, which ascend."""
    if len(indices) == len(sequence):
        return sequence
    if isinstance(sequence, COMPILED):
        return sequence.pick(indices)  # type: ignore[attr-defined,no-any-return]
    return [sequence[index] for index in indices]


def without(sequence: Sequence[T], indices: Sequence[int]) -> Sequence[T]:
    """All but those at ``indices``, which ascend and are few."""
    if isinstance(sequence, COMPILED):
        return sequence.without(indices)  # type: ignore[attr-defined,no-any-return]
    left = list(sequence)
    for index in reversed(indices):  # cheaper than choosing those that stay
        del left[index]
    return left


def positions_without(positions: Sequence[int], indices: Sequence[int]) -> Sequence[int]:
    """As ``without``, of places in a chunk: as they are written to the store, four bytes each."""
    if not isinstance(positions, range) or positions.start or len(positions) > _MOST_COUNTED:
        return without(positions, indices)
    left = _counted()[: len(positions)]
    for index in reversed(indices):
        del left[index]
    return left


_MOST_COUNTED = 16_384


@cache
def _counted() -> "array[int]":
    return array("I", range(_MOST_COUNTED))


def joined(parts: Sequence[Sequence[T]]) -> Sequence[T]:
    """All of ``parts``, one after the other."""
    if len(parts) == 1:
        return parts[0]
    kind: Any = type(parts[0]) if parts else list
    if kind in COMPILED and all(isinstance(part, kind) for part in parts):
        return kind.concat(parts)  # type: ignore[no-any-return]
    return list(chain.from_iterable(parts))


def longest(events: Sequence[bytes]) -> int:
    """Bytes of the longest of them."""
    if isinstance(events, COMPILED):
        return events.longest_bytes  # type: ignore[attr-defined,no-any-return]
    return max(map(len, events), default=0)


def lengths_of(events: Sequence[bytes], indices: Sequence[int]) -> list[int]:
    """Bytes of each of those at ``indices``."""
    if isinstance(events, COMPILED):
        return [*map(events.length, indices)]  # type: ignore[attr-defined]
    return [len(events[index]) for index in indices]


def joined_keys(parts: Sequence[MutableSequence[str | None]]) -> MutableSequence[str | None]:
    """As ``joined``, of what can be changed."""
    if _KEYS and parts and all(isinstance(part, _KEYS) for part in parts):
        return compiled.Keys.concat(parts)  # type: ignore[no-any-return]
    return list(chain.from_iterable(parts))


def pick_keys(keys: MutableSequence[str | None], indices: Sequence[int]) -> MutableSequence[str | None]:
    """Those at ``indices``, which ascend."""
    if isinstance(keys, _KEYS) and HAVE_PARTS:
        return keys.pick(indices)  # type: ignore[attr-defined,no-any-return]
    keys = [*keys]
    return [keys[index] for index in indices]


def spread(checksum: int) -> int:
    """The low bits of a CRC of names that differ in one character are far from spread."""
    return checksum * 0x9E3779B1 >> 12 & 0xFFFFF


def of_part(keys: Sequence[str | None], number: int, count: int) -> list[int]:
    """Indices of those that the checksum of their text makes part ``number`` of ``count``; of those without a
    text none."""
    if isinstance(keys, _KEYS) and HAVE_PARTS:
        return keys.part(number, count)  # type: ignore[attr-defined,no-any-return]
    checksums = [zlib.crc32(key.encode()) if key else -1 for key in keys]
    mine = [one >= 0 and spread(one) % count == number for one in checksums]
    return [*compress(range(len(mine)), mine)]


def missing(keys: Sequence[str | None]) -> list[int]:
    """Indices of those that are None."""
    if isinstance(keys, _KEYS):
        return keys.missing()  # type: ignore[attr-defined,no-any-return]
    return [index for index, key in enumerate(keys) if key is None]
