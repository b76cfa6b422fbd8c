"""What processes of one spool tell each other on subjects of which nothing is kept."""

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def decoded(message: Any, kind: type[T]) -> T | None:
    """What a message says. None: it is from a process of another version, or from nobody of ours, and is
    passed over."""
    try:
        return msgspec.json.decode(message.data, type=kind)
    except msgspec.DecodeError:
        return None
